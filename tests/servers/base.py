"""How is a real server started for a test, killed, started again at the same place, and surely ended?"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

PATIENCE_S = 60.0
# Below the ports that the kernel hands out to clients: a port stays free while its server is away.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """Return a loopback port that nobody uses, and that no client is given by chance."""
    for _ in range(1_000):
        port = random.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no loopback port is free")


def program(name: str, *places: str) -> str:
    """Return the path of a program, looked for on PATH and in further folders.

    Raises:
        pytest.skip.Exception: If it is not installed; in CI, where everything that can be installed is, a failure.
    """
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/bin", *places])
    found = shutil.which(name, path=path)
    return found if found is not None else absent(name)


def absent(what: str) -> str:
    """Skip the test because something is not installed; in CI let it fail."""
    message = f"{what} is not installed on this machine"
    if os.environ.get("CI"):
        pytest.fail(f"{message}; .ci/run should have installed it")
    pytest.skip(message)


def wait_for(found: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Return the first true answer.

    Raises:
        AssertionError: If there is none in time.
    """
    deadline = time.monotonic() + patience_s
    while not (answer := found()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return answer


def lives(process: psutil.Process) -> bool:
    """Say whether a process still runs; one that waits to be buried does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Server:
    """A server as a child process; a context manager that starts it and leaves nothing behind.

    It keeps its ports and its data when it is killed or stopped and started again. It dies with the thread that started
    it, so that nothing is left behind by a test run that is killed.

    Args:
        folder: Where its data and its log go; None means a temporary folder that is deleted at the end.
    """

    name = "server"
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path | None = None) -> None:
        self._own_folder = folder is None
        self.folder = folder if folder is not None else Path(tempfile.mkdtemp(prefix=f"volcal-{self.name}-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return the command line that runs the server in the foreground."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return what is added to the environment."""
        return {}

    def answers(self) -> bool:
        """Say whether the server serves, asked by its own protocol; an OSError means no."""
        raise NotImplementedError

    @property
    def log(self) -> Path:
        """The file with everything that the server printed."""
        return self.folder / "server.log"

    def start(self) -> Self:
        """Start the server and wait until it serves."""
        self.launch()
        self.wait_ready()
        return self

    def launch(self) -> None:
        """Start the server; several may be started at a time, and then waited for."""
        assert self.process is None, f"{self.name} runs already"
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                [*leashed(), *self.command()],
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,  # a group of its own, which can be killed as a whole
            )

    def wait_ready(self) -> None:
        """Wait until the server serves."""
        assert self.process is not None
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.name} does not serve:\n{self.log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return self.answers()
        except OSError:
            return False

    def kill(self) -> None:
        """Kill -9 the server and all its children at once, and wait until they are gone."""
        if self.process is None:
            return
        family = self._family()
        self._signal(signal.SIGKILL)
        for child in family:  # some children leave the group
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self.process.wait(timeout=PATIENCE_S)
        self.process = None
        deadline = time.monotonic() + PATIENCE_S
        while any(lives(child) for child in family):
            assert time.monotonic() < deadline, f"{self.name}: {family} survived a kill -9"
            time.sleep(0.01)

    def _family(self) -> list[psutil.Process]:
        assert self.process is not None
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def stop(self) -> None:
        """Ask the server to end, and wait for it."""
        if self.process is None:
            return
        self.process.send_signal(self.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=PATIENCE_S / 4)
        self.kill()

    def freeze(self) -> None:
        """Let the server stand still: it neither answers nor refuses."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the server go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def close(self) -> None:
        """End the server and delete its folder if it is its own."""
        self.kill()
        if self._own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_exception: object) -> None:
        self.close()


def leashed() -> list[str]:
    """Return what lets the kernel end a command together with its parent."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv is not None else []
