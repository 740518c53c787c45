"""Tells a receiver that a task has ended: written down with the end itself, then sent until it is heard.

The row of a delivery is made in the transaction that ends the task, so there is one for each end and none for an end
that did not happen. Whoever sends it claims it first; who is killed meanwhile holds the claim for some seconds, then it
is sent again under the same id. A receiver that is away, or wants no more, changes nothing for the task.
"""

import json
import logging
import random
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from sqlalchemy import select

from app.db.models import Delivery, Task
from app.db.session import UnitOfWork
from app.domain.callbacks import DeliveryState, pause_s, signature
from app.domain.errors import UrlRefused, VolcalError
from app.services.ogc import telling

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


def announce(work: UnitOfWork, task_id: UUID, now: datetime) -> None:
    """Write down, in the transaction that ends a task, that its receivers are to be told; without one do nothing."""
    telling.announce(work, task_id, now)
    task = work.session.execute(
        select(
            Task.callback_url,
            Task.state,
            Task.pipeline,
            Task.name,
            Task.attempts,
            Task.created_at,
            Task.finished_at,
            Task.error,
        ).where(Task.id == task_id, Task.deleted_at.is_(None), Task.callback_url.is_not(None))
    ).one_or_none()
    if task is None:
        return
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
    delivery = Delivery(
        id=uuid4(),
        task_id=task_id,
        event=f"task.{task.state}",
        host=urlsplit(task.callback_url).netloc[:255],
        payload=payload,
        state=DeliveryState.PENDING,
        tries=[],
        created_at=now,
        due_at=now,
    )
    work.session.add(delivery)


def of_task(work: UnitOfWork, task_id: UUID) -> list[Delivery]:
    """Return a task's deliveries, oldest first."""
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
        .join(Task)
        .where(Delivery.state == DeliveryState.PENDING, Delivery.due_at <= now, Task.deleted_at.is_(None))
        .where(Delivery.host.not_in(list(but_not)), Delivery.id.not_in(list(under_way)))
        .order_by(Delivery.due_at)
        .limit(limit)
    )
    with context.unit_of_work(read_only=True) as work:
        return [(row.id, row.host) for row in work.session.execute(query)]


@dataclass(frozen=True, slots=True)
class _Claim:
    id: UUID
    task_id: UUID
    event: str
    url: str
    attempt: int
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
        select(Delivery, Task.callback_url)
        .join(Task)
        .where(Delivery.id == delivery_id, Delivery.state == DeliveryState.PENDING, Delivery.due_at <= now)
        .where(Task.deleted_at.is_(None))
        .with_for_update(of=Delivery)  # PostgreSQL; on SQLite the transaction itself is exclusive
    )
    with context.unit_of_work() as work:
        found = work.session.execute(query).one_or_none()
        if found is None or (url := found[0].url or found[1]) is None:
            return None
        row = found[0]
        if row.attempts >= context.policy.callback_attempts:  # whoever made the last one was killed
            row.state = DeliveryState.FAILED
            row.settled_at = now
            work.count("callbacks", outcome=str(DeliveryState.FAILED))
            work.commit()
            return None
        row.attempts += 1
        row.due_at = now + timedelta(seconds=context.policy.callback_timeout_s + _GRACE_S)
        row.tries = [*row.tries, {"at": now.isoformat(), "status": None, "error": None, "seconds": None}]
        body = _body(context, row)
        work.commit()
        return _Claim(row.id, row.task_id, row.event, url, row.attempts, body)


def _body(context: "Context", row: Delivery) -> bytes:
    """Return the body, which is the same for every attempt."""
    if row.event.startswith(telling.EVENT):
        return json.dumps(telling.body(context, row), separators=(",", ":"), allow_nan=False).encode("ascii")
    base = f"{context.policy.public_url}/api/v1/tasks/{row.task_id}"
    links = {"task": base, "deliveries": f"{base}/deliveries"}
    if row.payload["status"] == "done":
        links |= {"results": f"{base}/results", "artifacts": f"{base}/artifacts"}
    document = {"event": row.event, "delivery": str(row.id), **row.payload, "links": links}
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")


def _send(context: "Context", claim: _Claim, timestamp: int) -> tuple[int | None, str | None]:
    """Return the status of the answer, or why there is none. Of the answer itself nothing is kept: it is not ours."""
    secret = context.policy.callback_secret
    if secret is None:
        return None, str(UrlRefused("unsigned"))
    headers = {
        "Content-Type": "application/json",
        "X-Volcal-Event": claim.event,
        "X-Volcal-Delivery": str(claim.id),
        "X-Volcal-Timestamp": str(timestamp),
        "X-Volcal-Signature": signature(secret, timestamp, claim.body),
    }
    try:
        return context.web.post(claim.url, claim.body, headers=headers), None
    except (VolcalError, OSError) as error:
        return None, str(error)
    except Exception:
        log.exception("a callback could not be sent", extra={"task_id": str(claim.task_id), "delivery": str(claim.id)})
        return None, "It could not be sent; the log has more."


def _record(context: "Context", claim: _Claim, outcome: _Outcome, now: datetime) -> DeliveryState | None:
    """Write down what became of an attempt; None if the delivery is over or somebody else's by now."""
    with context.unit_of_work() as work:
        row = work.session.get(Delivery, claim.id, with_for_update=True)
        if row is None or row.state != DeliveryState.PENDING:
            return None
        at = claim.attempt - 1
        told: dict[str, Any] = {"status": outcome.status, "error": outcome.error, "seconds": outcome.seconds}
        row.tries = [*row.tries[:at], {**row.tries[at], **told}, *row.tries[at + 1 :]]
        state = DeliveryState.PENDING
        if outcome.is_success:  # even if our claim ran out meanwhile: heard is heard
            state = DeliveryState.DELIVERED
        elif row.attempts == claim.attempt:
            if outcome.status == _GONE or claim.attempt >= context.policy.callback_attempts:
                state = DeliveryState.FAILED
            else:
                pause = pause_s(claim.attempt, context.policy.callback_retry_s)
                row.due_at = now + timedelta(seconds=pause * random.uniform(0.8, 1.2))  # noqa: S311  (not a secret)
        row.state = state
        row.settled_at = None if state is DeliveryState.PENDING else now
        work.count("callbacks", outcome="retried" if state is DeliveryState.PENDING else str(state))
        work.commit()
    about = {"task_id": str(claim.task_id), "delivery": str(claim.id), "attempt": claim.attempt}
    level = logging.WARNING if state is DeliveryState.FAILED else logging.INFO
    log.log(level, "callback %s", state, extra={**about, "status": outcome.status, "said": outcome.error})
    return state
