"""A request that creates a task and is sent twice creates one task.

A line can break after the request has arrived and before its answer has: the client cannot know, and asks again with
the same key. The first request claims the key, and names the task in the very transaction that makes it; so of those
that come at once, or after a crash, one at most makes a task. Each owner has keys of his own.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import CursorResult, delete, update
from sqlalchemy.exc import IntegrityError

from app.db.models import Repeat, Task
from app.db.session import UnitOfWork
from app.domain.repeats import IdempotencyKeyBusy, IdempotencyKeyReused, digest_of
from app.services import queries

if TYPE_CHECKING:
    from app.context import Context

_CLAIM_S = 60.0  # longer than creating a task takes; who is later than that makes none

Also = Callable[[UnitOfWork, Task], None]
"""Is done in the transaction that makes a task, and may raise to prevent it."""


@dataclass(frozen=True, slots=True)
class _Claim:
    owner: str
    digest: str
    token: str

    def settle(self, work: UnitOfWork, task: Task) -> None:
        """Note which task the request has made; raise if somebody else has taken over meanwhile."""
        result = work.session.execute(
            update(Repeat)
            .where(Repeat.owner == self.owner, Repeat.digest == self.digest)
            .where(Repeat.token == self.token, Repeat.task_id.is_(None))
            .values(task_id=task.id)
            .execution_options(synchronize_session=False)
        )
        assert isinstance(result, CursorResult)  # noqa: S101  (narrowing: an UPDATE has a row count)
        if result.rowcount != 1:
            raise IdempotencyKeyBusy


def once(context: "Context", key: str, fingerprint: str, create: Callable[[Also], UUID]) -> UUID:
    """Create a task unless this request has done so before; return the task of either.

    Args:
        context: The application's parts, as the caller sees them.
        key: Whichever the client chose.
        fingerprint: Tells this request from others.
        create: Creates the task, doing what it is given in the same transaction, and returns its id.

    Raises:
        IdempotencyKeyReused: If the key came with another request before.
        IdempotencyKeyBusy: If the first request with it is under way.
    """
    found = _claim(context, digest_of(key), fingerprint)
    if isinstance(found, UUID):
        return found
    try:
        return create(found.settle)
    except BaseException:
        with suppress(Exception):  # the database may be away: then the claim runs out by itself
            _release(context, found)
        raise


def _claim(context: "Context", digest: str, fingerprint: str) -> _Claim | UUID:
    try:
        with context.unit_of_work() as work:
            now = work.now()
            row = work.session.get(Repeat, (context.owner, digest), with_for_update=True)
            if row is not None and now - row.created_at < timedelta(seconds=context.policy.idempotency_ttl_s):
                if row.fingerprint != fingerprint:
                    raise IdempotencyKeyReused
                if row.task_id is not None:
                    return row.task_id
                if now < row.claimed_until:
                    raise IdempotencyKeyBusy
            if row is None:
                row = Repeat(owner=context.owner, digest=digest)
                work.session.add(row)
            row.fingerprint, row.token, row.task_id = fingerprint, secrets.token_hex(16), None
            row.created_at, row.claimed_until = now, now + timedelta(seconds=_CLAIM_S)
            work.commit()
            return _Claim(context.owner, digest, row.token)
    except IntegrityError:  # somebody else was faster by an instant
        raise IdempotencyKeyBusy from None


def _release(context: "Context", claim: _Claim) -> None:
    """Let the request be sent again: it made no task."""
    with context.unit_of_work() as work:
        work.session.execute(
            delete(Repeat)
            .where(Repeat.owner == claim.owner, Repeat.digest == claim.digest)
            .where(Repeat.token == claim.token, Repeat.task_id.is_(None))
            .execution_options(synchronize_session=False)
        )
        work.commit()


def forget(context: "Context", now: datetime) -> None:
    """Forget keys that are older than they are kept; does not write if there is none."""
    old = Repeat.created_at < now - timedelta(seconds=context.policy.idempotency_ttl_s)
    queries.forget(context, Repeat, old)
