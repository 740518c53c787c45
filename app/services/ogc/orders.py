"""Runs what was asked for as a task, and remembers how the answer is wanted."""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from app.db.models import OgcOrder, Task
from app.db.session import UnitOfWork
from app.domain.keys import input_key
from app.services import callbacks, tasks, uploads
from app.services.ogc.asking import InlineFile, Order, read_inputs, read_outputs

if TYPE_CHECKING:
    from app.context import Context

RAW, DOCUMENT = "raw", "document"
SUBSCRIBERS = ("successUri", "inProgressUri", "failedUri")


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the answer to a job is wanted.

    Args:
        response: ``raw`` or ``document``.
        outputs: By label: ``value`` or ``reference``.
        subscriber: Who is told, by the standard's names.
    """

    response: str
    outputs: dict[str, str]
    subscriber: dict[str, str]


def execute(context: "Context", process: str, asked: dict[str, Any]) -> UUID:
    """Make the task that an execute request describes, and start it if no file is still to come.

    Args:
        context: The application's parts.
        process: The pipeline's name.
        asked: ``inputs``, ``outputs``, ``response`` and ``subscriber``, as the standard has them.

    Raises:
        PipelineNotFound: If there is no such process.
        ExecutionInvalid: If inputs or outputs do not fit it.
        OptionsInvalid: If options do not.
        UrlRefused: If a link or a subscriber's URL may not be called.
        TaskQuotaReached: If whoever asks has too many unfinished tasks.
        ByteQuotaReached: If their files hold too much.
    """
    spec = tasks.find_spec(context.catalogue, process)
    order = read_inputs(spec, asked["inputs"])
    wanted = Wanted(
        response=asked["response"],
        outputs=read_outputs(spec, asked["outputs"]),
        subscriber={name: callbacks.check(context, url) for name, url in asked["subscriber"].items()},
    )
    task_id = _create(context, process, order, wanted)
    try:
        # a task starts once its required files are there, so the others come first
        for label in sorted(order.files, key=lambda label: label in spec.labels):
            _bring(context, task_id, label, order.files[label])
        if not order.links and not order.files:
            tasks.start_task(context, task_id)
    except BaseException:
        tasks.delete_task(context, task_id)
        raise
    return task_id


def _create(context: "Context", process: str, order: Order, wanted: Wanted) -> UUID:
    def write_down(work: UnitOfWork, task: Task) -> None:
        work.session.add(OgcOrder(task_id=task.id, **asdict(wanted)))

    task, _ = tasks.create_task(context, process, order.options, inputs=order.links, also=write_down)
    return task.id


def _bring(context: "Context", task_id: UUID, label: str, file: InlineFile) -> None:
    """Let a file that came with the request arrive as if it had been uploaded."""
    ticket = uploads.open_upload(context, task_id, label, file.filename)
    key = input_key(task_id, label, ticket.id)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "file"
        source.write_bytes(file.content)
        context.store.put(key, source)
    uploads.finished(context, ticket.id)


def wanted(work: UnitOfWork, task_id: UUID, known: list[str]) -> Wanted:
    """Return how the answer to a job is wanted; of a task that was created elsewhere: all of it, by reference."""
    row = work.session.get(OgcOrder, task_id)
    if row is None:
        return Wanted(DOCUMENT, dict.fromkeys(known, "reference"), {})
    return Wanted(row.response, row.outputs, row.subscriber)
