"""Tells receivers what happened to a task: written down with the event itself, then sent until it is heard.

A receiver is that at the task's ``callback_url``, which is told of its end, or a webhook of its owner's. The row of a
delivery is made in the transaction that changes the task, so there is one for each event and none for one that did not
happen. Whoever sends it claims it first; who is killed meanwhile holds the claim for some seconds, then it
is sent again under the same id. A receiver that is away, or wants no more, changes nothing for the task.
"""

import json
import logging
import random
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from sqlalchemy import or_, select
from sqlalchemy.sql.elements import ColumnElement

from app.db.models import Delivery, Task, Webhook
from app.db.session import UnitOfWork
from app.domain.callbacks import DeliveryState, pause_s
from app.domain.callbacks.webhooks import ENDS, Event
from app.domain.errors import UrlRefused, VolcalError
from app.services.ogc import telling
from app.services.webhooks import health, signing

if TYPE_CHECKING:
    from app.context import Context

log = logging.getLogger(__name__)

_GONE = 410
_GRACE_S = 5.0  # of a claim beyond the time that a call may take
_TOLD = ("code", "label", "message", "remedy")  # of an error; its details may be long


def check(context: "Context", url: str) -> str:
    """Return a receiver's URL in its one form.

    Raises:
        UrlRefused: If it may not be called, or nothing could be signed.
    """
    if context.policy.callback_secret is None:
        raise UrlRefused("unsigned")
    return context.web.check(url)


def announce(work: UnitOfWork, task_id: UUID, event: Event, now: datetime) -> None:
    """Write down, in the transaction that changes a task, who is to be told of it; often nobody."""
    telling.announce(work, task_id, now)
    task = work.session.execute(
        select(
            Task.callback_url,
            Task.owner,
            Task.state,
            Task.pipeline,
            Task.name,
            Task.attempts,
            Task.created_at,
            Task.finished_at,
            Task.error,
        ).where(Task.id == task_id, Task.deleted_at.is_(None))
    ).one_or_none()
    if task is None:
        return
    receivers: list[tuple[UUID | None, str]] = list(_subscribed(work, task.owner, task.pipeline, event))
    if event in ENDS and task.callback_url is not None:
        receivers.append((None, urlsplit(task.callback_url).netloc[:255]))
    payload = {
        "id": str(task_id),
        "status": str(task.state),
        "pipeline": task.pipeline,
        "name": task.name,
        "attempts": task.attempts,
        "created_at": task.created_at.isoformat(),
        "finished_at": None if task.finished_at is None else task.finished_at.isoformat(),
        "error": None if task.error is None else {key: task.error.get(key) for key in _TOLD},
    }
    for webhook_id, host in receivers:
        delivery = Delivery(
            id=uuid4(),
            task_id=task_id,
            webhook_id=webhook_id,
            event=str(event),
            host=host,
            payload=payload,
            state=DeliveryState.PENDING,
            tries=[],
            created_at=now,
            due_at=now,
        )
        work.session.add(delivery)


def _subscribed(work: UnitOfWork, owner: str, pipeline: str, event: Event) -> Iterator[tuple[UUID, str]]:
    query = (
        select(Webhook.id, Webhook.host, Webhook.events, Webhook.pipelines)
        .where(Webhook.owner == owner, Webhook.disabled_at.is_(None))
        # whoever deletes one waits: else its going would undo the very change that is told
        .with_for_update(read=True, key_share=True)
    )
    for webhook_id, host, events, pipelines in work.session.execute(query):
        if event in events and (not pipelines or pipeline in pipelines):
            yield webhook_id, host


def of_task(work: UnitOfWork, task_id: UUID) -> list[Delivery]:
    """Return the deliveries that tell of a task, oldest first."""
    query = select(Delivery).where(Delivery.task_id == task_id).order_by(Delivery.created_at, Delivery.id)
    return list(work.session.execute(query).scalars())


