"""A file was opened, arrived, was looked at: one path for hooks, the tus endpoint, the janitor and the user.

A hook is a hint. Whoever hears of a finished upload calls ``finished``, which asks the gateway what is really
there, looks at the bytes, records the outcome once, and starts the task if it is complete. It may be called at
any time, by several at once, again and again.
"""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import CursorResult, select, update

from app.db.models import Task, Upload
from app.db.session import UnitOfWork
from app.domain import failures
from app.domain.errors import LabelUnknown, UploadClosed, UploadNotFound
from app.domain.keys import base_name, input_key, upload_id_of
from app.domain.ports import ReceivedFile
from app.domain.tasks import TaskState, UploadState
from app.services import queries, quotas
from app.services.following import logbook
from app.services.intake.arrivals import arrived
from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from app.context import Context

log = logging.getLogger(__name__)

TAKES_FILES = (TaskState.WAITING, TaskState.ERROR)


@dataclass(frozen=True, slots=True)
class Ticket:
    """An upload that was opened.

    Args:
        handle: What the upload gateway calls it.
        url: Where the client sends the bytes by the tus protocol.
    """

    id: str
    label: str
    url: str
    handle: str


def new_upload(context: "Context", task_id: UUID, label: str, filename: str = "") -> tuple[Upload, Ticket]:
    """Open an upload at the gateway; the row is the caller's to add.

    The gateway comes first: a URL without a row is harmless, a row without a URL is not.
    """
    upload_id = secrets.token_urlsafe(24)
    filename = base_name(filename)
    key = input_key(task_id, label, upload_id)
    handle = context.uploads.open(upload_id, key=key, filename=filename, task_id=task_id, label=label)
    row = Upload(
        id=upload_id,
        handle=handle,
        task_id=task_id,
        label=label,
        key=key,
        filename=filename,
        state=UploadState.OPEN,
        created_at=queries.utc_now(),
    )
    return row, Ticket(upload_id, label, context.uploads.url(handle), handle)


def open_upload(context: "Context", task_id: UUID, label: str, filename: str = "") -> Ticket:
    """Open a fresh upload for a label; what was sent for it before no longer counts.

    A task that ended in ``error`` waits again, unless another of its files is still rejected.

    Raises:
        TaskNotFound: If there is no such task.
        LabelUnknown: If its pipeline takes no such file.
        UploadClosed: If the task is queued, running or over.
        TaskQuotaReached: If it would wait again, and its owner has too many unfinished tasks.
        ByteQuotaReached: If the files of the task's owner hold too much.
    """
    with context.unit_of_work(read_only=True) as work:
        task = queries.get_task(work, task_id)
        check_open(context, task, label)
        quotas.check_bytes(work, context.policy, task.owner)
    row, ticket = new_upload(context, task_id, label, filename)
    try:
        replace(context, row)
    except BaseException:
        context.uploads.discard(ticket.handle)
        raise
    return ticket


def replace(context: "Context", row: Upload) -> None:
    """Add an upload whose label's others no longer count.

    Raises:
        VolcalError: As ``open_upload``.
    """
    with context.unit_of_work() as work:
        task = queries.get_task(work, row.task_id, lock=True)
        check_open(context, task, row.label)
        if task.state is TaskState.ERROR:  # it will wait again
            quotas.check_tasks(work, context.policy, task.owner)
        old = [u for u in task.uploads if u.label == row.label and u.state != UploadState.SUPERSEDED]
        for upload in old:
            _supersede(upload)
        work.session.add(row)
        work.session.flush()
        logbook.note(work, task.id, row.created_at, f"{row.label}: another file is expected.")
        _wait_again(work, task)
        work.commit()
    for upload in old:
        discard(context, upload)


def _supersede(upload: Upload) -> None:
    upload.state, upload.url, upload.due_at = UploadState.SUPERSEDED, None, None


def check_open(context: "Context", task: Task, label: str) -> None:
    """Refuse a file that a task does not take, or not now.

    Raises:
        LabelUnknown: If its pipeline takes no such file.
        UploadClosed: If the task is queued, running or over.
    """
    known = [slot.label for slot in context.catalogue[task.pipeline].inputs]
    if label not in known:
        raise LabelUnknown(label, known)
    if task.state not in TAKES_FILES:
        raise UploadClosed(f"The task is {task.state} and takes no files now.")


def _wait_again(work: UnitOfWork, task: Task) -> None:
    if task.state is not TaskState.ERROR:
        return
    work.session.refresh(task, ["uploads"])
    rejected = [u for u in queries.current(task.uploads).values() if u.state == UploadState.REJECTED]
    if rejected:
        task.error = rejected[0].error
        return
    queries.move(work, task, TaskState.WAITING, error=None, finished_at=None, progress=0.0)


