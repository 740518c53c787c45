"""Once a day the store is tidied beside the reaper's rounds; mistakes of an operator cost no objects."""

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.db.models import Task
from app.domain.keys import input_key
from worker.tidying import KEEP, tidy, tidying


@pytest.fixture
def put(bench: Any) -> Callable[..., Path]:
    """Put an object of no task into the store, as old as wanted."""

    def _put(days: float = 2.0) -> Path:
        key = input_key(uuid4(), "pre", "a")
        (source := bench.root / "source").write_bytes(b"12345")
        bench.context.store.put(key, source)
        path: Path = bench.context.store.path(key)
        os.utime(path, (time.time() - days * 86_400,) * 2)
        return path

    return _put


def test_what_is_older_than_a_day_goes_and_the_rest_stays(bench: Any, put: Any, caplog: Any) -> None:
    assert KEEP.days == 1
    old, young = put(1.01), put(0.99)
    with caplog.at_level(logging.INFO):
        tidy(bench.context, datetime.now(UTC))
    assert (old.exists(), young.exists()) == (False, True)
    assert [(r.objects, r.bytes) for r in caplog.records if r.message == "deleted what nobody needs"] == [(1, 5)]


def test_with_the_wrong_database_nothing_is_deleted(bench: Any, put: Any, caplog: pytest.LogCaptureFixture) -> None:
    paths = [put() for _ in range(11)]
    tidy(bench.context, datetime.now(UTC))
    assert all(path.exists() for path in paths)
    assert "nothing is deleted" in caplog.text


def test_lost_objects_are_complained_about(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    task_id = bench.pending(content=None)
    with bench.context.unit_of_work() as work:
        task = work.session.get(Task, task_id)
        task.uploads[0].finished_at = datetime(2026, 1, 1, tzinfo=UTC)
        work.commit()
    tidy(bench.context, datetime.now(UTC))
    assert "objects are gone that rows name" in caplog.text


def test_a_round_that_fails_is_logged_and_the_next_one_comes(
    bench: Any, put: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    old, stop, store = put(), threading.Event(), type(bench.context.store)
    listed, failed = store.listed, threading.Event()

    def fail_once(self: Any, prefix: str) -> Any:
        if not failed.is_set():
            failed.set()
            raise OSError("the disk is away")
        return listed(self, prefix)

    monkeypatch.setattr(store, "listed", fail_once)
    thread = tidying(bench.context, every_s=0.02, stop=stop)
    deadline = time.monotonic() + 30
    while old.exists() and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    stop.set()
    assert thread is not None
    thread.join(timeout=30)
    assert not old.exists()
    assert "the store could not be tidied" in caplog.text


def test_it_can_be_switched_off(bench: Any) -> None:
    assert tidying(bench.context, every_s=0, stop=threading.Event()) is None
