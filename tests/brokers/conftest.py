"""A gateway, a worker and a reaper as processes of their own, with any broker between them."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from celery import Celery

from app.db.migrate import upgrade
from app.queue.celery import broker_settings, common_settings
from tests.servers.base import Server, wait_for
from tests.servers.cut import Cut

QUICK = {
    "VOLCAL_LEASE_S": "2",
    "VOLCAL_HEARTBEAT_S": "0.3",
    "VOLCAL_REAP_INTERVAL_S": "0.5",
    "VOLCAL_REDISPATCH_S": "2",
    "VOLCAL_MAX_ATTEMPTS": "3",
    "VOLCAL_RUN_MEMORY_MB": "300",
    "VOLCAL_RUN_TIMEOUT_S": "60",
    "VOLCAL_TASK_TTL_S": "0",
}
SETTLED = {"done", "error", "killed"}
_NUMBERS = count()


class Part(Server):
    """``volcal serve``, ``work`` or ``beat``."""

    def __init__(self, verb: str, folder: Path, settings: dict[str, str]) -> None:
        self.name = verb
        super().__init__(folder / f"{verb}-{next(_NUMBERS)}")
        self._settings = settings
        self.worker_name = f"w{self.port}@test"

    def command(self) -> list[str]:
        more = {"serve": ["--port", str(self.port)], "work": ["--name", self.worker_name], "beat": []}
        return [sys.executable, "-P", "-m", "app.cli", self.name, *more[self.name]]

    def environment(self) -> dict[str, str]:
        return {"PYTHONUNBUFFERED": "1", **QUICK, **self._settings}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        match self.name:
            case "serve":
                with contextlib.suppress(httpx.TransportError):
                    return httpx.get(f"{self.url}/livez", timeout=5).is_success
                return False
            case "work":
                return b" ready." in self.log.read_bytes()  # the broker may be away
            case _:
                return self.process is not None


class Deployment:
    """The parts on one data folder."""

    def __init__(self, folder: Path, broker_url: str, **settings: str) -> None:
        self.folder = folder
        self.broker_url = broker_url
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        upgrade(f"sqlite:///{self.data / 'volcal.db'}")
        known = {"VOLCAL_DATA_DIR": str(self.data), "CELERY_BROKER_URL": broker_url, **settings}
        self._settings = {name: value for name, value in known.items() if value}
        self.gateway, self.worker, self.beat = (self._part(verb) for verb in ("serve", "work", "beat"))
        self.parts = [self.gateway, self.worker, self.beat]

    def _part(self, verb: str) -> Part:
        return Part(verb, self.folder, self._settings)

    def one_more_worker(self) -> Part:
        self.parts.append(self._part("work"))
        return self.parts[-1].start()

    def __enter__(self) -> "Deployment":
        try:
            self.wake()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def wake(self) -> None:
        """Start the parts that do not run."""
        asleep = [part for part in self.parts if part.process is None]
        for part in asleep:
            part.launch()
        for part in asleep:
            part.wait_ready()

    def close(self) -> None:
        for part in self.parts:
            if part.process is not None:
                part.process.terminate()  # all at a time
        for part in self.parts:
            part.stop()

    def submit(self, seconds: float = 0.0, **options: Any) -> str:
        """Create a task and send its file; return its id."""
        body = {"pipeline": "constant", "options": {"seconds": seconds, **options}}
        answer = httpx.post(f"{self.gateway.url}/api/v1/tasks", json=body, timeout=30)
        task = answer.raise_for_status().json()
        self.send(task)
        return str(task["id"])

    def send(self, task: dict[str, Any]) -> httpx.Response:
        """Send the file of a task."""
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": "0",
            "Upload-Length": "5",
            "Content-Type": "application/offset+octet-stream",
        }
        url = task["uploads"]["file"]["url"].replace("http://127.0.0.1:8000", self.gateway.url)
        sent = httpx.patch(url, content=b"12345", headers=headers, timeout=60)
        assert sent.status_code == 204, sent.text
        return sent

    def task(self, task_id: str) -> dict[str, Any]:
        answer = httpx.get(f"{self.gateway.url}/api/v1/tasks/{task_id}", timeout=30)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def settled(self, *task_ids: str) -> list[dict[str, Any]]:
        """Wait until tasks have come to their end, whichever."""

        def look(task_id: str) -> dict[str, Any] | None:
            task = self.task(task_id)
            return task if task["status"] in SETTLED else None

        return [wait_for(lambda each=task_id: look(each), f"the end of {task_id}", 150) for task_id in task_ids]

    def running(self, task_id: str, attempt: int = 1) -> None:
        """Wait until an attempt at a task is under way."""
        wanted = {"status": "running", "attempts": attempt, "stage": "working"}
        wait_for(lambda: wanted.items() <= self.task(task_id).items(), f"attempt {attempt} at {task_id}")

    def done(self, *task_ids: str, attempts: int = 1) -> None:
        """Wait for tasks, each of which must end well, with exactly one result."""
        for task_id, task in zip(task_ids, self.settled(*task_ids), strict=True):
            assert (task["status"], task["attempts"], task["error"]) == ("done", attempts, None), self.logs()
            [output] = self.outputs(task_id)
            assert output.endswith("/results.json")

    def outputs(self, task_id: str) -> list[str]:
        """Name the result files in the store, each with its attempt's number."""
        folder = self.data / "objects" / "tasks" / task_id / "out"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def answering(self) -> bool:
        """Say whether the worker answers over the broker: so it has a connection and consumes."""
        asking = Celery("asking", set_as_current=False)
        master = self._settings.get("VOLCAL_BROKER_MASTER")
        url = self.broker_url + (f"?master={master}" if master else "")
        asking.conf.update(common_settings() | broker_settings(url, patience_s=2.0))
        try:
            return bool(asking.control.ping([self.worker.worker_name], timeout=1.0, limit=1))
        except Exception:  # noqa: BLE001  (of whichever broker's library)
            return False
        finally:
            asking.close()

    def runs(self) -> list[psutil.Process]:
        """Return the processes that run pipelines now."""
        scratch = str(self.data / "scratch")
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(scratch in word for word in process.cmdline()):
                    found.append(process)
        return found

    def logs(self) -> str:
        return "\n".join(part.log.read_text() for part in self.parts)


@pytest.fixture(scope="module")
def broker(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A broker that tests may kill; a module says by a parameter which."""
    with request.param() as server:
        yield server


@pytest.fixture(scope="module")
def line(broker: Any) -> Iterator[Cut]:
    """The line to the broker."""
    with Cut(broker.port) as line:
        yield line


@pytest.fixture(scope="module")
def shared(broker: Any, line: Cut, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment that the tests of a module share."""
    url = broker.url.replace(f":{broker.port}/", f":{line.port}/")
    with Deployment(tmp_path_factory.mktemp("shared") / "deployment", url) as found:
        yield found


@pytest.fixture
def here(broker: Any, line: Cut, shared: Deployment) -> Deployment:
    """The same with all parts up and nothing queued; whatever the test before did is put right."""
    if broker.process is None:
        broker.start()
    line.heal()
    broker.empty()
    shared.wake()
    wait_for(shared.answering, "the worker to consume", 150)  # Celery tries again every 2 s, 4 s … 30 s
    return shared


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Callable[..., Deployment]]:
    """Start a deployment with a broker; it ends with the test."""
    with contextlib.ExitStack() as stack:

        def start(broker_url: str, **settings: str) -> Deployment:
            return stack.enter_context(Deployment(tmp_path / "deployment", broker_url, **settings))

        yield start