def discard(context: "Context", upload: Upload) -> None:
    """Forget the bytes of an upload that no longer counts; what cannot be deleted now costs disk, nothing else."""
    try:
        if not upload.source:
            context.uploads.discard(upload.handle)
        context.store.delete_prefix(upload.key)
    except Exception:
        log.exception("the bytes of an upload could not be deleted", extra={"upload_label": upload.label})


def stop_open(context: "Context", task_id: UUID) -> None:
    """Stop whoever still sends files to a task that was killed: no byte more is taken."""
    with context.unit_of_work(read_only=True) as work:
        task = queries.get_task(work, task_id)
        doomed = [u for u in task.uploads if u.state == UploadState.OPEN and task.state is TaskState.KILLED]
    for upload in doomed:
        discard(context, upload)


def finished(context: "Context", upload_id: str) -> TaskState | None:
    """Find out whether an upload is whole, look at it, record it once, and start its task if that is complete.

    Safe to call at any time, from anywhere, again and again; what the caller heard is only a hint.

    Returns:
        The task's state afterwards; None if the upload is not whole yet.

    Raises:
        UploadNotFound: If no such upload was issued.
        OSError: If the store cannot be read just now; try again later.
    """
    with context.unit_of_work(read_only=True) as work:
        upload = work.session.get(Upload, upload_id)
        if upload is None or upload.task.deleted_at is not None:
            raise UploadNotFound
        task = upload.task
    if upload.state != UploadState.OPEN:
        return settle_files(context, task.id)
    if task.state in (TaskState.DONE, TaskState.KILLED):
        return task.state
    received = arrived(context, upload)
    if received is None:
        return None
    error = _inspect(context, task, upload, received)
    with context.unit_of_work() as work:
        task = queries.get_task(work, task.id, lock=True)
        news = _record(work, upload.id, received, error)
        work.session.refresh(task, ["uploads"])
        _reject_task(work, task)
        if news:
            _tell(work, upload, received, error)
        work.commit()
    return settle_files(context, task.id, news=news)


def _tell(work: UnitOfWork, upload: Upload, received: ReceivedFile, error: dict[str, Any] | None) -> None:
    """Count a file that has come, and log it once that is committed."""
    work.count("uploads", outcome=UploadState.FINISHED if error is None else UploadState.REJECTED)
    work.count("upload_bytes", received.size)
    about = {"task_id": str(upload.task_id), "label": upload.label, "bytes": received.size}
    refused = {} if error is None else {"code": error["code"], "said": error["message"]}
    name = f" ({upload.filename})" if upload.filename else ""
    logbook.note(
        work, upload.task_id, queries.utc_now(), f"{upload.label}: {received.size:,} bytes have arrived{name}."
    )
    work.after_commit(partial(log.info, "file refused" if error else "file arrived", extra=about | refused))


def _inspect(context: "Context", task: Task, upload: Upload, received: ReceivedFile) -> dict[str, Any] | None:
    inspect = context.catalogue.inspector(task.pipeline)
    if inspect is None:
        return None
    try:
        with context.store.open(received.key) as stream:
            points = inspect(upload.label, stream, received.size, upload.filename)
        quotas.check_points(context.policy, task.owner, upload.label, points)
    except PipelineError as error:
        return _with_route(context, task.id, error, upload.label)
    except OSError:
        raise
    except Exception:
        # A fault of the inspector must not cost the user a good file: the run looks again, and harder.
        log.exception("the inspector failed", extra={"task_id": str(task.id), "upload_label": upload.label})
    return None


def _with_route(context: "Context", task_id: UUID, error: PipelineError, label: str) -> dict[str, Any]:
    document = error.document()
    document["label"] = document["label"] or label
    url = f"{context.policy.public_url}/api/v1/tasks/{task_id}/uploads/{document['label']}"
    document["details"] = {**document["details"], "fresh_upload": {"method": "POST", "url": url}}
    return failures.plain(document)


def _record(work: UnitOfWork, upload_id: str, received: ReceivedFile, error: dict[str, Any] | None) -> bool:
    result = work.session.execute(
        update(Upload)
        .where(Upload.id == upload_id, Upload.state == UploadState.OPEN)
        .values(
            state=UploadState.FINISHED if error is None else UploadState.REJECTED,
            key=received.key,
            size=received.size,
            error=error,
            url=None,
            due_at=None,
            finished_at=queries.utc_now(),
        )
        .execution_options(synchronize_session=False)
    )
    assert isinstance(result, CursorResult)  # noqa: S101  (narrowing: an UPDATE has a row count)
    return result.rowcount == 1


def _reject_task(work: UnitOfWork, task: Task) -> None:
    rejected = [u for u in queries.current(task.uploads).values() if u.state == UploadState.REJECTED]
    if rejected and task.state is TaskState.WAITING:
        error = rejected[0].error or {}
        queries.settle(work, task, TaskState.ERROR, error, queries.utc_now())


