"""Worlds to test the application in: a real database, a real store, a queue that only remembers."""

import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

import app.samples
from app.context import Context, Policy
from app.db.migrate import upgrade
from app.db.models import Task, Upload
from app.db.session import make_engine
from app.domain.tasks import TaskState
from app.main import create_app
from app.storage.local import LocalStore
from app.uploads.tus import TusUploads
from pipeline import testing, volume_change
from pipeline.contracts import InputSlot, Spec, Step
from pipeline.registry import Catalogue
from tests.queues import RecordingQueue

SAMPLES = Path(app.samples.__file__).parent / "ttp"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
FOUR = Spec(
    name="four",
    title="Four files of any kind",
    inputs=tuple(InputSlot(label, label, ("",)) for label in ("pre", "post", "shp", "shx")),
    params=testing.ConstantParams,
    steps=(Step("run", "Answer", "pipeline.testing.run:run"),),
)


@dataclass
class World:
    """The application's parts, and shortcuts that stand for a client's steps."""

    context: Context
    queue: RecordingQueue
    root: Path

    def put(self, upload_id: str, content: bytes = b"1 2 3\n") -> None:
        """Let an upload's bytes arrive without anybody being told."""
        (source := self.root / uuid4().hex).write_bytes(content)
        self.context.store.put(self.upload(upload_id).key, source)

    def upload(self, upload_id: str) -> Upload:
        with self.context.unit_of_work(read_only=True) as work:
            found = work.session.get(Upload, upload_id)
            assert found is not None
            return found

    def task(self, task_id: UUID) -> Task:
        with self.context.unit_of_work(read_only=True) as work:
            found = work.session.get(Task, task_id)
            assert found is not None
            assert found.uploads is not None
            return found

    def add(self, state: TaskState = TaskState.PENDING, **values: Any) -> UUID:
        """Put a task into the database as it stands."""
        task = Task(**{"id": uuid4(), "pipeline": "constant", "options": {}, "created_at": NOW, **values}, state=state)
        with self.context.unit_of_work() as work:
            work.session.add(task)
            work.commit()
        return task.id

    def with_policy(self, **changes: Any) -> "World":
        return replace(self, context=replace(self.context, policy=replace(self.context.policy, **changes)))


def _together(calls: list[Callable[[], Any]]) -> list[Any]:
    """Call all at the same instant, each in a thread; return what they return."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(timeout=30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(timeout=60) for future in [pool.submit(run, call) for call in calls]]


@pytest.fixture
def together() -> Callable[[list[Callable[[], Any]]], list[Any]]:
    return _together


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def queue() -> RecordingQueue:
    return RecordingQueue()


@pytest.fixture(scope="session")
def blank_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all tables and nothing in them, to be copied: faster than migrating each time."""
    path = tmp_path_factory.mktemp("blank") / "blank.db"
    upgrade(f"sqlite:///{path}")
    return path  # closing the last connection has folded the write-ahead log into the file


def _build(url: str, root: Path, queue: RecordingQueue) -> Iterator[World]:
    store = LocalStore(root / "objects", base_url="http://volcal.test", secret=b"not secret")
    uploads = TusUploads(root / "uploads", store, base_url="http://volcal.test", max_bytes=1 << 30)
    context = Context(
        engine=make_engine(url),
        store=store,
        queue=queue,
        uploads=uploads,
        catalogue=Catalogue([volume_change.SPEC, testing.CONSTANT, FOUR]),
        policy=Policy(public_url="http://volcal.test", hook_secret="open sesame", min_free_bytes=0),
        data_dir=str(root),
    )
    yield World(context, queue, root)
    context.engine.dispose()


@pytest.fixture
def world(tmp_path: Path, blank_sqlite: Path, queue: RecordingQueue) -> Iterator[World]:
    """The embedded mode's parts."""
    shutil.copyfile(blank_sqlite, tmp_path / "volcal.db")
    yield from _build(f"sqlite:///{tmp_path / 'volcal.db'}", tmp_path, queue)


@pytest.fixture
def postgres_world(tmp_path: Path, postgres_url: str, queue: RecordingQueue) -> Iterator[World]:
    """The same on PostgreSQL."""
    upgrade(postgres_url)
    yield from _build(postgres_url, tmp_path, queue)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def any_world(request: pytest.FixtureRequest) -> World:
    """A world on each database."""
    found: World = request.getfixturevalue("world" if request.param == "sqlite" else "postgres_world")
    return found


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    with TestClient(create_app(world.context), follow_redirects=False, base_url="http://elsewhere.test") as found:
        yield found


@pytest.fixture
def good_files() -> dict[str, bytes]:
    """Four files that the volume-change pipeline takes."""
    cloud = "".join(f"{x} {y} {0.1 * x:.1f}\n" for x in range(20) for y in range(20)).encode()
    shape = {label: (SAMPLES / f"stable_area.{label}").read_bytes() for label in ("shp", "shx")}
    return {"pre": cloud, "post": cloud, **shape}


@pytest.fixture
def send(client: TestClient) -> Callable[[str, bytes], None]:
    """Send a whole file by tus, as the phone does."""

    def _send(url: str, content: bytes) -> None:
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": "0",
            "Upload-Length": str(len(content)),
            "Content-Type": "application/offset+octet-stream",
        }
        response = client.patch(url.replace("http://volcal.test", ""), content=content, headers=headers)
        assert response.status_code == 204, response.text

    return _send
