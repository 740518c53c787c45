"""Callbacks: one for each end, signed, sent until it is heard, and never at the task's cost."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.context import Context
from app.db.models import Delivery
from app.domain import failures
from app.domain.callbacks import DeliveryState
from app.domain.errors import IllegalTransition, UrlRefused
from app.domain.tasks import TaskState
from app.outbound import AllowList, GuardedClient, Limits
from app.services import callbacks, janitor, queries, runs, tasks
from app.services.runs import Lease
from tests.receivers import Receiver, Request, answer, dead_port, in_turn

SECRET = "a secret that receivers know"
SNIPPET = re.search(r"```python\n(.*?)```", (Path(__file__).parents[3] / "docs/callbacks.md").read_text(), re.S)
LATER = timedelta(days=1)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


@pytest.fixture
def context(any_world: Any) -> Context:
    """An application that may call loopback."""
    return calling(any_world.context)


def calling(context: Context, **changes: Any) -> Context:
    web = GuardedClient(AllowList(["127.0.0.0/8"]), limits=Limits(total_s=2.0, idle_s=1.0))
    policy = replace(context.policy, callback_secret=SECRET, callback_timeout_s=2.0, **changes)
    return replace(context, web=web, policy=policy)


@pytest.fixture
def taken(context: Context, any_world: Any, now: datetime) -> Callable[[str | None], Lease]:
    """Makes tasks that a worker has taken."""

    def take(url: str | None, **values: Any) -> Lease:
        task_id = any_world.add(TaskState.PENDING, callback_url=url, queued_at=now, **values)
        with context.unit_of_work() as work:
            lease = runs.acquire(work, task_id, worker="w", now=now, lease_s=60)
            work.commit()
        assert lease is not None
        return lease

    return take


def done(context: Context, lease: Lease, now: datetime) -> None:
    with context.unit_of_work() as work:
        assert runs.finish(work, lease, document={"hulls": []}, artifacts=[], now=now)
        work.commit()


def deliveries(context: Context, task_id: UUID) -> list[Delivery]:
    with context.unit_of_work(read_only=True) as work:
        return callbacks.of_task(work, task_id)


def send_all(context: Context, now: datetime) -> list[DeliveryState | None]:
    return [callbacks.deliver(context, found, now) for found, _ in callbacks.due(context, now, limit=50)]


def is_genuine(request: Request, secret: str = SECRET) -> bool:
    """Ask the function that the documents give to receivers."""
    assert SNIPPET is not None
    code: dict[str, Any] = {}
    exec(SNIPPET[1], code)  # noqa: S102
    headers = {name: request.headers[name.lower()] for name in ("X-Volcal-Timestamp", "X-Volcal-Signature")}
    found: bool = code["is_genuine"](secret, headers, request.body)
    return found


def test_the_end_of_a_task_is_told_once(context: Context, taken: Any, receiver: Receiver, now: datetime) -> None:
    lease = taken(f"{receiver.url}/in?key=1", name="Quarry, week 14")
    done(context, lease, now)
    assert send_all(context, now) == [DeliveryState.DELIVERED]
    assert send_all(context, now + LATER) == []
    (request,) = receiver.requests
    (delivery,) = deliveries(context, lease.task_id)
    assert request.line == "POST /in?key=1 HTTP/1.1"
    assert request.headers["x-volcal-event"] == "task.done"
    assert request.headers["x-volcal-delivery"] == str(delivery.id)
    base = f"http://volcal.test/api/v1/tasks/{lease.task_id}"
    assert json.loads(request.body) == {
        "event": "task.done",
        "delivery": str(delivery.id),
        "id": str(lease.task_id),
        "status": "done",
        "pipeline": "constant",
        "name": "Quarry, week 14",
        "attempts": 1,
        "created_at": now.isoformat(),
        "finished_at": now.isoformat(),
        "error": None,
        "links": {
            "task": base,
            "deliveries": f"{base}/deliveries",
            "results": f"{base}/results",
            "artifacts": f"{base}/artifacts",
        },
    }
    (attempt,) = delivery.tries
    assert (attempt["at"], attempt["status"], attempt["error"]) == (now.isoformat(), 200, None)


def test_every_way_to_end_is_told_in_the_transaction_that_ends_it(
    context: Context, any_world: Any, taken: Any, receiver: Receiver, now: datetime
) -> None:
    error = failures.error_document("INPUT_INVALID", "Cut off.", remedy="Again.", label="pre", details={"x": "y" * 999})
    failed, killed, cancelled, lost = (taken(receiver.url) for _ in range(4))
    waiting, expired = (any_world.add(TaskState.WAITING, callback_url=receiver.url) for _ in range(2))
    with context.unit_of_work() as work:
        runs.fail(work, failed, error=error, now=now)
        runs.kill(work, killed, error=failures.cancelled(), now=now)
        tasks.cancel_task(work, cancelled.task_id)
        runs.finish(work, cancelled, document={}, artifacts=[], now=now)
        tasks.cancel_task(work, waiting)
        work.commit()
    far = calling(context, max_attempts=1, upload_ttl_s=1)
    janitor.reap(far, now + timedelta(hours=1))
    assert any_world.task(lost.task_id).state is TaskState.KILLED
    assert any_world.task(expired).state is TaskState.KILLED
    send_all(context, queries.utc_now() + LATER)  # cancelling looks at the clock itself
    told = {body["id"]: body for body in (json.loads(request.body) for request in receiver.requests)}
    assert len(told) == len(receiver.requests) == 6
    codes = {str(key): told[str(key)]["error"]["code"] for key in told}
    assert codes == {
        str(failed.task_id): "INPUT_INVALID",
        str(killed.task_id): "CANCELLED",
        str(cancelled.task_id): "CANCELLED",
        str(lost.task_id): "LOST",
        str(waiting): "CANCELLED",
        str(expired): "EXPIRED",
    }
    assert told[str(failed.task_id)]["error"] == {
        "code": "INPUT_INVALID",
        "label": "pre",
        "message": "Cut off.",
        "remedy": "Again.",
    }
    assert set(told[str(failed.task_id)]["links"]) == {"task", "deliveries"}


def test_an_end_that_was_not_committed_is_not_told(context: Context, taken: Any, now: datetime) -> None:
    lease = taken("http://127.0.0.1:9/")
    with context.unit_of_work() as work:
        assert runs.finish(work, lease, document={}, artifacts=[], now=now)
    assert deliveries(context, lease.task_id) == []


def test_who_lost_the_lease_tells_nobody(context: Context, taken: Any, now: datetime) -> None:
    lease = taken("http://127.0.0.1:9/")
    old = replace(lease, fence=lease.fence - 1)
    with context.unit_of_work() as work:
        assert not runs.finish(work, old, document={}, artifacts=[], now=now)
        assert not runs.fail(work, old, error=failures.cancelled(), now=now)
        work.commit()
    assert deliveries(context, lease.task_id) == []


def test_a_worker_that_was_lost_is_no_end(context: Context, taken: Any, any_world: Any, now: datetime) -> None:
    lease = taken("http://127.0.0.1:9/")
    janitor.reap(context, now + timedelta(hours=1))
    assert any_world.task(lease.task_id).state is TaskState.PENDING
    assert deliveries(context, lease.task_id) == []


def test_without_a_receiver_nothing_is_written(context: Context, taken: Any, now: datetime) -> None:
    lease = taken(None)
    done(context, lease, now)
    assert deliveries(context, lease.task_id) == []


def test_many_who_end_a_task_at_once_make_one_delivery(
    context: Context, taken: Any, together: Any, now: datetime
) -> None:
    lease = taken("http://127.0.0.1:9/")

    def finish() -> bool:
        with context.unit_of_work() as work:
            kept = runs.finish(work, lease, document={}, artifacts=[], now=now)
            work.commit()
            return kept

    def bury() -> bool:
        try:
            with context.unit_of_work() as work:
                task = queries.get_task(work, lease.task_id, lock=True)
                kept = queries.settle(work, task, TaskState.KILLED, failures.lost(1), now)
                work.commit()
                return kept
        except IllegalTransition:
            return False

    assert together([finish, bury] * 4).count(True) == 1
    assert len(deliveries(context, lease.task_id)) == 1


def test_a_restart_ends_anew_and_is_told_anew(
    context: Context, taken: Any, receiver: Receiver, any_world: Any, now: datetime
) -> None:
    lease = taken(receiver.url)
    with context.unit_of_work() as work:
        runs.fail(work, lease, error=failures.lost(1), now=now)
        work.commit()
    with context.unit_of_work() as work:
        task = queries.get_task(work, lease.task_id, lock=True)
        queries.queue_task(work, context.queue, task, now)
        work.commit()
    with context.unit_of_work() as work:
        again = runs.acquire(work, lease.task_id, worker="w", now=now, lease_s=60)
        assert again is not None
        work.commit()
    done(context, again, now + timedelta(seconds=1))
    send_all(context, now + LATER)
    events = [(request.headers["x-volcal-event"], json.loads(request.body)["status"]) for request in receiver.requests]
    assert sorted(events) == [("task.done", "done"), ("task.error", "error")]
    assert len({request.headers["x-volcal-delivery"] for request in receiver.requests}) == 2


def test_a_receiver_that_stumbles_twice_hears_one_delivery_three_times(
    context: Context, taken: Any, receiver: Receiver, now: datetime
) -> None:
    receiver.react = in_turn(answer(500), answer(500), answer(200))
    lease = taken(receiver.url)
    done(context, lease, now)
    moment, states = now, []
    for _ in range(3):
        states += send_all(context, moment)
        moment = deliveries(context, lease.task_id)[0].due_at + timedelta(milliseconds=1)
    assert states == [DeliveryState.PENDING, DeliveryState.PENDING, DeliveryState.DELIVERED]
    assert len({request.headers["x-volcal-delivery"] for request in receiver.requests}) == 1
    assert len({request.body for request in receiver.requests}) == 1
    assert [attempt["status"] for attempt in deliveries(context, lease.task_id)[0].tries] == [500, 500, 200]


def test_pauses_grow_and_differ_a_little(context: Context, taken: Any, receiver: Receiver, now: datetime) -> None:
    receiver.react = answer(503)
    lease = taken(receiver.url)
    done(context, lease, now)
    pauses = []
    moment = now
    for _ in range(3):
        assert send_all(context, moment) == [DeliveryState.PENDING]
        assert send_all(context, moment) == []
        due_at = deliveries(context, lease.task_id)[0].due_at
        pauses.append((due_at - moment).total_seconds())
        moment = due_at
    for pause, middle in zip(pauses, (5, 15, 60), strict=True):
        assert 0.8 * middle <= pause <= 1.2 * middle + 2  # 2 s is what the attempt itself may take


@pytest.mark.case(30)
def test_a_dead_host_is_given_up_in_the_end_and_the_task_stays_done(
    context: Context, taken: Any, any_world: Any, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    with dead_port() as port:
        lease = taken(f"http://127.0.0.1:{port}/")
        done(context, lease, now)
        states = [send_all(context, now + n * LATER) for n in range(12)]
    assert states == [[DeliveryState.PENDING]] * 9 + [[DeliveryState.FAILED]] + [[]] * 2
    (delivery,) = deliveries(context, lease.task_id)
    assert (delivery.attempts, len(delivery.tries)) == (10, 10)
    assert {attempt["error"] for attempt in delivery.tries} == {"The host does not take connections at this port."}
    assert delivery.settled_at is not None
    assert any_world.task(lease.task_id).state is TaskState.DONE
    assert any(str(lease.task_id) == vars(r).get("task_id") for r in caplog.records if "callback" in r.getMessage())


def test_a_receiver_that_wants_no_more_is_left_alone(
    context: Context, taken: Any, receiver: Receiver, now: datetime
) -> None:
    receiver.react = answer(410)
    lease = taken(receiver.url)
    done(context, lease, now)
    assert send_all(context, now) == [DeliveryState.FAILED]
    assert send_all(context, now + LATER) == []


@pytest.mark.parametrize("status", [301, 302, 303, 400, 404, 429])
def test_only_2xx_is_heard(status: int, context: Context, taken: Any, receiver: Receiver, now: datetime) -> None:
    with Receiver() as inside:
        receiver.react = answer(status, Location=inside.url)
        done(context, taken(receiver.url), now)
        assert send_all(context, now) == [DeliveryState.PENDING]
        assert inside.requests == []


@pytest.mark.case(30)
def test_a_redirect_to_the_inside_is_an_attempt_that_failed(
    context: Context, taken: Any, receiver: Receiver, now: datetime
) -> None:
    receiver.react = answer(307, Location="http://169.254.169.254/latest/meta-data/")
    lease = taken(receiver.url)
    done(context, lease, now)
    assert send_all(context, now) == [DeliveryState.PENDING]
    (attempt,) = deliveries(context, lease.task_id)[0].tries
    assert attempt["status"] is None
    assert "not one that may be called" in attempt["error"]
    assert "169.254" not in attempt["error"]


@pytest.mark.case(30)
def test_a_name_that_moved_inside_is_not_called(
    context: Context, taken: Any, receiver: Receiver, now: datetime
) -> None:
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    moved = replace(context, web=GuardedClient(resolve=lambda _host, _port: next(answers)))
    url = callbacks.check(moved, f"http://hooks.example.com:{receiver.port}/")
    done(context, taken(url), now)
    assert send_all(moved, now) == [DeliveryState.PENDING]
    assert receiver.requests == []


@pytest.mark.case(30)
def test_the_signature_verifies_by_the_function_in_the_documents(
    context: Context, taken: Any, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    done(context, taken(receiver.url), now)
    send_all(context, now)
    (request,) = receiver.requests
    monkeypatch.setattr(time, "time", lambda: now.timestamp() + 299)
    assert is_genuine(request)
    assert not is_genuine(request, "another secret")
    assert not is_genuine(replace(request, body=request.body.replace(b"done", b"sham")))
    later = str(int(now.timestamp()) + 1)
    assert not is_genuine(replace(request, headers={**request.headers, "x-volcal-timestamp": later}))
    for nonsense in ("", "v1=", "v1=é", "v0" + request.headers["x-volcal-signature"][2:]):
        assert not is_genuine(replace(request, headers={**request.headers, "x-volcal-signature": nonsense}))
    assert not is_genuine(replace(request, headers={**request.headers, "x-volcal-timestamp": "-1"}))
    monkeypatch.setattr(time, "time", lambda: now.timestamp() + 301)
    assert not is_genuine(request), "a replay"


def test_many_couriers_make_one_delivery_once(
    context: Context, taken: Any, together: Any, receiver: Receiver, now: datetime
) -> None:
    lease = taken(receiver.url)
    done(context, lease, now)
    (delivery,) = deliveries(context, lease.task_id)
    states = together([lambda: callbacks.deliver(context, delivery.id, now)] * 6)
    assert states.count(DeliveryState.DELIVERED) == 1
    assert states.count(None) == 5
    assert len(receiver.requests) == 1


def test_who_is_killed_while_sending_is_followed_by_another(
    context: Context, taken: Any, receiver: Receiver, now: datetime
) -> None:
    lease = taken(receiver.url)
    done(context, lease, now)
    (delivery,) = deliveries(context, lease.task_id)
    assert callbacks._claim(context, delivery.id, now) is not None  # and then the light goes out
    assert send_all(context, now + timedelta(seconds=6)) == []
    assert send_all(context, now + timedelta(seconds=8)) == [DeliveryState.DELIVERED]
    assert [a["status"] for a in deliveries(context, lease.task_id)[0].tries] == [None, 200]
    assert receiver.requests[0].headers["x-volcal-delivery"] == str(delivery.id)


def test_a_delivery_whose_last_attempt_was_killed_is_given_up(context: Context, taken: Any, now: datetime) -> None:
    context = calling(context, callback_attempts=1)
    lease = taken("http://127.0.0.1:9/")
    done(context, lease, now)
    (delivery,) = deliveries(context, lease.task_id)
    assert callbacks._claim(context, delivery.id, now) is not None
    assert send_all(context, now + LATER) == [None]
    assert deliveries(context, lease.task_id)[0].state == DeliveryState.FAILED


def test_who_comes_late_may_say_that_it_was_heard_but_not_that_it_was_not(
    context: Context, taken: Any, receiver: Receiver, now: datetime
) -> None:
    for status, state in ((200, DeliveryState.DELIVERED), (500, DeliveryState.PENDING)):
        lease = taken(receiver.url)
        done(context, lease, now)
        (delivery,) = deliveries(context, lease.task_id)
        late = callbacks._claim(context, delivery.id, now)
        assert late is not None
        soon = callbacks._claim(context, delivery.id, now + LATER)
        assert soon is not None
        claimed_until = deliveries(context, lease.task_id)[0].due_at
        callbacks._record(context, late, callbacks._Outcome(status, None, 0.1), now + LATER)
        found = deliveries(context, lease.task_id)[0]
        assert (found.state, found.due_at) == (state, claimed_until)


def test_deleting_a_task_ends_its_deliveries(context: Context, taken: Any, receiver: Receiver, now: datetime) -> None:
    lease, running = taken(receiver.url), taken(receiver.url)
    done(context, lease, now)
    (delivery,) = deliveries(context, lease.task_id)
    tasks.delete_task(context, lease.task_id)
    tasks.delete_task(context, running.task_id)
    with context.unit_of_work() as work:
        assert runs.kill(work, running, error=failures.cancelled(), now=now)
        work.commit()
    assert deliveries(context, lease.task_id) == deliveries(context, running.task_id) == []
    assert callbacks.deliver(context, delivery.id, now) is None
    assert callbacks.due(context, now + LATER, limit=9) == []
    assert receiver.requests == []


def test_a_task_deleted_while_its_callback_is_sent_leaves_nothing(
    context: Context, taken: Any, receiver: Receiver, now: datetime
) -> None:
    lease = taken(receiver.url)
    receiver.react = lambda connection, request: (
        tasks.delete_task(context, lease.task_id),
        answer()(connection, request),
    )
    done(context, lease, now)
    assert send_all(context, now) == [None]
    assert len(receiver.requests) == 1


def test_busy_hosts_and_those_under_way_are_left_out(context: Context, taken: Any, now: datetime) -> None:
    first, second = taken("http://127.0.0.1:9/"), taken("http://127.0.0.2:9/")
    for lease in (first, second):
        done(context, lease, now)
    found = callbacks.due(context, now, limit=9)
    assert {host for _, host in found} == {"127.0.0.1:9", "127.0.0.2:9"}
    assert callbacks.due(context, now, limit=9, but_not={"127.0.0.1:9"}) == [
        (deliveries(context, second.task_id)[0].id, "127.0.0.2:9")
    ]
    assert callbacks.due(context, now, limit=9, under_way={each for each, _ in found}) == []
    assert callbacks.due(context, now - LATER, limit=9) == []


def test_nothing_is_sent_unsigned(context: Context, taken: Any, receiver: Receiver, now: datetime) -> None:
    mute = replace(context, policy=replace(context.policy, callback_secret=None))
    with pytest.raises(UrlRefused, match="no secret to sign with"):
        callbacks.check(mute, receiver.url)
    done(context, taken(receiver.url), now)
    assert send_all(mute, now) == [DeliveryState.PENDING]
    assert receiver.requests == []


def test_a_fault_of_ours_is_logged_and_tried_again(
    context: Context, taken: Any, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_host: str, _port: int) -> list[str]:
        raise ZeroDivisionError

    lease = taken("http://hooks.example.com/")
    done(context, lease, now)
    odd = replace(context, web=GuardedClient(resolve=broken))
    assert send_all(odd, now) == [DeliveryState.PENDING]
    assert deliveries(context, lease.task_id)[0].tries[0]["error"] == "It could not be sent; the log has more."
    assert "ZeroDivisionError" in caplog.text
