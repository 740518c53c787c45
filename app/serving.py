"""How the gateway is served: by uvicorn as this application wants it, in one process or in several."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import uvicorn

from app.streaming import StreamingProtocol

log = logging.getLogger(__name__)

GRACEFUL_S = 5  # for open connections, when the gateway is asked to stop
_STEADY_S = 10.0  # a process that lived so long starts anew without waiting
_PAUSE_S = 1.0
_TRIES = 3  # young deaths in a row after which it is better to say so by ending
_LOOK_S = 0.2


class _Server(uvicorn.Server):
    """Tells the application that it stops before it waits for the requests under way, some of which wait as well."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        state = getattr(self.config.app, "state", None)
        for tell in getattr(state, "at_stop", ()):
            tell()
        await super().shutdown(sockets)


def server(app: Any, *, trusted_proxies: str = "127.0.0.1") -> uvicorn.Server:
    """Return a server for the application; ``run(sockets=[...])`` serves until SIGTERM or SIGINT.

    Args:
        app: The ASGI application; the functions in its ``state.at_stop``, if any, are called when it is to stop.
        trusted_proxies: Addresses and networks, with commas, whose word on a client's address is taken.
    """
    config = uvicorn.Config(
        app,
        http=StreamingProtocol,
        ws="websockets-sansio",
        ws_max_size=4096,  # clients that follow a task have nothing to say
        ws_per_message_deflate=False,  # small messages, and many that follow
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        log_config=None,
        access_log=False,  # the application logs requests itself, without secrets in queries
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=trusted_proxies,
        timeout_graceful_shutdown=GRACEFUL_S,
    )
    return _Server(config)


@dataclass
class _Seat:
    """The place of one process."""

    process: subprocess.Popen[bytes] | None = None
    begun: float = 0.0
    due: float = 0.0
    failures: int = 0

    def ended(self) -> int | None:
        """Return the exit status of a process that ended; None if it runs or there is none."""
        return None if self.process is None else self.process.poll()


class Crew:
    """Several gateway processes that take connections from one listening socket.

    A process that dies is started again, but not one that cannot even start. Whoever kills this process ends them as
    well: they follow it.

    Args:
        arguments: Of the ``volcal`` command for each of them, but for the socket.
        count: How many.
        listening: The socket.
    """

    def __init__(self, arguments: Sequence[str], count: int, listening: socket.socket) -> None:
        self._command = [sys.executable, "-P", "-m", "app.cli", *arguments, "--fd", str(listening.fileno())]
        self._command += ["--parent", str(os.getpid())]
        self._listening = listening
        self._seats = [_Seat() for _ in range(count)]
        self._stopping = threading.Event()

    def run(self) -> int:
        """Keep them running until SIGTERM or SIGINT, then stop them.

        Returns:
            The exit status: 0, or that of a process which ended again and again.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        try:
            while not self._stopping.is_set():
                for seat in self._seats:
                    if (status := seat.ended()) is not None and self._is_hopeless(seat, status):
                        return abs(status) or 1
                    self._fill(seat)
                self._stopping.wait(_LOOK_S)
        finally:
            self._stop()
        return 0

    def _is_hopeless(self, seat: _Seat, status: int) -> bool:
        """Note that a process ended; true if there is no use in starting it again."""
        now = time.monotonic()
        seat.process = None
        seat.failures = 0 if now - seat.begun > _STEADY_S else seat.failures + 1
        seat.due = now + (_PAUSE_S if seat.failures else 0.0)
        again = "" if seat.failures >= _TRIES else " and is started again"
        log.warning("a gateway process ended with status %s%s", status, again)
        return seat.failures >= _TRIES

    def _fill(self, seat: _Seat) -> None:
        if seat.process is None and time.monotonic() >= seat.due:
            # a session of its own, so that Ctrl-C reaches only who stops them in order
            seat.process = subprocess.Popen(
                self._command, pass_fds=(self._listening.fileno(),), stdin=subprocess.DEVNULL, start_new_session=True
            )
            seat.begun = time.monotonic()

    def _stop(self) -> None:
        self._listening.close()
        processes = [seat.process for seat in self._seats if seat.process is not None]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + 2 * GRACEFUL_S
        for process in processes:
            try:
                process.wait(timeout=max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
