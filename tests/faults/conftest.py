"""A real service, started as a user starts it, whose processes tests may kill."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

PATIENCE_S = 60.0
QUICK = {
    "VOLCAL_LEASE_S": "2",
    "VOLCAL_HEARTBEAT_S": "0.3",
    "VOLCAL_REAP_INTERVAL_S": "0.5",
    "VOLCAL_MAX_ATTEMPTS": "2",
    "VOLCAL_RUN_MEMORY_MB": "300",
    "VOLCAL_RUN_TIMEOUT_S": "8",
}


def wait_for(found: Callable[[], Any], what: str) -> Any:
    """Return the first true answer."""
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := found()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return answer


class Service:
    """`volcal up` in a process of its own; it keeps its folder when it is started again."""

    def __init__(self, data: Path, **settings: str) -> None:
        self.data = data
        self.settings = settings
        self.url = ""
        self._log = data.with_suffix(".out")

    def start(self, **options: Any) -> None:
        with self._log.open("wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "app.cli", "up", "--port", "0", "--data", self.data],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, **QUICK, **self.settings},
                **options,
            )
        wait_for(lambda: b"Ctrl-C stops" in self._log.read_bytes() or self.process.poll() is not None, "the service")
        said = self._log.read_text()
        found = re.search(r"API docs +(\S+)/docs", said)
        assert found, said
        self.url = found[1]

    def stop(self) -> int:
        """Ask it to stop, as Ctrl-C does; return the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=PATIENCE_S)

    def kill_everything(self) -> None:
        """Kill -9, all at the same time."""
        doomed = [self.process.pid, *(p.pid for p in psutil.Process(self.process.pid).children(recursive=True))]
        for pid in doomed:
            _kill(pid)
        self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.kill_everything()
                raise

    def submit(self, **options: Any) -> str:
        """Create a task and upload its file; return its id."""
        body = {"pipeline": "constant", "options": options}
        task = httpx.post(f"{self.url}/api/v1/tasks", json=body, timeout=30).raise_for_status().json()
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": "0",
            "Upload-Length": "5",
            "Content-Type": "application/offset+octet-stream",
        }
        sent = httpx.patch(task["uploads"]["file"]["url"], content=b"12345", headers=headers, timeout=30)
        assert sent.status_code == 204
        return str(task["id"])

    def task(self, task_id: str) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/api/v1/tasks/{task_id}", timeout=30).raise_for_status().json()
        return found

    def cancel(self, task_id: str) -> int:
        return httpx.post(f"{self.url}/api/v1/tasks/{task_id}/cancel", timeout=30).status_code

    def settled(self, task_id: str) -> dict[str, Any]:
        """Wait until a task has come to its end, whichever."""

        def look() -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] in {"done", "error", "killed"} else None

        found: dict[str, Any] = wait_for(look, f"the end of task {task_id}")
        return found

    def running(self, task_id: str, attempt: int = 1, stage: str = "working") -> psutil.Process:
        """Wait until an attempt at a task is under way; return its process."""

        def look() -> psutil.Process | None:
            task = self.task(task_id)
            if task["attempts"] != attempt or task["status"] != "running" or task["stage"] != stage:
                return None
            return next(iter(self.processes(task_id)), None)

        found: psutil.Process = wait_for(look, f"attempt {attempt} at task {task_id}")
        return found

    def part(self, verb: str) -> psutil.Process:
        """Wait for a part of the service; return its process."""

        def look() -> psutil.Process | None:
            with_verb = [p for p in psutil.Process(self.process.pid).children() if verb in _arguments(p)]
            return next(iter(with_verb), None)

        found: psutil.Process = wait_for(look, verb)
        return found

    def pool(self) -> psutil.Process:
        """Wait for the process in which the worker runs its jobs."""
        found: psutil.Process = wait_for(lambda: next(iter(self.part("work").children()), None), "the pool")
        return found

    def processes(self, mark: str = "") -> list[psutil.Process]:
        """Return what runs pipelines below this service's folder, the leader of each session first."""
        scratch = str(self.data / "scratch")
        found = [p for p in psutil.process_iter() if any(scratch in a and mark in a for a in _arguments(p))]
        return sorted(found, key=lambda p: p.pid)

    def outputs(self, task_id: str) -> list[str]:
        """Name the result files in the store, each with its attempt's number."""
        folder = self.data / "objects" / "tasks" / task_id / "out"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def scratch(self) -> list[str]:
        return [path.name for path in (self.data / "scratch").iterdir() if path.is_dir()]


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that the tests of a module share; whatever they kill comes back by itself."""
    service = Service(tmp_path_factory.mktemp("service") / "data")
    service.start()
    yield service
    service.close()
    assert service.processes() == []


@pytest.fixture
def own_service(tmp_path: Path) -> Iterator[Service]:
    """A service of the test's own, not yet started."""
    service = Service(tmp_path / "data")
    yield service
    service.close()
    assert service.processes() == []
