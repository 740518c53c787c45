"""Creating tasks: POST /api/v1/tasks."""

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Response

from app.api.deps import ContextDep, OpeningDep
from app.api.problems import examples
from app.api.schemas import TaskIn, TaskOut
from app.api.tasks.looking import show_task
from app.context import Context
from app.domain import errors
from app.domain.repeats import (
    LONGEST,
    IdempotencyKeyBusy,
    IdempotencyKeyInvalid,
    IdempotencyKeyReused,
    fingerprint_of,
    read_key,
)
from app.services import tasks
from app.services.intake import repeats
from app.services.intake.repeats import Also

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"])

_ERRORS = (
    errors.PipelineNotFound("x", ["constant", "volume_change"]),
    errors.OptionsInvalid([{"field": "cell", "message": "Input should be greater than 0"}]),
    errors.UrlRefused("address"),
    errors.LabelUnknown("x", ["pre", "post"]),
    IdempotencyKeyReused(),
    IdempotencyKeyBusy(),
    IdempotencyKeyInvalid(),
)


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    summary="Create a task",
    responses={
        **examples(*_ERRORS, instance="/api/v1/tasks"),
        202: {"model": TaskOut, "description": "The task is created; the files named by URLs are being fetched."},
    },
)
async def create(
    context: ContextDep,
    opening: OpeningDep,
    response: Response,
    body: TaskIn | None = None,
    idempotency_key: Annotated[
        str | None,
        Header(
            description=f"At most {LONGEST} characters, such as a UUID: the same request with the same key, however "
            "often and also at the same time, creates one task and is answered with it."
        ),
    ] = None,
) -> TaskOut:
    """Open a task and an upload for each file that it needs; it starts by itself once they are all there.

    Files that ``inputs`` names by URLs are fetched by the service, and looked at like others; the answer is 202 then.
    """
    task = await opening.run(_create, context, body or TaskIn(), idempotency_key)
    if body is not None and body.inputs:
        response.status_code = HTTPStatus.ACCEPTED
    response.headers["Location"] = f"{context.policy.public_url}/api/v1/tasks/{task.id}"
    return task


def _create(context: Context, body: TaskIn, header: str | None) -> TaskOut:
    def make(also: Also | None = None) -> UUID:
        more = (body.options, body.name, body.callback_url, body.inputs)
        task, _ = tasks.create_task(context, body.pipeline, *more, also=also)
        return task.id

    if header is None:
        return show_task(context, make())
    request = fingerprint_of(["POST /api/v1/tasks", body.model_dump(mode="json")])
    return show_task(context, repeats.once(context, read_key(header), request, make))
