"""The client for addresses that users name: what it may call, and how much of an answer it takes."""

import ssl
import threading
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from importlib.metadata import version
from typing import BinaryIO
from urllib.parse import urljoin

import certifi
import httpcore

from app.domain.errors import UrlRefused
from app.outbound.allow import AllowList
from app.outbound.budget import Budget, FetchFailed, Limits
from app.outbound.network import PinnedBackend, Resolver, addresses_of, system_resolver
from app.outbound.urls import LONGEST, Target, read

_CHUNK = 1 << 16
_CHECKS = 8  # look-ups at once on behalf of ``check``: names that never answer must not hold all of the gateway
_PERSONAL = {"authorization", "cookie", "proxy-authorization"}
_KEEPS_METHOD = {307, 308}
_BECOMES_GET = {301, 302, 303}
_GZIP_OR_ZLIB = 47  # zlib's word for: look which of the two it is


class Answer:
    """The head of an answer, and the way to its body.

    Args:
        target: Who answered, after redirects.
        status: HTTP status.
        headers: By name in lower case; of several of one name the last.
    """

    def __init__(self, target: Target, response: httpcore.Response, budget: Budget) -> None:
        self.target = target
        self.status = response.status
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        self._response = response
        self._budget = budget

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def chunks(self) -> Iterator[bytes]:
        """Yield the body piece by piece, decompressed if it came so; once only.

        Raises:
            FetchFailed: If it is larger than allowed, too slow, or breaks off.
        """
        limit, taken = self._budget.limits.max_bytes, 0
        declared = self.headers.get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > limit):
            raise self._budget.too_large()
        for chunk in self._decoded():
            taken += len(chunk)
            if taken > limit:
                raise self._budget.too_large()
            yield chunk

    def _decoded(self) -> Iterator[bytes]:
        coding = self.headers.get("content-encoding", "identity").strip().lower()
        if coding in {"", "identity"}:
            yield from self._raw()
        elif coding in {"gzip", "x-gzip", "deflate"}:
            yield from _inflate(self._raw(), self._budget)
        else:
            raise FetchFailed("protocol", "The answer is compressed in a way that nobody asked for.")

    def _raw(self) -> Iterator[bytes]:
        with _in_our_words():
            yield from self._response.iter_stream()


def _inflate(raw: Iterable[bytes], budget: Budget) -> Iterator[bytes]:
    """Decompress piece by piece, so that a bomb is stopped before it has gone off."""
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        for piece in raw:
            rest = piece
            while rest and not unpacker.eof:
                budget.left_s(0)
                yield unpacker.decompress(rest, _CHUNK)
                rest = unpacker.unconsumed_tail
    except zlib.error:
        raise FetchFailed("protocol", "The answer's compressed body is damaged.") from None
    while not unpacker.eof and (rest := unpacker.decompress(b"", _CHUNK)):
        yield rest
    if not unpacker.eof:
        raise FetchFailed("protocol", "The answer's compressed body broke off.")


@contextmanager
def _in_our_words() -> Iterator[None]:
    try:
        yield
    except (httpcore.NetworkError, httpcore.ProtocolError):
        raise FetchFailed("protocol", "The connection broke off, or what came is not HTTP.") from None


