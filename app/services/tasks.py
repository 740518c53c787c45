"""What a user may do to a task: create, start, cancel, restart, look at, delete."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from pydantic import ValidationError
from sqlalchemy import select, tuple_
from sqlalchemy.orm import defer
from sqlalchemy.sql.elements import ColumnElement

from app.db.models import Aged, Task
from app.db.session import UnitOfWork
from app.domain import failures
from app.domain.errors import (
    IllegalTransition,
    InputsMissing,
    NotReady,
    ObjectNotFound,
    OptionsInvalid,
    PipelineNotFound,
    ResultExpired,
    TaskNotFound,
)
from app.domain.keys import task_prefix
from app.domain.tasks import TaskState
from app.services import callbacks, queries, quotas, steps, uploads
from app.services.following import logbook
from app.services.intake import inputs as named
from app.services.steps import StepView
from app.services.uploads import Ticket

if TYPE_CHECKING:
    from app.context import Context
    from app.services.intake.repeats import Also
    from pipeline.contracts import Spec
    from pipeline.registry import Catalogue

log = logging.getLogger(__name__)

_RESTARTABLE = (TaskState.ERROR, TaskState.KILLED)


@dataclass(frozen=True, slots=True)
class View:
    """A task as somebody looks at it.

    Args:
        missing: Labels of required files that have not arrived, in the pipeline's order.
        queue_position: 1 for the next to be served; None if the task is not queued.
        steps: Of its pipeline, in order, if there are several.
    """

    task: Task
    missing: list[str]
    queue_position: int | None
    steps: list[StepView]


def find_spec(catalogue: "Catalogue", name: str) -> "Spec":
    """Return a pipeline.

    Raises:
        PipelineNotFound: If there is none of that name.
    """
    spec = catalogue.get(name)
    if spec is None:
        raise PipelineNotFound(name, catalogue)
    return spec


def check_options(context: "Context", spec: "Spec", options: dict[str, Any]) -> dict[str, Any]:
    """Return the options as the pipeline will read them, defaults included.

    Raises:
        OptionsInvalid: If they do not fit, saying which and why.
        PipelineError: If the pipeline, looking at them, sees that they can come to no good end.
    """
    try:
        params = spec.params.model_validate(options)
        checked = params.model_dump(mode="json")
        json.dumps(checked, allow_nan=False)
    except ValidationError as error:
        problems = [
            {"field": ".".join(str(part) for part in p["loc"]) or "options", "message": p["msg"]}
            for p in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise OptionsInvalid(problems) from None
    except ValueError:
        raise OptionsInvalid([{"field": "options", "message": "NaN and Infinity are not numbers of JSON."}]) from None
    context.catalogue.preflight(spec.name, params, context.site)
    return checked


def create_task(
    context: "Context",
    pipeline: str = "volume_change",
    options: dict[str, Any] | None = None,
    name: str = "",
    callback_url: str | None = None,
    inputs: Mapping[str, str] | None = None,
    *,
    also: "Also | None" = None,
) -> tuple[Task, list[Ticket]]:
    """Open a task, and an upload for each file that it needs and that is not named by a URL.

    One that takes no files is queued at once.

    Args:
        context: The application's parts.
        pipeline: What to run.
        options: Options of the pipeline.
        name: For people.
        callback_url: Who is told when the task ends.
        inputs: By label, URLs from which files are fetched, optional ones as well.
        also: Done in the transaction that makes the task; may raise to prevent it.

    Raises:
        PipelineNotFound: If there is no such pipeline.
        OptionsInvalid: If the options do not fit it.
        PipelineError: If the options can come to no good end.
        UrlRefused: If the callback's URL may not be called, or nothing may be fetched from an input's.
        LabelUnknown: If the pipeline takes no such file.
        TaskQuotaReached: If whoever asks has too many unfinished tasks.
        ByteQuotaReached: If their files hold too much.
    """
    spec = find_spec(context.catalogue, pipeline)
    urls = named.check(context, spec, inputs or {})
    task = Task(
        id=uuid4(),
        owner=context.owner,
        pipeline=pipeline,
        name=name,
        options=check_options(context, spec, options or {}),
        state=TaskState.WAITING,
        queue=spec.steps[0].queue,
        callback_url=None if callback_url is None else callbacks.check(context, callback_url),
        created_at=queries.utc_now(),
    )
    if task.owner:  # asked before uploads are opened, and again where nobody can come in between
        with context.unit_of_work(read_only=True) as work:
            quotas.check_tasks(work, context.policy, task.owner)
            quotas.check_bytes(work, context.policy, task.owner)
    tickets: list[Ticket] = []
    try:
        task.uploads += [named.new_input(task.id, label, url) for label, url in urls.items()]
        for label in (label for label in spec.labels if label not in urls):
            row, ticket = uploads.new_upload(context, task.id, label)
            task.uploads.append(row)
            tickets.append(ticket)
        with context.unit_of_work() as work:
            quotas.check_tasks(work, context.policy, task.owner)
            _add(context, work, spec, task, also)
            work.commit()
    except BaseException:
        for ticket in tickets:
            context.uploads.discard(ticket.handle)
        raise
    log.info("created", extra={"task_id": str(task.id), "pipeline": pipeline})
    return task, tickets


def _add(context: "Context", work: UnitOfWork, spec: "Spec", task: Task, also: "Also | None") -> None:
    work.session.add(task)
    work.count("tasks_created", pipeline=task.pipeline)
    logbook.note(work, task.id, task.created_at, f"Created for {task.pipeline}.")
    if also is not None:
        also(work, task)
    if not spec.inputs:
        queries.queue_task(work, context.queue, task, queries.utc_now(), spec)


def describe(work: UnitOfWork, catalogue: "Catalogue", task_id: UUID) -> View:
    """Look at a task.

    Raises:
        TaskNotFound: If there is no such task.
    """
    task = queries.get_task(work, task_id)
    queue_position = queries.queue_position(work, task)
    return View(task, missing_of(catalogue, task), queue_position, steps.of(work, catalogue, task))


def missing_of(catalogue: "Catalogue", task: Task) -> list[str]:
    """Return the labels of required files that have not arrived; empty if the pipeline is gone since."""
    spec = catalogue.get(task.pipeline)
    return [] if spec is None else queries.missing(spec.labels, task.uploads)


def list_tasks(
    work: UnitOfWork,
    *,
    status: TaskState | None = None,
    pipeline: str | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 50,
    also: Iterable[ColumnElement[bool]] = (),
) -> list[Task]:
    """Return up to ``limit`` tasks, newest first; their documents and artifacts are left in the database.

    Args:
        work: The transaction.
        status: Only tasks in this state.
        pipeline: Only tasks of this pipeline.
        before: Time of creation and id of the last task already seen.
        limit: How many at most.
        also: What else is asked of them.
    """
    there = select(Task).where(Task.deleted_at.is_(None), *queries.seen(work), *also)
    there = there.options(defer(Task.document), defer(Task.artifacts))  # which may be large, and which no list shows
    query = there.order_by(Task.created_at.desc(), Task.id.desc()).limit(limit)
    if status is not None:
        query = query.where(Task.state == status)
    if pipeline is not None:
        query = query.where(Task.pipeline == pipeline)
    if before is not None:
        query = query.where(tuple_(Task.created_at, Task.id) < tuple_(*before))
    return list(work.session.execute(query).scalars())


def start_task(context: "Context", task_id: UUID) -> TaskState:
    """Start a task whose files are all there; one that is queued or running is left as it is.

    Looks for files whose hook was lost first. A task that failed or was killed is run again.

    Raises:
        TaskNotFound: If there is no such task.
        InputsMissing: If files are still to come, or were rejected.
        IllegalTransition: If the task is done.
    """
    uploads.reconcile(context, task_id)
    with context.unit_of_work() as work:
        task = queries.get_task(work, task_id, lock=True)
        if task.state in (TaskState.PENDING, TaskState.RUNNING):
            return task.state
        if task.state is TaskState.WAITING:
            if missing := missing_of(context.catalogue, task):
                raise InputsMissing(missing)
            return task.state  # its last file came this instant, and whoever brought it starts the task
        _run_again(context, work, task, None)
        work.commit()
        return task.state


def restart(context: "Context", task_id: UUID, options: dict[str, Any] | None = None) -> TaskState:
    """Run a task again that failed or was killed, with other options if some are given.

    Raises:
        TaskNotFound: If there is no such task.
        InputsMissing: If files are missing or were rejected.
        OptionsInvalid: If the options do not fit the pipeline.
        IllegalTransition: If the task is waiting, queued, running or done.
    """
    with context.unit_of_work() as work:
        task = queries.get_task(work, task_id, lock=True)
        _run_again(context, work, task, options)
        work.commit()
        return task.state


def _run_again(context: "Context", work: UnitOfWork, task: Task, options: dict[str, Any] | None) -> None:
    if task.state not in _RESTARTABLE:
        raise IllegalTransition(task.state, TaskState.PENDING)
    spec = find_spec(context.catalogue, task.pipeline)
    if missing := queries.missing(spec.labels, task.uploads):
        raise InputsMissing(missing)
    quotas.check_tasks(work, context.policy, task.owner)
    if options is not None:
        task.options = check_options(context, spec, options)
        work.session.flush()
    # Steps that are done need not be done again, unless other options would change what they handed on.
    first = spec if options is not None or task.step >= len(spec.steps) else None
    if first is None:
        task.progress = task.step / len(spec.steps)
        work.session.flush()
    queries.queue_task(work, context.queue, task, queries.utc_now(), first)


def cancel_task(work: UnitOfWork, task_id: UUID) -> TaskState:
    """Stop a task: at once if no worker has it, else as soon as its worker notices; asking twice is harmless.

    Raises:
        TaskNotFound: If there is no such task.
        IllegalTransition: If the task is over.
    """
    task = queries.get_task(work, task_id, lock=True)
    if task.state is TaskState.RUNNING:
        if not task.cancel_requested:
            logbook.note(work, task_id, queries.utc_now(), "Its run is being stopped, as asked.", attempt=task.attempts)
        task.cancel_requested = True
        work.session.flush()
    elif task.state.is_settled:
        raise IllegalTransition(task.state, TaskState.KILLED)
    else:
        queries.settle(work, task, TaskState.KILLED, failures.cancelled(), queries.utc_now())
    return task.state


def results(work: UnitOfWork, task_id: UUID) -> Task:
    """Return a task that has its result.

    Raises:
        TaskNotFound: If there is no such task.
        ResultExpired: If there was one, which was deleted for its age.
        NotReady: If it is not done.
    """
    try:
        task = queries.get_task(work, task_id)
    except TaskNotFound:
        if queries.has_aged(work, task_id):
            raise ResultExpired from None
        raise
    if task.state is not TaskState.DONE or task.document is None:
        raise NotReady(task.state)
    return task


def artifact(task: Task, name: str) -> dict[str, Any]:
    """Return one file of a finished task: name, media_type, title, key, size.

    Raises:
        ObjectNotFound: If the task has no such file.
    """
    for found in task.artifacts or []:
        if found["name"] == name:
            return found
    raise ObjectNotFound(name)


def delete_task(context: "Context", task_id: UUID, *, aged: bool = False) -> None:
    """Delete a task and its files; one that is running is stopped first and cleared away by the janitor.

    Args:
        context: The application's parts.
        task_id: Which task.
        aged: Whether it is deleted for its age, which who asks for its result is told.

    Raises:
        TaskNotFound: If there is no such task.
    """
    with context.unit_of_work() as work:
        task = queries.get_task(work, task_id, lock=True)
        task.deleted_at = queries.utc_now()
        if aged:
            work.session.merge(Aged(id=task.id, owner=task.owner, at=task.deleted_at))
        task.cancel_requested = True
        running = task.state is TaskState.RUNNING
        work.commit()
    if not running:
        purge(context, task_id)


def purge(context: "Context", task_id: UUID) -> None:
    """Delete the files, then the rows, of a task that was marked as deleted; may be repeated."""
    with context.unit_of_work(read_only=True) as work:
        task = work.session.get(Task, task_id)
        handles = [] if task is None else [upload.handle for upload in task.uploads if not upload.source]
    for handle in handles:
        context.uploads.discard(handle)
    context.store.delete_prefix(task_prefix(task_id))
    with context.unit_of_work() as work:
        task = work.session.get(Task, task_id)
        if task is not None:
            if task.deleted_at is None:
                raise TaskNotFound
            work.session.delete(task)
        work.commit()
