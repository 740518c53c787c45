"""The status of a job with its links, and what it waits for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from app.db.models import Task
from app.domain.tasks import TaskState
from app.services import tasks
from app.services.ogc.links import JSON, REL, job_href
from app.services.ogc.words import DISMISSED, FAILED, SUCCESSFUL, snapshot

if TYPE_CHECKING:
    from app.context import Context


def status_info(context: "Context", task: Task, *, status: str | None = None) -> dict[str, Any]:
    """Return ``statusInfo`` of the standard.

    Args:
        context: The application's parts.
        task: The job.
        status: What to say of its status in place of what the task says.
    """
    said = snapshot(task, status)
    if task.state is TaskState.WAITING and (missing := tasks.missing_of(context.catalogue, task)):
        said["message"] = f"Waiting for files: {', '.join(missing)}."
    return {**said, "links": list(_links(context, task, said["status"]))}


def _links(context: "Context", task: Task, status: str) -> Iterator[dict[str, Any]]:
    own = job_href(context, task.id)
    yield {"href": own, "rel": "self", "type": JSON, "title": "This job"}
    yield {"href": own, "rel": "monitor", "type": JSON, "title": "Its status"}
    if status == SUCCESSFUL:
        yield {"href": f"{own}/results", "rel": f"{REL}results", "type": JSON, "title": "Its results"}
    if status in (FAILED, DISMISSED):
        yield {"href": f"{own}/results", "rel": f"{REL}exceptions", "type": JSON, "title": "Why there are none"}
    elsewhere = f"{context.policy.public_url}/api/v1/tasks/{task.id}"
    yield {"href": elsewhere, "rel": "related", "type": JSON, "title": "The same as a task, with all of its files"}
