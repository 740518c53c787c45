"""The courier: slow and dead receivers hold up nothing but themselves, and it comes back from any fault."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from app.context import Context
from app.domain import failures
from app.domain.callbacks import DeliveryState
from app.domain.tasks import TaskState
from app.outbound import AllowList, GuardedClient, Limits
from app.services import callbacks, queries
from tests.receivers import Receiver
from worker.courier import Courier


@pytest.fixture
def context(bench: Any) -> Context:
    web = GuardedClient(AllowList(["127.0.0.0/8"]), limits=Limits(total_s=20.0, idle_s=20.0))
    return replace(bench.context, web=web, policy=replace(bench.context.policy, callback_secret="secret"))


@pytest.fixture
def couriers() -> Iterator[Callable[[Context], threading.Event]]:
    """Starts couriers, and stops them at the end."""
    started: list[tuple[threading.Event, threading.Thread]] = []

    def start(context: Context) -> threading.Event:
        stop = threading.Event()
        thread = threading.Thread(target=Courier(context, every_s=0.02).run, args=(stop,))
        started.append((stop, thread))
        thread.start()
        return stop

    yield start
    for stop, thread in started:
        stop.set()
        thread.join(timeout=30)
        assert not thread.is_alive()


def end(bench: Any, context: Context, url: str) -> Any:
    """Let a task come to its end whose receiver is at a URL."""
    task_id = bench.pending()
    bench.change(task_id, callback_url=url)
    with context.unit_of_work() as work:
        task = queries.get_task(work, task_id)
        assert queries.settle(work, task, TaskState.KILLED, failures.cancelled(), datetime.now(UTC))
        work.commit()
    return task_id


def states(context: Context, task_id: Any) -> list[str]:
    with context.unit_of_work(read_only=True) as work:
        return [delivery.state for delivery in callbacks.of_task(work, task_id)]


def wait_for(found: Callable[[], bool]) -> None:
    for _ in range(1500):
        if found():
            return
        threading.Event().wait(0.02)
    raise AssertionError("waited in vain")


def test_receivers_that_never_answer_hold_up_only_themselves(bench: Any, context: Context, couriers: Any) -> None:
    with Receiver() as silent, Receiver() as brisk:
        silent.react = lambda _connection, _request: silent.closing.wait(30)
        for _ in range(40):
            end(bench, context, silent.url)
        told = [end(bench, context, brisk.url) for _ in range(5)]
        couriers(context)
        wait_for(lambda: all(states(context, task_id) == [DeliveryState.DELIVERED] for task_id in told))
        assert len(silent.requests) <= 2


def test_several_couriers_tell_everything_once(bench: Any, context: Context, couriers: Any) -> None:
    with Receiver() as receiver:
        told = [end(bench, context, receiver.url) for _ in range(12)]
        for _ in range(3):
            couriers(context)
        wait_for(lambda: all(states(context, task_id) == [DeliveryState.DELIVERED] for task_id in told))
        assert len(receiver.requests) == 12
        assert len({request.headers["x-volcal-delivery"] for request in receiver.requests}) == 12


def test_a_database_that_is_away_is_complained_about_once(
    bench: Any, context: Context, couriers: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    look, rounds = callbacks.due, iter(range(100_000))

    def flaky(*args: Any, **options: Any) -> Any:
        if next(rounds) < 3:
            raise OperationalError("SELECT", {}, ConnectionError("away"))
        return look(*args, **options)

    monkeypatch.setattr(callbacks, "due", flaky)
    with Receiver() as receiver:
        task_id = end(bench, context, receiver.url)
        couriers(context)
        wait_for(lambda: states(context, task_id) == [DeliveryState.DELIVERED])
    assert [r.levelname for r in caplog.records if "no callbacks now" in r.getMessage()] == ["ERROR"]


def test_a_delivery_that_breaks_is_taken_up_again(
    bench: Any, context: Context, couriers: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    deliver, calls = callbacks.deliver, iter(range(100_000))

    def flaky(*args: Any) -> Any:
        if next(calls) < 2:
            raise OperationalError("UPDATE", {}, ConnectionError("away"))
        return deliver(*args)

    monkeypatch.setattr(callbacks, "deliver", flaky)
    with Receiver() as receiver:
        task_id = end(bench, context, receiver.url)
        couriers(context)
        wait_for(lambda: states(context, task_id) == [DeliveryState.DELIVERED])
        assert len(receiver.requests) == 1
    assert "a callback was not sent" in caplog.text


def test_what_is_under_way_when_it_stops_is_let_finish(bench: Any, context: Context, couriers: Any) -> None:
    with Receiver() as receiver:
        stopping = threading.Event()

        def answers_late(connection: Any, _request: Any) -> None:
            stopping.wait(30)
            connection.sendall(b"HTTP/1.1 204 OK\r\n\r\n")

        receiver.react = answers_late
        task_id = end(bench, context, receiver.url)
        stop = couriers(context)
        wait_for(lambda: len(receiver.requests) == 1)
        stop.set()
        stopping.set()
        wait_for(lambda: states(context, task_id) == [DeliveryState.DELIVERED])
