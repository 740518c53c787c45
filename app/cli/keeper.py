"""Gateway, worker and beat as child processes of one command: started, watched, restarted, stopped."""

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from app.cli.parts import bind, migrate_or_exit, stop_with
from app.queue.celery import CeleryQueue
from app.settings import Settings
from app.wiring import broker_url, database_url

LOG_LIMIT = 10 * 2**20
STOP_S = 15.0
READY_S = 90.0
WORKER_S = 20.0
STEADY_S = 60.0  # a part that lived so long starts anew without waiting
SLOWEST_S = 30.0
LEFTOVERS_S = 20.0


@dataclass
class Part:
    """One child process that is kept alive.

    Args:
        name: What people call it; also its log's name.
        arguments: Of the ``volcal`` command.
        inherits: Descriptors that it takes over.
    """

    name: str
    arguments: tuple[str, ...]
    inherits: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    begun: float = 0.0
    failures: int = 0
    due: float = field(default=0.0)

    def start(self, log: Path, environment: Mapping[str, str]) -> None:
        """Start it, in a session of its own, so that Ctrl-C reaches only whoever keeps it."""
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "app.cli", *self.arguments, "--parent", str(os.getpid())],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                pass_fds=self.inherits,
                start_new_session=True,
            )
        self.begun = time.monotonic()

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal, if there is anybody to take it."""
        if self.is_running and self.process is not None:
            self.process.send_signal(number)


class Stack:
    """The embedded service, for as long as a ``with`` block lasts.

    Entering migrates the database, starts the parts and returns once gateway and worker answer; leaving stops them.
    Call ``watch`` to keep the parts alive meanwhile. If this process is killed, the parts end by themselves.

    Args:
        settings: What the deployment chose.
        host: Address to listen on.
        port: Port to listen on; 0 finds a free one.
        public_url: Base URL that clients use; None makes it from host and port.
        concurrency: Runs at a time.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        public_url: str | None = None,
        concurrency: int = 1,
    ) -> None:
        self._settings = settings
        self.data = settings.data_dir.resolve()
        self.logs = self.data / "logs"
        self._where = (host, port)
        self._public_url = public_url
        self._concurrency = concurrency
        self._queue = CeleryQueue(broker_url(settings))
        self._locks: list[int] = []
        self._socket: socket.socket | None = None
        self.parts: list[Part] = []
        self.url = ""
        self.local_url = ""

    def __enter__(self) -> Self:
        try:
            self._prepare()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def watch(self, stopping: Callable[[], bool], tell: Callable[[str], object] = str) -> None:
        """Keep the parts alive until ``stopping`` says so; a part that dies again and again waits ever longer.

        Args:
            stopping: Asked a few times a second.
            tell: Given a line for people whenever a part had to be started again.
        """
        while not stopping():
            for part in self.parts:
                rotate(self.logs / f"{part.name}.log")
                if not part.is_running:
                    self._restart(part, tell)
            time.sleep(0.2)

    def close(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop every part: politely, then for certain.

        Args:
            hurry: Asked meanwhile whether to give up being polite.
        """
        for part in self.parts:
            part.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while any(part.is_running for part in self.parts) and time.monotonic() < deadline and not hurry():
            time.sleep(0.05)
        for part in self.parts:
            part.signal(signal.SIGKILL)
            if part.process is not None:
                part.process.wait()
        self.parts.clear()
        if self._socket is not None:
            self._socket.close()
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()

    def problems(self) -> list[str]:
        """Return what the gateway says about its own readiness."""
        try:
            found = httpx.get(f"{self.local_url}/readyz", timeout=10.0, trust_env=False).json()["problems"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            return [f"the gateway does not answer ({type(error).__name__})"]
        return [*found, *([] if self._worker_answers() else ["no worker answers"])]

    def _prepare(self) -> None:
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            stop_with("STORAGE", f"Cannot use the folder {self.data}: {error.strerror}.", "Choose another by --data.")
        self._lock("up.lock", patience_s=0.0, why="another `volcal up` uses it")
        # The parts hold this one too, so whatever a killed predecessor left running is waited for.
        self._lock("parts.lock", patience_s=LEFTOVERS_S, why="parts of a service that was killed still run there")
        self._socket = bind(*self._where)
        address, port = self._socket.getsockname()[:2]
        own = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(address, f"[{address}]" if ":" in address else address)  # noqa: S104
        self.local_url = f"http://{own}:{port}"
        seen = lan_address() if address in {"0.0.0.0", "::"} else own  # noqa: S104
        self.url = (self._public_url or f"http://{seen}:{port}").rstrip("/")
        migrate_or_exit(database_url(self._settings))

    def _start(self) -> None:
        assert self._socket is not None  # noqa: S101  (narrowing: _prepare comes first)
        listening, lock = self._socket.fileno(), self._locks[-1]
        self.parts = [
            Part("gateway", ("serve", "--fd", str(listening)), (listening, lock)),
            Part("worker", ("work", "--concurrency", str(self._concurrency)), (lock,)),
            Part("beat", ("beat",), (lock,)),
        ]
        self._environment = self._make_environment()
        for part in self.parts:
            part.start(self.logs / f"{part.name}.log", self._environment)
        self._await("gateway", self._gateway_answers, READY_S)
        # With a broker that is away no worker can answer; the service runs nevertheless, and tasks wait.
        self._await("worker", self._worker_answers, WORKER_S)

    def _make_environment(self) -> dict[str, str]:
        fresh = {"VOLCAL_DATA_DIR": str(self.data), "VOLCAL_PUBLIC_URL": self.url, "PYTHONUNBUFFERED": "1"}
        if self._settings.hook_secret is None:
            fresh["VOLCAL_HOOK_SECRET"] = kept_secret(self.data / "hook.secret")
        return {**os.environ, **fresh}

    def _await(self, name: str, answers: Callable[[], bool], patience_s: float) -> None:
        """Wait until a part answers; ends the command if one of the parts cannot even start."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            dead = next((part for part in self.parts if not part.is_running), None)
            if dead is not None:
                self._give_up(dead, "ended as soon as it was started")
            if answers():
                return
            time.sleep(0.1)
        if name == "gateway":
            self._give_up(self.parts[0], f"did not answer within {patience_s:g} s")

    def _gateway_answers(self) -> bool:
        try:
            return httpx.get(f"{self.local_url}/livez", timeout=5.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def _worker_answers(self) -> bool:
        try:
            return bool(self._queue.answering(0.5, at_most=1))
        except Exception:  # noqa: BLE001  (of whichever broker's library; `volcal doctor` says more)
            return False

    def _give_up(self, part: Part, what: str) -> None:
        log = self.logs / f"{part.name}.log"
        lines = log.read_text(errors="replace").strip().splitlines()[-1:]
        said = f" Its last words: {lines[0]}." if lines else ""
        stop_with("PART_FAILED", f"The {part.name} {what}.{said}", f"See {log}.", status=1)

    def _restart(self, part: Part, tell: Callable[[str], object]) -> None:
        now = time.monotonic()
        if part.due == 0.0:
            part.failures = 0 if now - part.begun > STEADY_S else part.failures + 1
            wait = min(SLOWEST_S, 0.5 * 2 ** (part.failures - 1)) if part.failures else 0.0
            part.due = now + wait
            status = part.process.returncode if part.process is not None else None
            log = self.logs / f"{part.name}.log"
            tell(f"The {part.name} ended (status {status}); starting it again in {wait:g} s. See {log}.")
        if now >= part.due:
            part.due = 0.0
            part.start(self.logs / f"{part.name}.log", self._environment)

    def _lock(self, name: str, *, patience_s: float, why: str) -> None:
        lock = os.open(self.data / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._locks.append(lock)
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    remedy = "Stop it, or choose another folder by --data."
                    stop_with("DATA_IN_USE", f"The folder {self.data} is in use: {why}.", remedy)
                time.sleep(0.1)
            else:
                return


def kept_secret(path: Path) -> str:
    """Return the secret in a file that only its owner may read; made at first use."""
    if not path.exists():
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        partial.touch(mode=0o600)
        partial.write_text(secrets.token_urlsafe(32))
        partial.replace(path)
    return path.read_text().strip()


def lan_address() -> str:
    """Return the address that others on the local network reach this machine by; 127.0.0.1 if there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks which way packets would leave
        except OSError:
            return "127.0.0.1"
        address: str = probe.getsockname()[0]
        return address


def rotate(log: Path, limit: int = LOG_LIMIT) -> None:
    """Keep a log from growing for ever: its content moves to ``….log.1``, and whoever appends to it goes on."""
    with suppress(OSError):
        if log.stat().st_size > limit:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)
