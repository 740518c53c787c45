"""One HTTP exchange with patience: outages pass, refusals become errors that say what to do."""

import random
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import httpx

from app.client.errors import Refused, Unreachable

_CONFLICT, _TOO_MANY = 409, 429
_BUSY = "IDEMPOTENCY_KEY_BUSY"  # the request that the line broke off is still at work
_PASSING = {_TOO_MANY, 502, 503, 504}
_REMEDIES = {  # where the server, or a proxy before it, says none
    401: "Give your key by --key or VOLCAL_API_KEY; who runs the server makes them by `volcal keys create`.",
    _TOO_MANY: "Wait a little, then try again.",
}
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

    def pause(self, at_least_s: float = 0.0) -> bool:
        """Wait a little before another try, or as long as the server wants; false if patience is at its end."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since + max(self._pause, at_least_s) > self._seconds:
            return False
        self._sleep(at_least_s if at_least_s > self._pause else self._pause * random.uniform(0.7, 1.0))  # noqa: S311  (spreads clients out, keeps no secret)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_S)
        return True


class _Own(httpx.Auth):
    """Says a key to one server only."""

    def __init__(self, server: str, key: str | None) -> None:
        try:
            self._at = _origin(httpx.URL(server))
        except httpx.InvalidURL:  # told by the first request
            self._at = None
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the key, if the request goes where it belongs."""
        if self._key and _origin(request.url) == self._at:
            request.headers["Authorization"] = f"Bearer {self._key}"
        yield request


def _origin(url: httpx.URL) -> tuple[str, str, int] | None:
    port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
    return url.scheme, url.host, port


class Transport:
    """HTTP with one server.

    Args:
        server: Its base URL.
        key: Sent as a bearer token, if given.
        patience_s: Seconds that the server may be away.
        transport: Instead of the network, for tests.
    """

    def __init__(
        self,
        server: str,
        *,
        key: str | None = None,
        patience_s: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.server = server.rstrip("/")
        self.patience_s = patience_s
        self._met = False
        agent = {"User-Agent": "volcal"}
        headers = agent | ({"Authorization": f"Bearer {key}"} if key else {})
        timeout = httpx.Timeout(30.0, connect=10.0)
        self._api = httpx.Client(base_url=self.server, headers=headers, timeout=timeout, transport=transport)
        # links are signed by themselves and may lead to another host: the key stays here
        self.files = httpx.Client(timeout=timeout, transport=transport, headers=agent)
        # upload URLs may ask for it: said to this server, never to another that it names
        self.uploads = httpx.Client(timeout=timeout, transport=transport, headers=agent, auth=_Own(self.server, key))

    def close(self) -> None:
        """Close all connections."""
        self._api.close()
        self.files.close()
        self.uploads.close()

    def stream(self, path: str, headers: Mapping[str, str]) -> AbstractContextManager[httpx.Response]:
        """Return an answer that is read as it comes; the caller looks at its status."""
        return self._api.stream("GET", path, headers=dict(headers))

    def call(self, method: str, path: str, *, json: Any = None, key: str | None = None) -> Any:
        """Return the JSON answer to a request.

        Args:
            method: GET, POST, …
            path: Below the server's URL.
            json: The body.
            key: Tells the server that a request which it has had already is the same one (``Idempotency-Key``).

        Raises:
            Refused: If the server says no.
            Unreachable: If it does not answer in time.
        """
        patience = Patience(self.patience_s if self._met else min(self.patience_s, _FIRST_CONTACT_S))
        headers = {} if key is None else {"Idempotency-Key": key}
        while True:
            why: object
            wait_s = 0.0
            try:
                answer = self._api.request(method, path, json=json, headers=headers)
            except httpx.InvalidURL as error:
                raise Unreachable(self.server, error) from None
            except httpx.TransportError as error:
                why = error
                if isinstance(error, httpx.UnsupportedProtocol):
                    raise Unreachable(self.server, why) from None
            else:
                self._met = True
                if not is_passing(answer):
                    return read(answer)
                why, wait_s = answer.status_code, _retry_after(answer)
            if not patience.pause(wait_s):
                raise refusal(answer) if why == _TOO_MANY else Unreachable(self.server, why) from None


def is_passing(answer: httpx.Response) -> bool:
    """Return whether the same request may succeed in a while."""
    if answer.status_code == _CONFLICT:
        return refusal(answer).code == _BUSY
    return answer.status_code in _PASSING and not is_quota(answer)


def is_quota(answer: httpx.Response) -> bool:
    """Return whether waiting a little is no use: the owner's quota is used up."""
    return answer.status_code == _TOO_MANY and refusal(answer).code.startswith("QUOTA_")


def _retry_after(answer: httpx.Response) -> float:
    said = answer.headers.get("retry-after", "")
    return float(said) if said.isdecimal() else 0.0


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
    remedy = str(problem.get("remedy") or _REMEDIES.get(answer.status_code, ""))
    return Refused(
        answer.status_code,
        code=str(problem.get("code") or f"HTTP_{answer.status_code}"),
        message=str(problem.get("detail") or f"The server answered {answer.status_code} {answer.reason_phrase}."),
        remedy=remedy,
        details=problem,
    )
