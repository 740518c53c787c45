"""Signs of life and stages: what the worker tells about itself and about where the time of a run goes."""

import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from app.db import counters, vitals
from app.db.session import make_engine
from worker.runner import run_task
from worker.runs.stages import Stages
from worker.signs import Signs


def seen(bench: Any) -> list[vitals.Sign]:
    with bench.context.unit_of_work(read_only=True) as work:
        return vitals.signs(work.session, since=datetime.now(UTC) - timedelta(hours=1))


def wait_for(found: Any) -> None:
    for _ in range(1500):
        if found():
            return
        threading.Event().wait(0.02)
    raise AssertionError("waited in vain")


def test_a_worker_is_seen_while_it_lives_and_gone_when_it_stops_in_order(bench: Any) -> None:
    url = bench.context.engine.url
    with Signs(lambda: make_engine(url), "volcal@here", every_s=0.05, concurrency=3):
        wait_for(lambda: seen(bench))
        (first,) = seen(bench)
        assert (first.kind, first.name, first.details["concurrency"]) == ("worker", "volcal@here", 3)
        wait_for(lambda: seen(bench)[0].seen_at > first.seen_at)
    assert seen(bench) == []


def test_a_database_that_is_away_is_complained_about_once(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    tries: list[int] = []

    def connect() -> Engine:
        tries.append(1)
        if len(tries) < 4:
            raise ConnectionError("away")
        return make_engine(bench.context.engine.url)

    with caplog.at_level(logging.WARNING), Signs(connect, "w", every_s=0.02):
        wait_for(lambda: seen(bench))
    assert [record.getMessage() for record in caplog.records] == [
        "a sign of life could not be written, and will be tried again: away"
    ]


def test_stages_are_told_apart_by_their_first_word_up_to_a_number() -> None:
    stages = Stages()
    for what in ("Matching 1/100", "matching 2/100", "42", "", "drawing", "matching again"):
        stages.tell(what)
    stages.end()
    assert [stage.name for stage in stages.past] == ["matching", "other", "drawing", "matching"]
    assert list(stages.timings) == ["matching", "other", "drawing"]
    assert all(stage.ended >= stage.began for stage in stages.past)
    many = Stages()
    for number in range(1000):
        many.tell("".join(chr(ord("a") + int(digit)) for digit in str(number)))
    many.end()
    assert len(many.timings) <= 25
    assert "other" in many.timings


def test_a_run_is_timed_by_its_stages_and_counted_with_its_end(bench: Any) -> None:
    run_task(bench.context, bench.pending(), bench.here)
    run_task(bench.context, bench.pending(content=None), bench.here)  # its file is gone
    with bench.context.unit_of_work(read_only=True) as work:
        told = counters.totals(work.session)
    ends = {dict(labels)["outcome"] for labels in told["run_seconds_sum"]}
    assert ends == {"done", "failed"}
    stages = {dict(labels)["stage"] for labels in told["run_stage_seconds_sum"]}
    assert {"fetching", "starting", "working", "storing"} <= stages
    of_all = sum(told["run_stage_seconds_sum"].values())
    assert of_all <= sum(told["run_seconds_sum"].values())
    failed = {dict(labels)["code"]: count for labels, count in told["task_failures"].items()}
    assert failed == {"STORAGE": 1.0}
