"""Webhooks: told of their owner's tasks alone, signed with their own secret, switched off when nobody hears them."""

import base64
import hashlib
import hmac
import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.context import Context
from app.db.models import Delivery, Webhook
from app.domain import failures
from app.domain.access import Caller
from app.domain.callbacks import DeliveryState
from app.domain.callbacks.webhooks import TASK_EVENTS, DeliveryNotFailed, Event, WebhookDisabled, WebhookNotFound
from app.domain.tasks import TaskState
from app.outbound import AllowList, GuardedClient, Limits
from app.services import callbacks, runs, tasks
from app.services.runs import Lease
from app.services.webhooks import history, subscriptions
from tests.receivers import Receiver, Request, answer, dead_port

LATER = timedelta(days=1)
EXAMPLE = Path(__file__).parents[4] / "docs" / "examples" / "receiver.py"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


def calling(context: Context, **changes: Any) -> Context:
    web = GuardedClient(AllowList(["127.0.0.0/8"]), limits=Limits(total_s=2.0, idle_s=1.0))
    policy = replace(context.policy, **{"callback_secret": "master", "callback_timeout_s": 2.0, **changes})
    return replace(context, web=web, policy=policy)


def seen_by(context: Context, owner: str) -> Context:
    return context.seen_by(Caller(owner, "0123456789", owner, frozenset()))


@pytest.fixture
def context(any_world: Any) -> Context:
    return calling(any_world.context)


@pytest.fixture
def run(context: Context, any_world: Any, now: datetime) -> Callable[..., UUID]:
    """Lets a worker take a task, and end it."""

    def _run(state: TaskState | None = TaskState.DONE, **values: Any) -> UUID:
        task_id: UUID = any_world.add(TaskState.PENDING, queued_at=now, **values)
        with context.unit_of_work() as work:
            lease = runs.acquire(work, task_id, worker="w", now=now, lease_s=60)
            work.commit()
        assert lease is not None
        if state is not None:
            end(context, lease, state, now)
        return task_id

    return _run


def end(context: Context, lease: Lease, state: TaskState, now: datetime) -> None:
    error = failures.error_document("INPUT_INVALID", "Cut off.", remedy="Again.", label="pre")
    with context.unit_of_work() as work:
        if state is TaskState.DONE:
            assert runs.finish(work, lease, document={}, artifacts=[], now=now)
        elif state is TaskState.ERROR:
            assert runs.fail(work, lease, error=error, now=now)
        else:
            assert runs.kill(work, lease, error=failures.cancelled(), now=now)
        work.commit()


def log_of(context: Context, webhook: Webhook) -> list[Delivery]:
    with context.unit_of_work(read_only=True) as work:
        return history.deliveries(work, webhook.id)


def state_of(context: Context, webhook: Webhook) -> Webhook:
    with context.unit_of_work(read_only=True) as work:
        return subscriptions.get(work, webhook.id)


def send_all(context: Context, now: datetime) -> list[DeliveryState | None]:
    return [callbacks.deliver(context, found, now) for found, _ in callbacks.due(context, now, limit=50)]


def ping(context: Context, webhook: Webhook, now: datetime) -> Delivery:
    with context.unit_of_work() as work:
        delivery = history.ping(work, webhook.id, now)
        work.commit()
    return delivery


def again(context: Context, webhook: Webhook, delivery: Delivery, now: datetime) -> None:
    with context.unit_of_work() as work:
        history.send_again(work, webhook.id, delivery.id, now)
        work.commit()


