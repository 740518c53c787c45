"""A way out for libraries that cannot use the client: an HTTP proxy on loopback that connects only where one may."""

import base64
import hmac
import secrets
import selectors
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus

from app.domain.errors import UrlRefused
from app.outbound.allow import AllowList
from app.outbound.budget import Budget, FetchFailed, Limits
from app.outbound.network import Resolver, addresses_of, system_resolver
from app.outbound.urls import Target, read

_LONGEST = 1 << 16  # of a request's head
_PIECE = 1 << 16
_IDLE_S = 60.0
_OWN = {"proxy-authorization", "proxy-connection", "connection", "keep-alive"}


@contextmanager
def open_gate(allowed: AllowList, resolve: Resolver = system_resolver) -> Iterator[str]:
    """Open a gate, and say by which URL a program uses it as its proxy for http and https; closed at the end.

    Each connection is checked as those of ``GuardedClient`` are: the name is looked up once, every address that it has
    must be allowed, and the connection goes to the checked address. Redirects are connections like others. Nobody
    without the password in the URL gets through.

    Args:
        allowed: What may be reached beside the open internet.
        resolve: Looks up names.
    """
    password = secrets.token_urlsafe(24)
    with _Gate(allowed, resolve, password) as gate:
        thread = threading.Thread(target=gate.serve_forever, args=(0.05,), name="gate", daemon=True)
        thread.start()
        try:
            yield f"http://volcal:{password}@127.0.0.1:{gate.server_address[1]}"
        finally:
            gate.shutdown()
            thread.join()


class _Gate(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, allowed: AllowList, resolve: Resolver, password: str) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.allowed = allowed
        self.resolve = resolve
        self.pass_ = b"Basic " + base64.b64encode(f"volcal:{password}".encode())

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of visitors that went away."""


class _Refused(Exception):
    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Visit(socketserver.BaseRequestHandler):
    """One connection of a program, and the one that is made for it."""

    server: _Gate
    request: socket.socket

    def handle(self) -> None:
        """Check where the program wants to go, and lead it there."""
        self.request.settimeout(_IDLE_S)
        try:
            lines, rest = self._head()
            method, target, version = _first(lines[0])
            headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:])]
            self._check_pass(headers)
            upstream = self._connect(target)
        except _Refused as refused:
            self._refuse(refused.status, str(refused))
            return
        with upstream:
            if method == b"CONNECT":
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                kept = [f for f in headers if f[0].lower().decode("latin-1") not in _OWN] + [(b"Connection", b"close")]
                head = [b" ".join((method, target.path.encode(), version)), *(b": ".join(field) for field in kept)]
                upstream.sendall(b"\r\n".join(head) + b"\r\n\r\n")
            upstream.sendall(rest)
            _join(self.request, upstream)

    def _head(self) -> tuple[list[bytes], bytes]:
        read_so_far = b""
        while b"\r\n\r\n" not in read_so_far:
            piece = self.request.recv(_PIECE)
            if not piece or len(read_so_far) > _LONGEST:
                raise _Refused(HTTPStatus.BAD_REQUEST, "This is no request.")
            read_so_far += piece
        head, _, rest = read_so_far.partition(b"\r\n\r\n")
        return head.split(b"\r\n"), rest

    def _check_pass(self, headers: list[tuple[bytes, bytes]]) -> None:
        given = next((value for name, value in headers if name.lower() == b"proxy-authorization"), b"")
        if not hmac.compare_digest(given, self.server.pass_):
            raise _Refused(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, "This way is for one run alone.")

    def _connect(self, target: Target) -> socket.socket:
        budget = Budget(Limits(total_s=_IDLE_S))
        try:
            addresses = addresses_of(target, self.server.allowed, self.server.resolve, budget)
        except UrlRefused as error:
            raise _Refused(HTTPStatus.FORBIDDEN, str(error)) from None
        except FetchFailed as error:
            raise _Refused(HTTPStatus.BAD_GATEWAY, str(error)) from None
        for address in addresses:
            with suppress(OSError, FetchFailed):
                return socket.create_connection((str(address), target.port), budget.left_s(budget.limits.connect_s))
        raise _Refused(HTTPStatus.BAD_GATEWAY, "The host does not take connections at this port.")

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        more = "Proxy-Authenticate: Basic\r\n" if status is HTTPStatus.PROXY_AUTHENTICATION_REQUIRED else ""
        body = why.encode()
        head = (
            f"HTTP/1.1 {int(status)} {status.phrase}\r\n{more}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.request.sendall(head.encode() + body)


def _first(line: bytes) -> tuple[bytes, Target, bytes]:
    """Return the method of a request, where it is to go, and the version of HTTP."""
    try:
        method, text, version = line.split(b" ")
        target = read(f"https://{text.decode()}" if method == b"CONNECT" else text.decode())
    except UrlRefused as error:
        raise _Refused(HTTPStatus.FORBIDDEN, str(error)) from None
    except ValueError:
        raise _Refused(HTTPStatus.BAD_REQUEST, "This is no request.") from None
    if method != b"CONNECT" and target.scheme != "http":
        raise _Refused(HTTPStatus.BAD_REQUEST, "What is encrypted goes through CONNECT.")
    return method, target, version


def _join(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either side has ended, or neither says anything for too long."""
    with selectors.DefaultSelector() as ready:
        ready.register(one, selectors.EVENT_READ, other)
        ready.register(other, selectors.EVENT_READ, one)
        other.settimeout(_IDLE_S)
        while events := ready.select(_IDLE_S):
            for key, _ in events:
                assert isinstance(key.fileobj, socket.socket)  # noqa: S101  (narrowing: both are sockets)
                try:
                    piece = key.fileobj.recv(_PIECE)
                    key.data.sendall(piece)
                except OSError:
                    return
                if not piece:
                    return
