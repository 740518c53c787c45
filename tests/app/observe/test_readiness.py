"""/readyz: which part is away, in words, within seconds, however it is away."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.context import Context
from app.db import vitals
from app.main import create_app
from app.observe.checks import Readiness, told


class Part:
    """An adapter whose server is as the test wants it."""

    def __init__(self, wrong: Exception | None = None, hangs: threading.Event | None = None) -> None:
        self.asked = 0
        self._wrong = wrong
        self._hangs = hangs

    def check(self) -> None:
        self.asked += 1
        if self._hangs is not None:
            self._hangs.wait(30)
        if self._wrong is not None:
            raise self._wrong


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def with_parts(world: Any, **parts: Any) -> Context:
    changed: Context = replace(world.context, **parts)
    return changed


def alive(world: Any) -> None:
    with world.context.unit_of_work() as work:
        for kind in ("worker", "beat"):
            vitals.show(work.session, kind, "x", version="1", details={}, now=datetime.now(UTC))
        work.commit()


def test_a_whole_service_has_nothing_to_say(world: Any) -> None:
    alive(world)
    health = Readiness(with_parts(world, store=Part(), uploads=Part(), queue=Part())).look()
    assert (health.problems, health.degraded) == ([], [])
    assert health.parts == dict.fromkeys(("database", "store", "uploads", "disk", "broker"), True)


@pytest.mark.parametrize(("part", "called"), [("store", "the object store"), ("uploads", "the upload endpoint")])
def test_a_part_that_work_needs_makes_the_service_unready(world: Any, part: str, called: str) -> None:
    broken = with_parts(world, **{part: Part(ConnectionError("refused by\n http://u:hush@store"))})
    answer = TestClient(create_app(broken)).get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["status"] == []
    wanted = f"{called} does not answer (ConnectionError: refused by http://u:***@store)"
    assert answer.json()["problems"] == [wanted]


def test_a_broker_that_is_away_makes_nobody_unready_for_tasks_are_kept(world: Any) -> None:
    alive(world)
    broken = with_parts(world, queue=Part(ConnectionError("refused")))
    answer = TestClient(create_app(broken)).get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["problems"] == []
    wanted = "the broker does not answer (ConnectionError: refused): tasks are kept, and run once it does"
    assert answer.json()["degraded"] == [wanted]


def test_a_silent_worker_and_a_silent_reaper_are_told(world: Any) -> None:
    (said,) = Readiness(world.context).look().degraded
    assert "no worker was seen for 60 s" in said
    assert "`volcal beat`" in said


def test_parts_are_asked_side_by_side(world: Any) -> None:
    meeting = threading.Barrier(3)  # nobody answers before all were asked

    class Meeting(Part):
        def check(self) -> None:
            meeting.wait(timeout=30)

    parts = with_parts(world, store=Meeting(), uploads=Meeting(), queue=Meeting())
    assert all(Readiness(parts, patience_s=30.0).look().parts.values())


def test_parts_that_hang_are_told_and_not_asked_again(world: Any, release: threading.Event) -> None:
    hanging = Part(hangs=release)
    context = with_parts(world, store=hanging, queue=Part(hangs=release))
    readiness = Readiness(context, patience_s=0.5, good_for_s=0.0)
    health = readiness.look()
    assert health.problems == ["the object store did not answer within 0.5 s"]
    assert health.degraded[0].startswith("the broker did not answer within 0.5 s: tasks are kept")
    readiness.look()
    assert hanging.asked == 1


def test_many_questions_are_one_look(world: Any) -> None:
    part = Part()
    client = TestClient(create_app(with_parts(world, store=part)))
    for _ in range(20):
        client.get("/readyz")
    assert part.asked <= 2  # a look is good for a second and a half


def test_an_error_is_told_in_one_short_line() -> None:
    assert told(ValueError()) == "ValueError"
    assert told(OSError("a\n  b\n(Background on this error at: https://…)")) == "OSError: a b"
    assert len(told(OSError("x" * 9999))) == 300