def is_genuine(request: Request, secret: str, now: datetime) -> bool:
    """Ask the example that the documents give to receivers."""
    spec = importlib.util.spec_from_file_location("receiver_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    headers = {name: request.headers[name.lower()] for name in ("X-Volcal-Timestamp", "X-Volcal-Signature")}
    found: bool = module.is_genuine(secret, headers, request.body, now.timestamp())
    return found


def standard(request: Request, secret: str) -> bool:
    """Verify by the text of Standard Webhooks: base64(HMAC-SHA256(decoded secret, "id.timestamp.body"))."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    message = b".".join([request.headers["webhook-id"].encode(), request.headers["webhook-timestamp"].encode()])
    made = hmac.new(key, message + b"." + request.body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(made).decode()}" in request.headers["webhook-signature"].split(" ")


def test_an_owner_is_told_of_the_events_and_pipelines_that_were_asked_for(
    context: Context, run: Any, receiver: Receiver, now: datetime
) -> None:
    everything, secret = subscriptions.create(context, f"{receiver.url}/all", events=TASK_EVENTS)
    subscriptions.create(context, f"{receiver.url}/bad", events=[Event.ERROR])
    subscriptions.create(context, f"{receiver.url}/four", events=[Event.DONE], pipelines=["four"])
    subscriptions.create(seen_by(context, "bob"), f"{receiver.url}/bob", events=TASK_EVENTS)
    ids = [run(TaskState.DONE), run(TaskState.ERROR), run(TaskState.DONE, pipeline="four"), run(TaskState.KILLED)]
    assert set(send_all(context, now)) == {DeliveryState.DELIVERED}
    told = {path: [] for path in ("/all", "/bad", "/four", "/bob")}
    for request in receiver.requests:
        body = json.loads(request.body)
        told[request.line.split()[1]].append((body["event"], body["id"]))
    done, bad, four, killed = map(str, ids)
    ends = [("task.done", done), ("task.error", bad), ("task.done", four), ("task.killed", killed)]
    assert sorted(told["/all"]) == sorted([*ends, *(("task.started", each) for each in map(str, ids))])
    assert (told["/bad"], told["/four"], told["/bob"]) == ([("task.error", bad)], [("task.done", four)], [])
    request = next(each for each in receiver.requests if b"task.done" in each.body and b"/all" not in each.body)
    body = json.loads(request.body)
    assert body["webhook"] in body["links"]["webhook"]
    assert body["links"]["deliveries"] == f"{body['links']['webhook']}/deliveries"
    ours = [each for each in receiver.requests if each.line.startswith("POST /all")]
    assert all(is_genuine(each, secret, now) and standard(each, secret) for each in ours)
    assert not any(is_genuine(each, secret, now) for each in receiver.requests if each not in ours)
    assert [delivery.webhook_id for delivery in log_of(context, everything)] == [everything.id] * 8


def test_a_task_tells_its_own_receiver_and_its_owners_webhooks(
    context: Context, run: Any, receiver: Receiver, now: datetime
) -> None:
    subscriptions.create(context, f"{receiver.url}/hook")
    task_id = run(callback_url=f"{receiver.url}/own")
    send_all(context, now)
    assert sorted(request.line.split()[1] for request in receiver.requests) == ["/hook", "/own"]
    own = next(request for request in receiver.requests if "/own" in request.line)
    assert is_genuine(own, "master", now)
    assert "webhook" not in json.loads(own.body)
    assert own.headers["webhook-id"] == own.headers["x-volcal-delivery"]
    with context.unit_of_work(read_only=True) as work:
        assert {found.webhook_id is None for found in callbacks.of_task(work, task_id)} == {True, False}


def test_what_was_not_committed_is_not_told(context: Context, any_world: Any, now: datetime) -> None:
    webhook, _ = subscriptions.create(context, "http://127.0.0.1:9/", events=TASK_EVENTS)
    task_id = any_world.add(TaskState.PENDING, queued_at=now)
    with context.unit_of_work() as work:
        assert runs.acquire(work, task_id, worker="w", now=now, lease_s=60) is not None
    assert log_of(context, webhook) == []


def test_a_webhook_that_goes_while_a_task_ends_does_not_hold_up_the_task(
    context: Context, any_world: Any, together: Any, now: datetime
) -> None:
    leases, hooks = [], []
    for _ in range(4):
        task_id = any_world.add(TaskState.PENDING, queued_at=now)
        with context.unit_of_work() as work:
            leases.append(runs.acquire(work, task_id, worker="w", now=now, lease_s=60))
            work.commit()
        hooks.append(subscriptions.create(context, "http://127.0.0.1:9/")[0])
    ends = [lambda lease=lease: end(context, lease, TaskState.DONE, now) for lease in leases]
    goings = [lambda hook=hook: subscriptions.remove(context, hook.id) for hook in hooks]
    together([each for pair in zip(ends, goings, strict=True) for each in pair])
    assert {any_world.task(lease.task_id).state for lease in leases} == {TaskState.DONE}
    assert callbacks.due(context, now, limit=50) == []


def test_deleting_a_webhook_or_its_task_ends_the_deliveries(
    context: Context, run: Any, receiver: Receiver, now: datetime
) -> None:
    first, _ = subscriptions.create(context, receiver.url)
    second, _ = subscriptions.create(context, receiver.url)
    task_id = run()
    subscriptions.remove(context, first.id)
    assert len(callbacks.due(context, now, limit=50)) == 1
    with pytest.raises(WebhookNotFound):
        log_of(context, first)
    tasks.delete_task(context, task_id)
    assert log_of(context, second) == []
    assert send_all(context, now) == []


def test_a_ping_is_sent_once_whatever_becomes_of_it(context: Context, receiver: Receiver, now: datetime) -> None:
    receiver.react = answer(500)
    webhook, secret = subscriptions.create(context, receiver.url)
    first, second = ping(context, webhook, now), ping(context, webhook, now)
    assert first.id == second.id
    assert send_all(context, now) == [DeliveryState.FAILED]
    assert send_all(context, now + LATER) == []
    (request,) = receiver.requests
    assert is_genuine(request, secret, now)
    assert json.loads(request.body) == {
        "event": "webhook.ping",
        "delivery": str(first.id),
        "webhook": str(webhook.id),
        "status": "ping",
        "created_at": now.isoformat(),
        "links": {
            "webhook": f"http://volcal.test/api/v1/webhooks/{webhook.id}",
            "deliveries": f"http://volcal.test/api/v1/webhooks/{webhook.id}/deliveries",
        },
    }
    assert state_of(context, webhook).failing_since is None
    assert ping(context, webhook, now).id != first.id


def test_what_failed_is_sent_again_under_the_same_id_as_patiently_as_at_first(
    context: Context, run: Any, receiver: Receiver, now: datetime
) -> None:
    context = calling(context, callback_attempts=2)
    webhook, _ = subscriptions.create(context, receiver.url)
    receiver.react = answer(503)
    run()
    assert [send_all(context, now + n * LATER) for n in range(3)] == [
        [DeliveryState.PENDING],
        [DeliveryState.FAILED],
        [],
    ]
    (failed,) = log_of(context, webhook)
    again(context, webhook, failed, now + 3 * LATER)
    with pytest.raises(DeliveryNotFailed, match="pending"):
        again(context, webhook, failed, now + 3 * LATER)
    assert send_all(context, now + 3 * LATER) == [DeliveryState.PENDING]
    receiver.react = answer(200)
    assert send_all(context, now + 4 * LATER) == [DeliveryState.DELIVERED]
    (heard,) = log_of(context, webhook)
    assert [attempt["status"] for attempt in heard.tries] == [503, 503, 503, 200]
    assert len({request.headers["x-volcal-delivery"] for request in receiver.requests}) == 1
    assert len({request.body for request in receiver.requests}) == 1
    with pytest.raises(DeliveryNotFailed, match="delivered"):
        again(context, webhook, heard, now)


def test_a_webhook_that_nobody_hears_for_long_is_switched_off_and_on_again(
    context: Context, run: Any, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    context = calling(context, callback_attempts=2, webhook_patience_s=2 * 86_400.0)
    with dead_port() as port:
        webhook, _ = subscriptions.create(context, f"http://127.0.0.1:{port}/")
        run()
        assert [send_all(context, now + n * LATER) for n in range(2)] == [
            [DeliveryState.PENDING],
            [DeliveryState.FAILED],
        ]
        found = state_of(context, webhook)
        assert found.disabled_at is None
        assert found.failing_since is not None
        assert abs(found.failing_since - now) < timedelta(minutes=1)
        run(), run()
        states = [state for n in range(2, 4) for state in send_all(context, now + n * LATER)]
    assert states == [DeliveryState.PENDING, DeliveryState.PENDING, DeliveryState.FAILED, None]
    found = state_of(context, webhook)
    assert (found.disabled_why, found.disabled_at is None) == ("failing", False)
    assert {delivery.state for delivery in log_of(context, webhook)} == {DeliveryState.FAILED}
    assert any(vars(record).get("webhook") == str(webhook.id) for record in caplog.records)
    run()
    assert len(log_of(context, webhook)) == 3, "what happens meanwhile is not written down"
    with pytest.raises(WebhookDisabled):
        again(context, webhook, log_of(context, webhook)[0], now)
    with Receiver() as receiver:
        changes = {"enabled": True, "url": receiver.url}
        assert subscriptions.change(context, webhook.id, changes, now).disabled_at is None
        again(context, webhook, log_of(context, webhook)[0], now + 5 * LATER)
        assert send_all(context, now + 5 * LATER) == [DeliveryState.DELIVERED]
    assert state_of(context, webhook).failing_since is None


def test_a_receiver_that_is_gone_for_good_is_told_nothing_more(
    context: Context, run: Any, receiver: Receiver, now: datetime
) -> None:
    receiver.react = answer(410)
    webhook, _ = subscriptions.create(context, receiver.url)
    run(), run()
    assert sorted(map(str, send_all(context, now))) == ["None", "failed"]
    found = state_of(context, webhook)
    assert (found.disabled_why, len(receiver.requests)) == ("gone", 1)
    receiver.react = answer(200)
    ping(context, webhook, now)
    assert send_all(context, now) == [DeliveryState.DELIVERED], "whether it is back can be tried"
    assert state_of(context, webhook).disabled_why == "gone"


def test_one_success_forgives_the_failures_before(
    context: Context, run: Any, receiver: Receiver, now: datetime
) -> None:
    context = calling(context, callback_attempts=1, webhook_patience_s=1.0)
    webhook, _ = subscriptions.create(context, receiver.url)
    for status in (500, 200, 500):
        receiver.react = answer(status)
        run()
        send_all(context, now)
    found = state_of(context, webhook)
    assert found.disabled_at is None
    assert found.failing_since is not None


def test_while_a_secret_is_exchanged_both_are_good(
    context: Context, run: Any, receiver: Receiver, now: datetime
) -> None:
    webhook, old = subscriptions.create(context, receiver.url)
    _, new = subscriptions.rotate(context, webhook.id, grace=timedelta(hours=1), now=now)
    assert old != new
    run()
    send_all(context, now)
    ping(context, webhook, now + timedelta(hours=2))
    send_all(context, now + timedelta(hours=2))
    during, after = receiver.requests
    assert [is_genuine(during, secret, now) and standard(during, secret) for secret in (old, new)] == [True, True]
    later = now + timedelta(hours=2)
    assert [is_genuine(after, secret, later) or standard(after, secret) for secret in (old, new)] == [False, True]
    _, newest = subscriptions.rotate(context, webhook.id, grace=timedelta(0), now=later)
    ping(context, webhook, later)
    send_all(context, later)
    assert [is_genuine(receiver.requests[-1], secret, later) for secret in (new, newest)] == [False, True]


def test_a_changed_secret_of_the_deployment_is_told_and_not_signed_with(
    context: Context, run: Any, receiver: Receiver, now: datetime
) -> None:
    webhook, _ = subscriptions.create(context, receiver.url)
    moved = calling(context, callback_secret="another master")
    run()
    assert send_all(moved, now) == [DeliveryState.PENDING]
    assert "rotate it" in log_of(moved, webhook)[0].tries[0]["error"]
    assert receiver.requests == []
    _, secret = subscriptions.rotate(moved, webhook.id, grace=timedelta(0), now=now)
    assert send_all(moved, now + LATER) == [DeliveryState.DELIVERED]
    assert is_genuine(receiver.requests[0], secret, now + LATER)


def test_a_redirect_to_the_inside_is_an_attempt_that_failed(
    context: Context, run: Any, receiver: Receiver, now: datetime
) -> None:
    receiver.react = answer(307, Location="http://169.254.169.254/latest/meta-data/")
    webhook, _ = subscriptions.create(context, receiver.url)
    run()
    assert send_all(context, now) == [DeliveryState.PENDING]
    (attempt,) = log_of(context, webhook)[0].tries
    assert attempt["status"] is None
    assert "not one that may be called" in attempt["error"]


def test_a_new_url_takes_over_what_is_still_to_be_told(
    context: Context, run: Any, receiver: Receiver, now: datetime
) -> None:
    webhook, _ = subscriptions.create(context, "http://127.0.0.1:9/")
    run()
    subscriptions.change(context, webhook.id, {"url": receiver.url}, now)
    assert [host for _, host in callbacks.due(context, now, limit=9)] == [receiver.authority]
    assert send_all(context, now) == [DeliveryState.DELIVERED]


def test_the_list_of_deliveries_does_not_grow_for_ever(context: Context, receiver: Receiver, now: datetime) -> None:
    webhook, _ = subscriptions.create(context, receiver.url)
    for days in (0, 1, 40):
        ping(context, webhook, now + timedelta(days=days))
        assert send_all(context, now + timedelta(days=days)) == [DeliveryState.DELIVERED]
    assert [delivery.created_at for delivery in log_of(context, webhook)] == [now + timedelta(days=40)]
