"""A worker's world: a real database, a real store, tasks that are ready to run."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest

from app.context import Context, Policy
from app.db.migrate import upgrade
from app.db.models import Task, Upload
from app.db.session import make_engine
from app.domain.keys import input_key, task_prefix
from app.domain.tasks import TaskState, UploadState
from app.storage.local import LocalStore
from app.uploads.tus import TusUploads
from pipeline.registry import CATALOGUE
from tests.queues import RecordingQueue
from worker.runner import Surroundings
from worker.runs.supervisor import Limits


def run_pid() -> int | None:
    """Return the run that this process supervises; servers of other tests are its children, too."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "--supervised" in child.cmdline():
                return child.pid
    return None


@dataclass
class Bench:
    """The application's parts and a worker's surroundings."""

    context: Context
    queue: RecordingQueue
    root: Path
    here: Surroundings

    def pending(
        self,
        content: bytes | None = b"12345",
        filename: str = "survey.LAS",
        pipeline: str = "constant",
        **params: Any,
    ) -> UUID:
        """Add a task of a testing pipeline that is ready to run; no content means that its object is missing."""
        task_id, now = uuid4(), datetime.now(UTC)
        key = input_key(task_id, "file", "upload")
        if content is not None:
            (source := self.root / uuid4().hex).write_bytes(content)
            self.context.store.put(key, source)
        upload = Upload(
            id=uuid4().hex,
            task_id=task_id,
            label="file",
            key=key,
            filename=filename,
            state=UploadState.FINISHED,
            created_at=now,
        )
        task = Task(
            id=task_id,
            pipeline=pipeline,
            queue=CATALOGUE[pipeline].steps[0].queue,
            options=params,
            state=TaskState.PENDING,
            created_at=now,
            queued_at=now,
            uploads=[upload],
        )
        with self.context.unit_of_work() as work:
            work.session.add(task)
            work.commit()
        return task_id

    def task(self, task_id: UUID) -> Task:
        with self.context.unit_of_work(read_only=True) as work:
            found = work.session.get(Task, task_id)
            assert found is not None
            return found

    def change(self, task_id: UUID, **values: Any) -> None:
        with self.context.unit_of_work() as work:
            found = work.session.get(Task, task_id)
            for name, value in values.items():
                setattr(found, name, value)
            work.commit()

    def outputs(self, task_id: UUID) -> list[str]:
        """Names of the result files in the store, each with its attempt's fence."""
        folder = self.root / "objects" / task_prefix(task_id) / "out"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def leftovers(self) -> list[str]:
        """What lies in the scratch folder."""
        scratch = self.here.scratch
        return [path.name for path in scratch.iterdir() if path.is_dir()] if scratch.exists() else []

    def with_here(self, **changes: Any) -> "Bench":
        return replace(self, here=replace(self.here, **changes))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    url = f"sqlite:///{tmp_path / 'volcal.db'}"
    upgrade(url)
    store = LocalStore(tmp_path / "objects", base_url="http://volcal.test", secret=b"not secret")
    queue = RecordingQueue()
    context = Context(
        engine=make_engine(url),
        store=store,
        queue=queue,
        uploads=TusUploads(tmp_path / "uploads", store, base_url="http://volcal.test", max_bytes=1 << 30),
        catalogue=CATALOGUE,
        policy=Policy(lease_s=5.0, max_attempts=2),
        data_dir=str(tmp_path),
    )
    here = Surroundings(tmp_path / "scratch", Limits(timeout_s=60, memory_mb=2000), heartbeat_s=0.1)
    yield Bench(context, queue, tmp_path, here)
    context.engine.dispose()