def due(
    context: "Context", now: datetime, *, limit: int, but_not: Collection[str] = (), under_way: Collection[UUID] = ()
) -> list[tuple[UUID, str]]:
    """Return deliveries to be sent now, each with its receiver's host, the longest due first.

    Args:
        context: The application's parts.
        now: The present, UTC.
        limit: How many at most.
        but_not: Hosts that have enough to do.
        under_way: Deliveries that the caller has at hand.
    """
    query = (
        select(Delivery.id, Delivery.host)
        .outerjoin(Task)
        .where(Delivery.state == DeliveryState.PENDING, Delivery.due_at <= now, _is_wanted())
        .where(Delivery.host.not_in(list(but_not)), Delivery.id.not_in(list(under_way)))
        .order_by(Delivery.due_at)
        .limit(limit)
    )
    with context.unit_of_work(read_only=True) as work:
        return [(row.id, row.host) for row in work.session.execute(query)]


def _is_wanted() -> ColumnElement[bool]:
    return or_(Delivery.task_id.is_(None), Task.deleted_at.is_(None))


@dataclass(frozen=True, slots=True)
class _Claim:
    id: UUID
    about: dict[str, str]
    event: str
    webhook_id: UUID | None
    url: str
    secrets: tuple[str, ...]
    unsigned: str  # why there are none
    attempt: int
    place: int  # in the list of tries, which grows even if the attempts are counted anew
    body: bytes


@dataclass(frozen=True, slots=True)
class _Outcome:
    status: int | None
    error: str | None
    seconds: float

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def deliver(context: "Context", delivery_id: UUID, now: datetime) -> DeliveryState | None:
    """Try once to tell a receiver; return where the delivery stands then, None if somebody else has it.

    Args:
        context: The application's parts.
        delivery_id: Which delivery.
        now: The present, UTC.
    """
    claim = _claim(context, delivery_id, now)
    if claim is None:
        return None
    began = time.monotonic()
    status, error = _send(context, claim, int(now.timestamp()))
    seconds = time.monotonic() - began
    outcome = _Outcome(status, error, round(seconds, 3))
    return _record(context, claim, outcome, now + timedelta(seconds=seconds))


def _claim(context: "Context", delivery_id: UUID, now: datetime) -> _Claim | None:
    query = (
        select(Delivery, Task.callback_url, Webhook)
        .outerjoin(Task, Task.id == Delivery.task_id)
        .outerjoin(Webhook, Webhook.id == Delivery.webhook_id)
        .where(Delivery.id == delivery_id, Delivery.state == DeliveryState.PENDING, Delivery.due_at <= now)
        .where(_is_wanted())
        .with_for_update(of=Delivery)  # PostgreSQL; on SQLite the transaction itself is exclusive
    )
    with context.unit_of_work() as work:
        found = work.session.execute(query).one_or_none()
        if found is None:
            return None
        row, url, webhook = found
        url = row.url or url if webhook is None else webhook.url
        if url is None:
            return None
        off = webhook is not None and webhook.disabled_at is not None and row.event != Event.PING
        if off or row.attempts >= _attempts(context, row.event):  # whoever made the last one was killed
            row.state = DeliveryState.FAILED
            row.settled_at = now
            work.count("callbacks", outcome=str(DeliveryState.FAILED))
            work.commit()
            return None
        row.attempts += 1
        row.due_at = now + timedelta(seconds=context.policy.callback_timeout_s + _GRACE_S)
        row.tries = [*row.tries, {"at": now.isoformat(), "status": None, "error": None, "seconds": None}]
        secrets, unsigned = signing.secrets_of(context.policy, webhook, now)
        body, place = _body(context, row), len(row.tries) - 1
        work.commit()
        return _Claim(row.id, _about(row), row.event, row.webhook_id, url, secrets, unsigned, row.attempts, place, body)


def _attempts(context: "Context", event: str) -> int:
    """Return how often to try: who tests a receiver wants to know, not to be waited for."""
    return 1 if event == Event.PING else context.policy.callback_attempts


