"""A real gateway on loopback that tests may kill, and uploads to send to it."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

HERE = Path(__file__).parent
MAX_BYTES = 40_000_000


@dataclass
class Slot:
    """One upload of one new task."""

    task_id: str
    url: str


class Gateway:
    """A gateway in a process of its own; it keeps its port and its folder when it is started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, HERE / "serve.py", self.folder, str(self.port), str(MAX_BYTES)], stdout=log, stderr=log
        )
        log.close()
        deadline = time.monotonic() + 60
        while True:
            try:
                if httpx.get(f"{self.url}/livez", timeout=5).is_success:
                    return
            except httpx.TransportError:
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "server.log").read_text())
            time.sleep(0.1)

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, number: int) -> None:
        assert self._process is not None
        self.signal(number)
        self._process.wait(timeout=30)
        self._process = None

    def kill(self) -> None:
        """Kill -9."""
        self.end(signal.SIGKILL)

    def close(self) -> None:
        if self._process is not None:
            self.end(signal.SIGTERM)

    def memory_mb(self) -> float:
        """Most memory the server ever held, MiB."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def slot(self) -> Slot:
        """Create a task that wants one file of any kind."""
        task = httpx.post(f"{self.url}/api/v1/tasks", json={"pipeline": "constant"}, timeout=30).json()
        return Slot(task["id"], task["uploads"]["file"]["url"])

    def status(self, slot: Slot) -> str:
        status: str = httpx.get(f"{self.url}/api/v1/tasks/{slot.task_id}", timeout=30).json()["status"]
        return status

    def stored(self, slot: Slot) -> bytes | None:
        """Return what the store has of a slot's file."""
        found = list((self.folder / "objects" / "tasks" / slot.task_id / "in").glob("file-*"))
        return found[0].read_bytes() if found else None

    def rung(self) -> list[str]:
        """Return the tasks for which a worker was called."""
        path = self.folder / "rung.txt"
        return path.read_text().split() if path.exists() else []


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for all tests of a module: none of them may end it."""
    gateway = Gateway(tmp_path_factory.mktemp("gateway"))
    gateway.start()
    yield gateway
    gateway.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway of one's own, to be killed at will."""
    gateway = Gateway(tmp_path)
    gateway.start()
    yield gateway
    gateway.close()


@dataclass
class Survey:
    """A file to send."""

    path: Path
    data: bytes
    sha256: str


@pytest.fixture(scope="session")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    """Twenty-one MiB and a bit that no compression or luck can imitate."""
    data = os.urandom(21 * 2**20 + 12_345)
    path = tmp_path_factory.mktemp("survey") / "survey.laz"
    path.write_bytes(data)
    return Survey(path, data, hashlib.sha256(data).hexdigest())
