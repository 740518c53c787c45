"""Which files are to be fetched, who does it, and what became of it: every step is a compare-and-set.

Whoever fetches a file claims it for some seconds, and again and again while bytes come. Who is killed leaves a claim
that runs out; whoever looks next takes up the fetch where it stands. The fence grows with each claim, so of two who
believe that they have one, one changes nothing.
"""

import logging
import random
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import CursorResult, exists, select, update
from sqlalchemy.orm import aliased
from sqlalchemy.sql.elements import ColumnElement

from app.db.models import Task, Upload
from app.db.session import UnitOfWork
from app.domain import failures
from app.domain.fetching import FetchProblem, Known, failed
from app.domain.keys import base_name
from app.domain.tasks import TaskState, UploadState
from app.services import queries, uploads

if TYPE_CHECKING:
    from app.context import Context

log = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 60.0
_OF = aliased(Task)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to fetch one file for some seconds, and all that is needed for it."""

    upload_id: str
    task_id: UUID
    owner: str
    label: str
    url: str
    host: str
    key: str
    fence: int
    created_at: datetime
    known: Known


@dataclass(frozen=True, slots=True)
class Due:
    """A file that is to be fetched now."""

    upload_id: str
    host: str
    owner: str


def _wanted() -> list[ColumnElement[bool]]:
    """Return what holds of a file that its task still waits for."""
    return [
        Upload.state == UploadState.OPEN,
        Upload.url.is_not(None),
        exists().where(_OF.id == Upload.task_id, _OF.state.in_(uploads.TAKES_FILES), _OF.deleted_at.is_(None)),
    ]


def due(
    context: "Context",
    now: datetime,
    *,
    limit: int,
    but_not: Collection[str] = (),
    not_for: Collection[str] = (),
    under_way: Collection[str] = (),
) -> list[Due]:
    """Return files to be fetched now, the longest due first.

    Args:
        context: The application's parts.
        now: The present, UTC.
        limit: How many at most.
        but_not: Hosts that have enough to do.
        not_for: Owners whose files take enough places.
        under_way: Uploads that the caller has at hand.
    """
    query = (
        select(Upload.id, Upload.source, Task.owner)
        .join(Task)
        .where(*_wanted(), Upload.due_at <= now)
        .where(Upload.source.not_in(list(but_not)), Task.owner.not_in(list(not_for)))
        .where(Upload.id.not_in(list(under_way)))
        .order_by(Upload.due_at)
        .limit(limit)
    )
    with context.unit_of_work(read_only=True) as work:
        return [Due(*row) for row in work.session.execute(query)]


def wanted(context: "Context", upload_ids: Collection[str]) -> set[str]:
    """Return those of some uploads that are still to be fetched."""
    with context.unit_of_work(read_only=True) as work:
        return set(work.session.execute(select(Upload.id).where(Upload.id.in_(list(upload_ids)), *_wanted())).scalars())


def claim(context: "Context", upload_id: str) -> Claim | None:
    """Take a file that is due; None if somebody else has it, or nobody wants it any more."""
    with context.unit_of_work() as work:
        now = work.now()
        taken = _write(
            work,
            upload_id,
            *_wanted(),
            Upload.due_at <= now,
            fence=Upload.fence + 1,
            due_at=_until(context, now),
        )
        if not taken:
            return None
        row, owner = work.session.execute(select(Upload, Task.owner).join(Task).where(Upload.id == upload_id)).one()
        work.commit()
    return Claim(
        upload_id=row.id,
        task_id=row.task_id,
        owner=owner,
        label=row.label,
        url=row.url or "",
        host=row.source,
        key=row.key,
        fence=row.fence,
        created_at=row.created_at,
        known=Known(row.received, row.length, row.validator, row.filename),
    )


def hold(context: "Context", claim: Claim, known: Known) -> bool:
    """Say how far the fetch is, which renews the claim; False if nobody wants it any more, or somebody else has it."""
    with context.unit_of_work() as work:
        now = work.now()
        held = _write(work, claim.upload_id, *_held(claim), due_at=_until(context, now), **_progress(known, now))
        work.commit()
        return held


def put_off(context: "Context", claim: Claim, problem: FetchProblem, known: Known) -> bool:
    """Note that a fetch did not work, to be tried again or given up; return whether it will be tried again."""
    with context.unit_of_work() as work:
        now = work.now()
        row = work.session.get(Upload, claim.upload_id)
        if row is None:
            return False
        is_further = (
            known.received > row.reached
        )  # than ever: a host that sends the same again and again does not count
        count = 1 if is_further else row.failures + 1
        over = (now - claim.created_at).total_seconds() > context.policy.fetch_timeout_s
        if problem.passing and count < context.policy.fetch_attempts and not over:
            pause_s = max(problem.retry_s, min(2.0 ** (count - 1), _LONGEST_PAUSE_S) * random.uniform(0.7, 1.0))  # noqa: S311  (not a secret)
            due_at = now + timedelta(seconds=pause_s)
            progress = _progress(known, now if is_further else None)
            reached = max(row.reached, known.received)
            _write(work, claim.upload_id, *_held(claim), failures=count, reached=reached, due_at=due_at, **progress)
            work.commit()
            log.info("a fetch is tried again: %s", problem, extra={**_about(claim), "bytes": known.received})
            return True
    _give_up(context, claim, failed(problem, claim.label, claim.host))
    return False


def hand_back(context: "Context", claim: Claim, known: Known) -> None:
    """Let anybody go on with a fetch at once, as one does who is asked to stop."""
    with context.unit_of_work() as work:
        now = work.now()
        _write(work, claim.upload_id, *_held(claim), due_at=now, **_progress(known, now))
        work.commit()


def _give_up(context: "Context", claim: Claim, error: dict[str, Any]) -> None:
    """End a fetch for good, and with it its task, until a fresh upload or another URL comes."""
    url = f"{context.policy.public_url}/api/v1/tasks/{claim.task_id}/uploads/{claim.label}"
    error["details"] = {**error["details"], "fresh_upload": {"method": "POST", "url": url}}
    document = failures.plain(error)
    with context.unit_of_work() as work:
        now = work.now()
        task = queries.get_task(work, claim.task_id, lock=True)
        refused = _write(
            work,
            claim.upload_id,
            *_held(claim),
            state=UploadState.REJECTED,
            error=document,
            url=None,
            due_at=None,
            finished_at=now,
        )
        if refused:
            if task.state is TaskState.WAITING:
                queries.settle(work, task, TaskState.ERROR, document, now)
            work.count("uploads", outcome=UploadState.REJECTED)
            said = {**_about(claim), "code": document["code"], "said": document["message"]}
            work.after_commit(partial(log.info, "file not fetched", extra=said))
        work.commit()


def _about(claim: Claim) -> dict[str, Any]:
    return {"task_id": str(claim.task_id), "label": claim.label, "host": claim.host}


def _held(claim: Claim) -> list[ColumnElement[bool]]:
    return [*_wanted(), Upload.fence == claim.fence]


def _until(context: "Context", now: datetime) -> datetime:
    return now + timedelta(seconds=context.policy.lease_s)


def _progress(known: Known, now: datetime | None) -> dict[str, Any]:
    values: dict[str, Any] = {"received": known.received, "length": known.length, "validator": known.validator[:512]}
    if name := base_name(known.filename):
        values["filename"] = name
    return {**values, "moved_at": now} if known.received and now is not None else values


def _write(work: UnitOfWork, upload_id: str, *where: ColumnElement[bool], **values: Any) -> bool:
    change = update(Upload).where(Upload.id == upload_id, *where).values(**values)
    result = work.session.execute(change.execution_options(synchronize_session=False))
    assert isinstance(result, CursorResult)  # noqa: S101  (narrowing: an UPDATE has a row count)
    return result.rowcount == 1