def settle_files(context: "Context", task_id: UUID, *, news: bool = False) -> TaskState:
    """Check the files that are there against each other and start the task if none is missing.

    Args:
        context: The application's parts.
        task_id: Which task.
        news: Whether a file has just come; else files are checked against each other only once none is missing.

    Raises:
        TaskNotFound: If there is no such task.
    """
    with context.unit_of_work(read_only=True) as work:
        task = queries.get_task(work, task_id)
        if task.state is not TaskState.WAITING:
            return task.state
        found = queries.current(task.uploads)
        files = {k: u for k, u in found.items() if u.state == UploadState.FINISHED}
        # an optional file that somebody named is waited for; one that a client may yet send is not
        fetching = any(u.source and u.state == UploadState.OPEN for u in found.values())
    labels = context.catalogue[task.pipeline].labels
    complete = all(label in files for label in labels) and not fetching
    error = _check_together(context, task, files) if news or complete else None
    if error is None and not complete:
        return task.state
    with context.unit_of_work() as work:
        task = queries.get_task(work, task_id, lock=True)
        now_there = {k: u for k, u in queries.current(task.uploads).items() if u.state == UploadState.FINISHED}
        same = all(k in now_there and now_there[k].id == u.id for k, u in files.items())
        # Only what was looked at may start or end the task: a file replaced meanwhile has its own call.
        if task.state is TaskState.WAITING and same:
            if error is not None:
                _reject_together(work, task, now_there, error)
            else:
                queries.queue_task(work, context.queue, task, queries.utc_now(), context.catalogue.get(task.pipeline))
            work.commit()
        return task.state


def _check_together(context: "Context", task: Task, files: Mapping[str, Upload]) -> dict[str, Any] | None:
    for first, second, check in context.catalogue.pairs(task.pipeline):
        if first not in files or second not in files:
            continue
        one, other = files[first], files[second]
        try:
            with context.store.open(one.key) as stream, context.store.open(other.key) as against:
                check(stream, one.size or 0, against, other.size or 0)
        except PipelineError as error:
            return _with_route(context, task.id, error, second)
        except OSError:
            raise
        except Exception:
            log.exception("the check of two files failed", extra={"task_id": str(task.id)})
    return None


def _reject_together(work: UnitOfWork, task: Task, files: Mapping[str, Upload], error: dict[str, Any]) -> None:
    now = queries.utc_now()
    if (bad := files.get(error["label"] or "")) is not None:
        bad.state = UploadState.REJECTED
        bad.error = error
        work.session.flush()
    queries.settle(work, task, TaskState.ERROR, error, now)


def reconcile(context: "Context", task_id: UUID) -> TaskState:
    """Look at every open upload of a task as if its hook had come; start the task if it is complete.

    Raises:
        TaskNotFound: If there is no such task.
    """
    with context.unit_of_work(read_only=True) as work:
        queries.get_task(work, task_id)
        ids = work.session.execute(
            select(Upload.id).where(Upload.task_id == task_id, Upload.state == UploadState.OPEN)
        ).scalars()
        waiting = list(ids)
    for upload_id in waiting:
        finished(context, upload_id)
    return settle_files(context, task_id)


def expire(context: "Context", task_id: UUID, now: datetime, error: dict[str, Any]) -> bool:
    """Give up a task whose files did not come; False if they came after all."""
    with context.unit_of_work() as work:
        fresh = queries.get_task(work, task_id, lock=True)
        if fresh.state is not TaskState.WAITING:
            return False
        gone = list(fresh.uploads)
        for upload in gone:
            _supersede(upload)
        queries.settle(work, fresh, TaskState.KILLED, error, now)
        work.commit()
    for upload in gone:
        discard(context, upload)
    return True


def is_issued(context: "Context", key: str) -> bool:
    """Return whether the upload that a key is made for is known already, so that nobody may open it anew."""
    with context.unit_of_work(read_only=True) as work:
        return work.session.get(Upload, upload_id_of(key)) is not None


def owner_of(context: "Context", upload_id: str) -> str:
    """Return whose task an upload is for, which never changes.

    Raises:
        UploadNotFound: If no such upload was issued.
    """
    with context.unit_of_work(read_only=True) as work:
        found = work.session.execute(
            select(Task.owner).join(Upload, Upload.task_id == Task.id).where(Upload.id == upload_id)
        ).scalar_one_or_none()
    if found is None:
        raise UploadNotFound
    return found


def is_unwanted(context: "Context", upload_id: str) -> bool:
    """Return whether nobody waits for an upload any more, so that its sender may stop."""
    with context.unit_of_work(read_only=True) as work:
        upload = work.session.get(Upload, upload_id)
        if upload is None or upload.task.deleted_at is not None:
            return True
        return upload.state == UploadState.SUPERSEDED or upload.task.state in (TaskState.DONE, TaskState.KILLED)