class GuardedClient:
    """Calls what users name, without letting them use our place in the network.

    Only http and https; each name is looked up once a hop, every address that it has is checked, and the connection
    goes to the checked address, with ``Host``, SNI and certificate by the name. Redirects are followed by hand and each
    is checked anew; none leads from https to http, and credentials stay with their origin. No proxy is used, whatever
    the environment says. Nothing is kept between calls; may be shared by threads.

    Args:
        allowed: What may be called beside the open internet.
        limits: What one call may take, unless it says otherwise.
        resolve: Looks up names.
        tls: How certificates are checked; None trusts the system's authorities and those of certifi.
        early: Whether ``check`` looks names up; off for a process that has no names of the outside.
    """

    def __init__(
        self,
        allowed: AllowList | None = None,
        *,
        limits: Limits | None = None,
        resolve: Resolver = system_resolver,
        tls: ssl.SSLContext | None = None,
        early: bool = True,
    ) -> None:
        self._early = early
        self._allowed = allowed or AllowList()
        self._limits = limits or Limits()
        self._resolve = resolve
        self._given_tls = tls
        self._checks = threading.BoundedSemaphore(_CHECKS)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        if self._given_tls is not None:
            return self._given_tls
        tls = ssl.create_default_context()
        tls.load_verify_locations(certifi.where())
        return tls

    def check(self, url: str) -> str:
        """Refuse at once what is plainly not allowed; return the URL in its one form, without its fragment.

        A name that cannot be looked up just now passes: the call itself is checked anyway.

        Raises:
            UrlRefused: If the URL is not one that may be called.
        """
        target = read(url)
        if len(str(target)) > LONGEST:  # in its one form it may be longer
            raise UrlRefused("form")
        looks = target.address is None and self._early and self._checks.acquire(blocking=False)
        try:
            with suppress(FetchFailed):
                resolve = self._resolve if looks else _not_now
                addresses_of(target, self._allowed, resolve, Budget(Limits(connect_s=2.0)))
        finally:
            if looks:
                self._checks.release()
        return str(target)

    @contextmanager
    def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        limits: Limits | None = None,
    ) -> Generator[Answer]:
        """Send a request, and follow where it is sent on to; use in a ``with`` block.

        GET and HEAD follow every redirect. Others follow 307 and 308 only, which keep method and body; other
        redirects are returned as they are.

        Raises:
            UrlRefused: If the URL, or one that it redirects to, may not be called.
            FetchFailed: If there is no answer within the limits. A status of 4xx or 5xx is an answer.
        """
        budget = Budget(limits or self._limits)
        target, given = read(url), dict(headers or {})
        for _ in range(budget.limits.redirects + 1):
            with self._send(method, target, given, body, budget) as answer:
                onward = _onward(answer, method)
                if onward is None:
                    yield answer
                    return
            if onward.scheme == "http" and target.scheme == "https":
                raise UrlRefused("downgrade")
            if onward.origin != target.origin:
                given = {name: value for name, value in given.items() if name.lower() not in _PERSONAL}
            target = onward
        raise FetchFailed("redirects", f"The answer was a redirect more than {budget.limits.redirects} times.")

    @contextmanager
    def _send(
        self, method: str, target: Target, headers: Mapping[str, str], body: bytes, budget: Budget
    ) -> Generator[Answer]:
        backend = PinnedBackend(addresses_of(target, self._allowed, self._resolve, budget), budget)
        fixed = {
            "Host": target.authority,
            "User-Agent": f"volcal/{version('volcal-server')}",
            "Accept-Encoding": "identity",
            "Connection": "close",
        }
        if body or method not in {"GET", "HEAD"}:
            fixed["Content-Length"] = str(len(body))
        taken = {name.lower() for name in fixed}
        sent = [*fixed.items(), *((name, value) for name, value in headers.items() if name.lower() not in taken)]
        url = httpcore.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path)
        request = httpcore.Request(method, url, headers=sent, content=body)
        with httpcore.HTTPConnection(url.origin, ssl_context=self._tls, network_backend=backend) as connection:
            with _in_our_words():
                response = connection.handle_request(request)
            yield Answer(target, response, budget)

    def post(
        self, url: str, body: bytes, *, headers: Mapping[str, str] | None = None, limits: Limits | None = None
    ) -> int:
        """Send a body; return the answer's status, without reading more of it.

        Raises:
            UrlRefused: If the URL, or one that it redirects to, may not be called.
            FetchFailed: If there is no answer within the limits.
        """
        with self.open("POST", url, headers=headers, body=body, limits=limits) as answer:
            return answer.status

    def fetch(
        self,
        url: str,
        into: BinaryIO,
        *,
        headers: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> Answer:
        """Write what a URL has into a stream; return the answer's head.

        Raises:
            UrlRefused: If the URL, or one that it redirects to, may not be called.
            FetchFailed: If it has nothing, or not within the limits; something may have been written already.
        """
        with self.open("GET", url, headers=headers, limits=limits) as answer:
            if not answer.is_success:
                raise FetchFailed("status", f"The host answered {answer.status}.")
            for chunk in answer.chunks():
                into.write(chunk)
            return answer


def _not_now(_host: str, _port: int) -> Iterable[str]:
    raise FetchFailed("lookup", "The host's name is not looked up now.")


def _onward(answer: Answer, method: str) -> Target | None:
    """Return where an answer sends us; None if it does not, or not in a way that we follow."""
    follows = _KEEPS_METHOD | _BECOMES_GET if method in {"GET", "HEAD"} else _KEEPS_METHOD
    location = answer.headers.get("location")
    if answer.status not in follows or location is None:
        return None
    try:
        return read(urljoin(str(answer.target), location.encode("latin-1").decode()))
    except ValueError:
        raise UrlRefused("form") from None
