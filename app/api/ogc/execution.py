"""/ogc/processes/{id}/execution: run a process, and answer with its result or with a job."""

import time
from functools import partial
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Header, Response
from fastapi.responses import JSONResponse

from app.api.deps import ContextDep, OpeningDep
from app.api.ogc import answers, prefer
from app.api.ogc.models import RESULTS, STATUS, ExecuteIn, shown
from app.api.ogc.routes import NO_PROCESS
from app.api.problems import examples
from app.api.tasks.watching import Watcher, WatcherDep
from app.context import Context
from app.domain import errors
from app.services import queries
from app.services.ogc import orders
from app.services.ogc.errors import ExecutionInvalid
from app.services.ogc.links import PREFIX, header, job_href
from app.services.ogc.status import status_info

router = APIRouter(prefix=f"{PREFIX}/processes", tags=["ogc"])

_BAD_INPUT = ExecutionInvalid([{"field": "inputs.pre", "message": "Reference survey: is required."}])


@router.post(
    "/{process_id}/execution",
    summary="Run a process",
    response_class=Response,
    responses={
        **examples(
            NO_PROCESS,
            _BAD_INPUT,
            errors.OptionsInvalid([{"field": "cell", "message": "Input should be greater than 0"}]),
            errors.UrlRefused("address"),
            instance=f"{PREFIX}/processes/x/execution",
        ),
        **shown(200, "The results, as ``response`` and ``transmissionMode`` ask.", RESULTS),
        **shown(201, "A job, if that is preferred or the result takes long.", STATUS),
        204: {"description": "Links to the outputs are in the ``Link`` headers."},
        410: {"description": "The job was dismissed meanwhile."},
        500: {"description": "The run failed."},
    },
)
async def execute(
    process_id: str,
    body: ExecuteIn,
    context: ContextDep,
    opening: OpeningDep,
    watcher: WatcherDep,
    wish: Annotated[
        list[str] | None,
        Header(alias="Prefer", description="``respond-async``: a job at once; ``wait=N``: after N seconds."),
    ] = None,
) -> Response:
    """Run a process: wait for the result, or answer with a job if that is preferred or it takes too long."""
    preference = prefer.read(",".join(wish or ()))
    job_id = await opening.run(orders.execute, context, process_id, body.asked())
    patience = min(preference.wait_s, context.policy.ogc_wait_s)
    is_over = await _wait(context, watcher, job_id, patience) if patience > 0 else False
    response = await to_thread.run_sync(partial(_result if is_over else _job, context, job_id))
    response.headers.update(prefer.applied(preference, is_job=not is_over, patience=patience))
    return response


async def _wait(context: Context, watcher: Watcher, job_id: UUID, patience: float) -> bool:
    """Return whether a job is over, at most after so many seconds; nothing is held meanwhile, no thread either."""
    deadline = time.monotonic() + patience
    async with watcher.watch(context, job_id) as watch:
        while not (seen := watch.now).state.is_settled:
            left = deadline - time.monotonic()
            if left <= 0 or watch.is_closing:
                return False
            await watch.change(seen.tag, left)
    return True


def _result(context: Context, job_id: UUID) -> Response:
    with context.unit_of_work(read_only=True) as work:
        response = answers.results_of(context, work, queries.get_task(work, job_id))
    response.headers.append("Link", header(job_href(context, job_id), "monitor"))
    return response


def _job(context: Context, job_id: UUID) -> Response:
    with context.unit_of_work(read_only=True) as work:
        said = status_info(context, queries.get_task(work, job_id))
    return JSONResponse(said, status_code=HTTPStatus.CREATED, headers={"Location": job_href(context, job_id)})
