"""/ogc/jobs: list them, look at one, fetch its results, dismiss it."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, TypeAdapter, ValidationError

from app.api.deps import ContextDep, ReadDep, WorkDep, read_id
from app.api.ogc import answers
from app.api.ogc.models import RESULTS, STATUS, shown
from app.api.ogc.routes import answer
from app.api.problems import examples
from app.api.schemas import from_cursor, to_cursor
from app.domain import errors
from app.services import queries, tasks, uploads
from app.services.ogc import results
from app.services.ogc.errors import OutputNotFound
from app.services.ogc.jobs import Filter, list_jobs
from app.services.ogc.links import PREFIX, link
from app.services.ogc.status import status_info
from app.services.ogc.words import DISMISSED
from app.services.ogc.words import STATUS as WORDS

router = APIRouter(prefix=f"{PREFIX}/jobs", tags=["ogc"])

_NO_JOB = errors.TaskNotFound()
_IN_JOB = f"{PREFIX}/jobs/…"
_INSTANT = TypeAdapter[datetime](AwareDatetime)
_OPEN = {"", ".."}


@router.get(
    "",
    summary="List jobs",
    response_class=JSONResponse,
    responses={
        **examples(errors.CursorInvalid(), instance=f"{PREFIX}/jobs"),
        **shown(200, "Some jobs.", {"jobs": [STATUS], "links": []}),
    },
)
def index(
    work: ReadDep,
    context: ContextDep,
    kind: Annotated[list[str] | None, Query(alias="type", description="``process``: asked for by this API.")] = None,
    processes: Annotated[list[str] | None, Query(alias="processID", description="Of one of these processes.")] = None,
    status: Annotated[list[str] | None, Query(description="In one of these states.")] = None,
    when: Annotated[
        str | None, Query(alias="datetime", description="Created then: an instant, or ``start/end``; ``..`` is open.")
    ] = None,
    shortest: Annotated[float | None, Query(alias="minDuration", ge=0, description="Ran so long, seconds.")] = None,
    longest: Annotated[float | None, Query(alias="maxDuration", ge=0, description="Ran no longer, seconds.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="How many at most.")] = 10,
    cursor: Annotated[str | None, Query(description="Where to go on; the ``next`` link has it.")] = None,
) -> JSONResponse:
    """List jobs, newest first: all of one's tasks, whichever API asked for them."""
    kinds, words = _listed(kind), _listed(status)
    since, until = _interval(when)
    wanted = Filter(_listed(processes), words, bool(kinds), since, until, shortest, longest)
    nothing = (bool(kinds) and "process" not in kinds) or (bool(words) and not set(words) & set(WORDS.values()))
    before = None if cursor is None else from_cursor(cursor)
    found = [] if nothing else list_jobs(work, wanted, before=before, limit=limit + 1)
    asked: dict[str, Any] = {
        "type": kinds, "processID": _listed(processes), "status": words, "datetime": when,
        "minDuration": shortest, "maxDuration": longest, "limit": limit, "cursor": cursor,
    }  # fmt: skip
    links = [link(context, _page(asked), "self", "This page")]
    if len(found) > limit:
        links.append(link(context, _page(asked | {"cursor": to_cursor(found[limit - 1])}), "next", "The next page"))
    return answer({"jobs": [status_info(context, task) for task in found[:limit]], "links": links})


def _page(asked: dict[str, Any]) -> str:
    return "/jobs?" + urlencode({key: value for key, value in asked.items() if value not in (None, [])}, doseq=True)


def _listed(words: Sequence[str] | None) -> list[str]:
    """Return the words of a list, which may come with commas or as several parameters."""
    return [part for word in words or () for part in word.split(",") if part]


def _interval(text: str | None) -> tuple[datetime | None, datetime | None]:
    if text is None:
        return None, None
    first, slash, last = text.partition("/")
    try:
        since = None if first in _OPEN and slash else _INSTANT.validate_python(first)
        until = since if not slash else None if last in _OPEN else _INSTANT.validate_python(last)
    except ValidationError:
        message = "Must be an instant with its zone, such as 2026-05-01T12:00:00Z, or start/end with .. for open."
        raise RequestValidationError([{"loc": ("query", "datetime"), "msg": message, "type": "value"}]) from None
    return since, until


@router.get(
    "/{task_id}",
    summary="Look at a job",
    response_class=JSONResponse,
    responses={**examples(_NO_JOB, instance=_IN_JOB), **shown(200, "Its status.", STATUS)},
)
def show(task_id: str, work: ReadDep, context: ContextDep) -> JSONResponse:
    """Say how far a job is, and why it failed if it did."""
    return answer(status_info(context, queries.get_task(work, read_id(task_id))))


@router.get(
    "/{task_id}/results",
    summary="Fetch a job's results",
    response_class=Response,
    responses={
        **examples(_NO_JOB, errors.NotReady("running"), instance=_IN_JOB),
        **shown(200, "The results, as ``response`` and ``transmissionMode`` of the execution had them.", RESULTS),
        204: {"description": "Links to the outputs are in the ``Link`` headers."},
        400: {"description": "The job failed: its inputs cannot be used."},
        410: {"description": "The job was dismissed."},
        500: {"description": "The job failed for another reason."},
    },
)
def fetch(task_id: str, work: ReadDep, context: ContextDep) -> Response:
    """Return the results of a job; those of a task that another API asked for as one document."""
    return answers.results_of(context, work, queries.get_task(work, read_id(task_id)))


@router.get(
    "/{task_id}/results/{output_id}",
    summary="Fetch one output of a job",
    response_class=Response,
    responses={
        **examples(_NO_JOB, errors.NotReady("running"), OutputNotFound("x", ["results"]), instance=_IN_JOB),
        200: {"description": "The output as it is.", "content": {"application/octet-stream": {}}},
    },
)
def output(task_id: str, output_id: str, work: ReadDep, context: ContextDep) -> Response:
    """Return one output by itself, whether the execution asked for it or not."""
    task = tasks.results(work, read_id(task_id))
    return answers.one(context, results.part_of(context, task, output_id))


@router.delete(
    "/{task_id}",
    summary="Dismiss a job",
    response_class=JSONResponse,
    responses={
        **examples(_NO_JOB, instance=_IN_JOB),
        **shown(200, "Its last status.", STATUS | {"status": DISMISSED, "message": "The job was dismissed."}),
    },
)
def dismiss(task_id: str, work: WorkDep, context: ContextDep) -> JSONResponse:
    """Stop a job that is not over, and keep it as dismissed; delete one that is over, with its results."""
    task = queries.get_task(work, read_id(task_id), lock=True)
    if task.state.is_settled:
        said = status_info(context, task, status=DISMISSED) | {"message": "The job was deleted.", "links": []}
        work.after_commit(partial(tasks.delete_task, context, task.id))
        return answer(said)
    tasks.cancel_task(work, task.id)
    work.after_commit(partial(uploads.stop_open, context, task.id))
    return answer(status_info(context, queries.get_task(work, task.id), status=DISMISSED))
