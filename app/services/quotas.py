"""How much an owner may have at a time: tasks that are not finished, bytes of files, points of a survey."""

import hashlib
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text

from app.db.models import Task, Upload
from app.db.session import UnitOfWork
from app.domain.errors import ByteQuotaReached, TaskQuotaReached, UploadQuotaReached
from app.domain.tasks import TaskState, UploadState
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from app.context import Context, Policy

_UNFINISHED = (TaskState.WAITING, TaskState.PENDING, TaskState.RUNNING)


class PointQuotaReached(PipelineError):
    """A survey has more points than its owner may have looked at in a run."""

    code = "QUOTA_POINTS"

    def __init__(self, label: str, limit: int, points: int) -> None:
        super().__init__(
            f"The survey has {points:,} points; {limit:,} are allowed.",
            label=label,
            remedy="Crop it to the area of interest, or thin it out, and upload it again.",
            details={"limit": limit, "points": points},
        )


def unfinished(work: UnitOfWork, owner: str) -> int:
    """Return how many tasks of an owner are waiting, queued or running."""
    query = select(func.count()).where(Task.owner == owner, Task.state.in_(_UNFINISHED), Task.deleted_at.is_(None))
    return work.session.execute(query).scalar_one()


def held(work: UnitOfWork, owner: str, *, without: str = "") -> int:
    """Return the bytes of an owner's files that have arrived; results and files under way do not count.

    Args:
        work: The transaction.
        owner: Whose.
        without: An upload that does not count either.
    """
    query = (
        select(func.coalesce(func.sum(Upload.size), 0))
        .join(Task, Task.id == Upload.task_id)
        .where(
            Task.owner == owner,
            Task.deleted_at.is_(None),
            Upload.state != UploadState.SUPERSEDED,
            Upload.id != without,
        )
    )
    return int(work.session.execute(query).scalar_one() or 0)


def take_turn(work: UnitOfWork, owner: str) -> None:
    """Let transactions that count an owner's tasks and then add one follow each other, so that none is overlooked.

    On SQLite they do already.
    """
    if owner and work.session.get_bind().dialect.name == "postgresql":
        lock = int.from_bytes(hashlib.sha256(f"volcal quota {owner}".encode()).digest()[:8], signed=True)
        work.session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": lock})


def check_tasks(work: UnitOfWork, policy: "Policy", owner: str) -> None:
    """Refuse one more unfinished task where an owner has as many as are allowed; what is nobody's has no quota.

    Raises:
        TaskQuotaReached: If so.
    """
    if not owner or not policy.quota_tasks:
        return
    take_turn(work, owner)
    if (count := unfinished(work, owner)) >= policy.quota_tasks:
        raise TaskQuotaReached(owner, policy.quota_tasks, count)


def check_bytes(work: UnitOfWork, policy: "Policy", owner: str) -> None:
    """Refuse more files where an owner's hold too much already.

    Raises:
        ByteQuotaReached: If they do.
    """
    if owner and policy.quota_bytes and (size := held(work, owner)) >= policy.quota_bytes:
        raise ByteQuotaReached(owner, policy.quota_bytes, size)


def check_file(context: "Context", owner: str, upload_id: str, length: int) -> None:
    """Refuse a file of so many bytes, if its owner would hold too much with it.

    Raises:
        UploadQuotaReached: If so.
    """
    limit = context.policy.quota_bytes
    if not owner or not limit:
        return
    with context.unit_of_work(read_only=True) as work:
        size = held(work, owner, without=upload_id)
    if size + length > limit:
        raise UploadQuotaReached(limit, size, length)


def check_points(policy: "Policy", owner: str, label: str, points: int | None) -> None:
    """Refuse a survey of more points than its owner may have.

    Args:
        policy: How many are allowed.
        owner: Whose; what is nobody's has no quota.
        label: Which file.
        points: How many it has; None if it is no survey.

    Raises:
        PointQuotaReached: If so.
    """
    if owner and policy.quota_points and points is not None and points > policy.quota_points:
        raise PointQuotaReached(label, policy.quota_points, points)
