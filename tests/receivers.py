"""Web servers of a test's own on loopback: honest, hostile and slow ones, down to the byte."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Request:
    """What came in, as it was sent."""

    line: str
    headers: dict[str, str]
    body: bytes


Reaction = Callable[[socket.socket, Request], object]
"""Does something with a connection on which a request has come; the connection is closed afterwards."""


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Reaction:
    """Answer as servers do."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    whole = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    return lambda connection, _: connection.sendall(whole)


def in_turn(*reactions: Reaction) -> Reaction:
    """React in another way each time, and for ever in the last."""
    rest = list(reactions)
    return lambda connection, request: (rest.pop(0) if len(rest) > 1 else rest[0])(connection, request)


class Receiver:
    """Listens on loopback and remembers what it was asked."""

    def __init__(self, react: Reaction | None = None, *, tls: ssl.SSLContext | None = None) -> None:
        self.react = react or answer()
        self.requests: list[Request] = []
        self.closing = threading.Event()
        """Set at the end, for those that answer slowly."""
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listening.getsockname()[1]
        self.authority = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.authority}"
        self._threads = [threading.Thread(target=self._listen, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(timeout=30)
            assert not thread.is_alive()

    def _listen(self) -> None:
        while not self.closing.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        with connection, contextlib.suppress(OSError):  # whoever called may hang up at any time
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                request = read_request(connection)
                if request is not None:
                    self.requests.append(request)
                    self.react(connection, request)


def read_request(connection: socket.socket) -> Request | None:
    """Return the next request; None if the other side hung up."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        if not (piece := connection.recv(65536)):
            return None
        raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    line, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    return Request(line, headers, body)


@contextlib.contextmanager
def dead_port() -> Iterator[int]:
    """A port at which nobody listens, and that nobody else gets meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
