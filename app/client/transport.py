"""One HTTP exchange with patience: outages pass, refusals become errors that say what to do."""

import random
import time
from collections.abc import Callable
from typing import Any

import httpx

from app.client.errors import Refused, Unreachable

_PASSING = {429, 502, 503, 504}
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 10.0
_FIRST_CONTACT_S = 3.0  # a server that was never there is most likely a wrong address


class Patience:
    """How long to go on after failures: pauses double, and start over once something works.

    Args:
        seconds: How long without any progress is too long.
        sleep: Pauses; a parameter for tests.
    """

    def __init__(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        self._seconds = seconds
        self._sleep = sleep
        self.restart()

    def restart(self) -> None:
        """Note that something worked."""
        self._since: float | None = None
        self._pause = _FIRST_PAUSE_S

    def pause(self) -> bool:
        """Wait a little before another try; false if patience is at its end."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since + self._pause > self._seconds:
            return False
        self._sleep(self._pause * random.uniform(0.7, 1.0))  # noqa: S311  (spreads clients out, keeps no secret)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_S)
        return True


class Transport:
    """HTTP with one server.

    Args:
        server: Its base URL.
        token: Sent as a bearer token, if given.
        patience_s: Seconds that the server may be away.
        transport: Instead of the network, for tests.
    """

    def __init__(
        self,
        server: str,
        *,
        token: str | None = None,
        patience_s: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.server = server.rstrip("/")
        self.patience_s = patience_s
        self._met = False
        headers = {"User-Agent": "volcal"} | ({"Authorization": f"Bearer {token}"} if token else {})
        timeout = httpx.Timeout(30.0, connect=10.0)
        self._api = httpx.Client(base_url=self.server, headers=headers, timeout=timeout, transport=transport)
        # links are signed by themselves and may lead to another host: the token stays here
        self.files = httpx.Client(timeout=timeout, transport=transport, headers={"User-Agent": "volcal"})

    def close(self) -> None:
        """Close all connections."""
        self._api.close()
        self.files.close()

    def call(self, method: str, path: str, *, json: Any = None, once: bool = False) -> Any:
        """Return the JSON answer to a request.

        Args:
            method: GET, POST, …
            path: Below the server's URL.
            json: The body.
            once: Whether a request that may have arrived must not be sent again.

        Raises:
            Refused: If the server says no.
            Unreachable: If it does not answer in time.
        """
        patience = Patience(self.patience_s if self._met else min(self.patience_s, _FIRST_CONTACT_S))
        while True:
            why: object
            try:
                answer = self._api.request(method, path, json=json)
            except httpx.InvalidURL as error:
                raise Unreachable(self.server, error) from None
            except httpx.TransportError as error:
                why = error
                if isinstance(error, httpx.UnsupportedProtocol) or (once and not isinstance(error, httpx.ConnectError)):
                    raise Unreachable(self.server, why) from None
            else:
                self._met = True
                if answer.status_code not in _PASSING:
                    return read(answer)
                why = answer.status_code
            if not patience.pause():
                raise Unreachable(self.server, why) from None


def read(answer: httpx.Response) -> Any:
    """Return the JSON body of a success.

    Raises:
        Refused: If the answer is none.
    """
    if answer.is_success:
        try:
            return answer.json() if answer.content else None
        except ValueError:
            raise Refused(
                answer.status_code,
                code="NOT_VOLCAL",
                message=f"What answers at {answer.url.host}:{answer.url.port} is not a Volcal server.",
                remedy="Check the address.",
            ) from None
    raise refusal(answer)


def refusal(answer: httpx.Response) -> Refused:
    """Return the error that an answer tells of."""
    try:
        told: Any = answer.json()
    except ValueError:
        told = None
    problem: dict[str, Any] = told if isinstance(told, dict) else {}
    return Refused(
        answer.status_code,
        code=str(problem.get("code") or f"HTTP_{answer.status_code}"),
        message=str(problem.get("detail") or f"The server answered {answer.status_code} {answer.reason_phrase}."),
        remedy=str(problem.get("remedy") or ""),
        details=problem,
    )
