"""The embedded mode's folder as a broker: the same promises, with nothing that could be down."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.service


def test_a_folder_that_is_deleted_and_a_worker_that_is_killed_lose_no_task(
    deploy: Callable[..., Any], tmp_path: Path
) -> None:
    here = deploy(f"filesystem://{tmp_path / 'queue'}")
    here.done(*[here.submit() for _ in range(3)])
    running = here.submit(seconds=3)
    here.running(running)
    queued = [here.submit() for _ in range(2)]
    shutil.rmtree(tmp_path / "queue")
    here.done(running, *queued)

    killed = here.submit(seconds=2)
    here.running(killed)
    here.worker.kill()
    waiting = here.submit()
    here.worker.start()
    here.done(killed, attempts=2)
    here.done(waiting)
