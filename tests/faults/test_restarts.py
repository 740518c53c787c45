"""The whole service killed or stopped at any moment, and started again."""

import os
import subprocess
import sys
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.service


@pytest.mark.case(22)
def test_after_everything_is_killed_every_task_finishes_once(own_service: Any) -> None:
    own_service.start()
    tasks = [own_service.submit(seconds=1.0) for _ in range(3)]
    own_service.running(tasks[0])
    own_service.kill_everything()
    own_service.start()
    ends = [own_service.settled(task_id) for task_id in tasks]
    assert [end["status"] for end in ends] == ["done"] * 3
    assert [end["attempts"] for end in ends] == [2, 1, 1]
    assert [own_service.outputs(task_id) for task_id in tasks] == [["2/results.json"], *[["1/results.json"]] * 2]
    assert own_service.scratch() == []
    assert own_service.processes() == []


def test_a_service_that_alone_is_killed_takes_its_parts_and_their_runs_with_it(own_service: Any) -> None:
    own_service.start()
    task_id = own_service.submit(fail="spawn")
    own_service.running(task_id, stage="waiting")
    family = psutil.Process(own_service.process.pid).children(recursive=True)
    assert len(family) >= 6  # gateway, worker, pool, reaper, run, its guardian, its program
    own_service.process.kill()
    own_service.process.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    assert own_service.processes() == []


def test_stopping_gives_running_tasks_back_and_the_next_start_takes_them_up(own_service: Any) -> None:
    own_service.start()
    task_id = own_service.submit(seconds=2.0)
    own_service.running(task_id)
    family = psutil.Process(own_service.process.pid).children(recursive=True)
    assert own_service.stop() == 0
    assert [process for process in family if process.is_running()] == []
    assert own_service.scratch() == []
    own_service.start()
    task = own_service.settled(task_id)
    assert (task["status"], task["attempts"]) == ("done", 1)


CRASH_BEFORE_THE_BELL = """
import os, signal, sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID
from app.db.migrate import upgrade
from app.db.models import Task, Upload
from app.domain.tasks import TaskState, UploadState
from app.services.tasks import start_task
from app.settings import Settings
from app.wiring import build_context, database_url

class Crash:
    def submit(self, task_id, step=0, queue=""):
        os.kill(os.getpid(), signal.SIGKILL)

settings, task_id, now = Settings(), UUID(int=7), datetime.now(UTC)
upgrade(database_url(settings))
context = replace(build_context(settings), queue=Crash())
context.store.put(f"tasks/{task_id}/in/file", Path(sys.executable))
upload = Upload(id="u", task_id=task_id, label="file", key=f"tasks/{task_id}/in/file", state=UploadState.FINISHED,
                size=1, created_at=now)
with context.unit_of_work() as work:
    work.session.add(Task(id=task_id, pipeline="constant", options={}, state=TaskState.WAITING, created_at=now,
                          uploads=[upload]))
    work.commit()
print(task_id, flush=True)
start_task(context, task_id)
"""


@pytest.mark.case(25)
def test_a_crash_between_the_commit_and_the_doorbell_loses_nothing(own_service: Any) -> None:
    environment = {**os.environ, "VOLCAL_DATA_DIR": str(own_service.data)}
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH_BEFORE_THE_BELL], env=environment, capture_output=True, text=True, timeout=60
    )
    assert crashed.returncode == -9, crashed.stderr
    assert list((own_service.data / "queue").rglob("*.json")) == []
    own_service.start()
    task_id = crashed.stdout.strip()
    task = own_service.settled(task_id)
    assert (task["status"], task["attempts"]) == ("done", 1)
    assert own_service.outputs(task_id) == ["1/results.json"]