def _about(row: Delivery) -> dict[str, str]:
    """Return what a line of log says of a delivery."""
    known = {"task_id": row.task_id, "webhook": row.webhook_id, "delivery": row.id}
    return {name: str(value) for name, value in known.items() if value is not None}


def _body(context: "Context", row: Delivery) -> bytes:
    """Return the body, which is the same for every attempt."""
    if row.event.startswith(telling.EVENT):
        return json.dumps(telling.body(context, row), separators=(",", ":"), allow_nan=False).encode("ascii")
    links: dict[str, str] = {}
    base = f"{context.policy.public_url}/api/v1"
    if row.task_id is not None:
        task = f"{base}/tasks/{row.task_id}"
        links |= {"task": task, "deliveries": f"{task}/deliveries"}
        if row.payload["status"] == "done":
            links |= {"results": f"{task}/results", "artifacts": f"{task}/artifacts"}
    document = {"event": row.event, "delivery": str(row.id)}
    if row.webhook_id is not None:
        webhook = f"{base}/webhooks/{row.webhook_id}"
        links |= {"webhook": webhook, "deliveries": f"{webhook}/deliveries"}
        document["webhook"] = str(row.webhook_id)
    return json.dumps({**document, **row.payload, "links": links}, separators=(",", ":"), allow_nan=False).encode()


def _send(context: "Context", claim: _Claim, timestamp: int) -> tuple[int | None, str | None]:
    """Return the status of the answer, or why there is none. Of the answer itself nothing is kept: it is not ours."""
    if not claim.secrets:
        return None, claim.unsigned
    headers = signing.headers(
        claim.secrets, event=claim.event, delivery=str(claim.id), timestamp=timestamp, body=claim.body
    )
    try:
        return context.web.post(claim.url, claim.body, headers=headers), None
    except (VolcalError, OSError) as error:
        return None, str(error)
    except Exception:
        log.exception("a callback could not be sent", extra=claim.about)
        return None, "It could not be sent; the log has more."


def _record(context: "Context", claim: _Claim, outcome: _Outcome, now: datetime) -> DeliveryState | None:
    """Write down what became of an attempt; None if the delivery is over or somebody else's by now."""
    with context.unit_of_work() as work:
        webhook = None
        if claim.webhook_id is not None:  # first, as by all who change one and its deliveries
            webhook = work.session.get(Webhook, claim.webhook_id, with_for_update={"key_share": True})
        row = work.session.get(Delivery, claim.id, with_for_update=True)
        if row is None or row.state != DeliveryState.PENDING:
            return None
        at, gone = claim.place, outcome.status == _GONE
        told: dict[str, Any] = {"status": outcome.status, "error": outcome.error, "seconds": outcome.seconds}
        row.tries = [*row.tries[:at], {**row.tries[at], **told}, *row.tries[at + 1 :]]
        state = DeliveryState.PENDING
        if outcome.is_success:  # even if our claim ran out meanwhile: heard is heard
            state = DeliveryState.DELIVERED
        elif len(row.tries) == at + 1:
            if gone or claim.attempt >= _attempts(context, claim.event):
                state = DeliveryState.FAILED
            else:
                pause = pause_s(claim.attempt, context.policy.callback_retry_s)
                row.due_at = now + timedelta(seconds=pause * random.uniform(0.8, 1.2))  # noqa: S311  (not a secret)
        row.state = state
        row.settled_at = None if state is DeliveryState.PENDING else now
        if webhook is not None:
            health.note(work, webhook, row, gone=gone, now=now, patience_s=context.policy.webhook_patience_s)
        work.count("callbacks", outcome="retried" if state is DeliveryState.PENDING else str(state))
        work.commit()
    level = logging.WARNING if state is DeliveryState.FAILED else logging.INFO
    more = {"attempt": claim.attempt, "status": outcome.status, "said": outcome.error}
    log.log(level, "callback %s", state, extra={**claim.about, **more})
    return state
