"""A task's state in the words of the standard, and what else is told of a job without asking anybody."""

from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from app.domain.tasks import TaskState

ACCEPTED, RUNNING, SUCCESSFUL, FAILED, DISMISSED = "accepted", "running", "successful", "failed", "dismissed"
STATUS = {
    TaskState.WAITING: ACCEPTED,
    TaskState.PENDING: ACCEPTED,
    TaskState.RUNNING: RUNNING,
    TaskState.DONE: SUCCESSFUL,
    TaskState.ERROR: FAILED,
    TaskState.KILLED: DISMISSED,
}
_MESSAGES = {ACCEPTED: "Queued.", RUNNING: "Running.", SUCCESSFUL: "Done.", FAILED: "Failed."}


class Facts(Protocol):
    """What a status is told from: a task, or these columns of its row."""

    @property
    def id(self) -> UUID: ...  # noqa: D102
    @property
    def state(self) -> TaskState: ...  # noqa: D102
    @property
    def pipeline(self) -> str: ...  # noqa: D102
    @property
    def stage(self) -> str: ...  # noqa: D102
    @property
    def progress(self) -> float: ...  # noqa: D102
    @property
    def cancel_requested(self) -> bool: ...  # noqa: D102
    @property
    def error(self) -> dict[str, Any] | None: ...  # noqa: D102
    @property
    def created_at(self) -> datetime: ...  # noqa: D102
    @property
    def queued_at(self) -> datetime | None: ...  # noqa: D102
    @property
    def started_at(self) -> datetime | None: ...  # noqa: D102
    @property
    def finished_at(self) -> datetime | None: ...  # noqa: D102


def status_of(task: Facts) -> str:
    """Return a task's status."""
    return DISMISSED if task.cancel_requested and not task.state.is_settled else STATUS[task.state]


def snapshot(task: Facts, status: str | None = None) -> dict[str, Any]:
    """Return ``statusInfo`` of the standard, without links.

    Args:
        task: The job.
        status: What to say of its status in place of what the task says.
    """
    status = status or status_of(task)
    moments = {"created": task.created_at, "started": task.started_at, "finished": task.finished_at}
    known = [moment for moment in (*moments.values(), task.queued_at) if moment is not None]
    return {
        "jobID": str(task.id),
        "processID": task.pipeline,
        "type": "process",
        "status": status,
        "message": _message(task, status),
        **{name: moment.isoformat() for name, moment in moments.items() if moment is not None},
        "updated": max(known).isoformat(),
        "progress": 100 if status == SUCCESSFUL else max(0, min(99, round(100 * task.progress))),
    }


def _message(task: Facts, status: str) -> str:
    if task.error is not None:
        return " ".join(filter(None, (task.error.get("message"), task.error.get("remedy"))))
    if status == DISMISSED:
        return "The job is being dismissed." if task.cancel_requested else "The job was dismissed."
    return task.stage or _MESSAGES[status]
