"""What does a bad line do? A TCP proxy on loopback that cuts, stalls, slows and refuses as told."""

import ctypes
import socket
import threading
import time
from typing import Literal, Self

from tests.servers.base import free_port

Direction = Literal["up", "down"]
_CHUNK = 16 * 1024
_LIBC = ctypes.CDLL(None)
_NOWHERE = bytes(16)  # an address of no family


class Cut:
    """A line to a server; what it is told holds for connections that exist and for those to come, until ``heal``.

    Args:
        port: Where it leads to.
        host: The same.

    Attributes:
        port: Where clients connect to; it stays the same.
        connections: How many clients were accepted so far.
        carried: Bytes carried so far, ``up`` from the clients and ``down`` to them.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._to = (host, port)
        self.port = free_port()
        self.connections = 0
        self.carried: dict[Direction, int] = {"up": 0, "down": 0}
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._clear = threading.Event()
        self._listener: socket.socket | None = None
        self._set()
        self.listen()

    def _set(self) -> None:
        self._left: dict[Direction, int | None] = {"up": None, "down": None}
        self._latency_s = 0.0
        self._bytes_per_s = 0.0
        self._clear.set()

    def reset_after(self, count: int, direction: Direction = "up") -> None:
        """Carry so many more bytes in a direction, over all connections, then reset each that wants to send more."""
        with self._lock:
            self._left[direction] = count

    def reset(self) -> None:
        """Reset all connections that exist; new ones are welcome."""
        with self._lock:
            while self._open:
                _reset(self._open.pop())

    def blackhole(self) -> None:
        """Accept everything and carry nothing."""
        self._clear.clear()

    def slow(self, *, latency_s: float = 0.0, bytes_per_s: float = 0.0) -> None:
        """Carry each chunk later by a time, and no more than so many bytes a second in each connection."""
        self._latency_s, self._bytes_per_s = latency_s, bytes_per_s

    def refuse(self) -> None:
        """Refuse new connections and reset the old ones."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
            listener.close()
        self.reset()

    def listen(self) -> None:
        """Accept connections again."""
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
            self._run(self._accept, self._listener)

    def heal(self) -> None:
        """Be a good line again; what a black hole held back goes on its way."""
        with self._lock:
            self._set()
        self.listen()

    def close(self) -> None:
        """End all connections and the proxy."""
        self.refuse()
        self._clear.set()
        while self._threads:
            self._threads.pop().join(timeout=30)
        self.reset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def _run(self, work: object, *values: object) -> None:
        thread = threading.Thread(target=work, args=values, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # it was closed
                return
            with self._lock:
                if self._listener is not listener:
                    _reset(client)
                    return
                self.connections += 1
                self._open.add(client)
            self._run(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        self._clear.wait()
        try:
            server = socket.create_connection(self._to, timeout=10)
            server.settimeout(None)
        except OSError:
            self._drop(client)
            return
        with self._lock:
            known = client in self._open  # it may have been reset meanwhile
            if known:
                self._open.add(server)
        if not known:
            _reset(server)
            return
        back = threading.Thread(target=self._carry, args=(server, client, "down"), daemon=True)
        back.start()
        self._carry(client, server, "up")
        back.join()
        self._drop(client, server)

    def _carry(self, source: socket.socket, target: socket.socket, direction: Direction) -> None:
        try:
            while data := source.recv(_CHUNK):
                self._clear.wait()
                if wait := self._latency_s + (len(data) / self._bytes_per_s if self._bytes_per_s else 0):
                    time.sleep(wait)
                allowed = self._allow(len(data), direction)
                target.sendall(data[:allowed])
                if allowed < len(data):
                    self._drop(source, target)
                    return
            target.shutdown(socket.SHUT_WR)
        except OSError:  # either end is gone: so is the other
            self._drop(source, target)

    def _allow(self, count: int, direction: Direction) -> int:
        with self._lock:
            left = self._left[direction]
            allowed = count if left is None else min(left, count)
            if left is not None:
                self._left[direction] = left - allowed
            self.carried[direction] += allowed
        return allowed

    def _drop(self, *ends: socket.socket) -> None:
        with self._lock:
            self._open.difference_update(ends)
            for end in ends:
                _reset(end)


def _reset(connection: socket.socket) -> None:
    """Send RST, even while another thread is in ``recv`` or ``send``, which a mere ``close`` would wait for."""
    if connection.fileno() != -1:
        _LIBC.connect(connection.fileno(), _NOWHERE, len(_NOWHERE))
        connection.close()
