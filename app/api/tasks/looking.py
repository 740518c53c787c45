"""Looking at one task: GET /api/v1/tasks/{id}, at once or once it has changed."""

import asyncio
import hashlib
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Header, Response
from pydantic import WithJsonSchema

from app.api.deps import ContextDep
from app.api.problems import examples
from app.api.schemas import TaskOut
from app.api.tasks.watching import Watch, WatcherDep
from app.context import Context
from app.domain import errors
from app.services import tasks

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"])

LONGEST_WAIT_S = 60
"""A proxy before us gives up on an answer after 120 s; others do after 60."""

_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?=$|[,;])', re.I)
_KEPT = "private, no-cache"
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "ETag": {"schema": {"type": "string"}, "description": "Changes whenever anything in the body does."},
            "Preference-Applied": {"schema": {"type": "string"}, "description": "``wait=N``, if it was asked for."},
        }
    },
    304: {"description": "The task is still as ``If-None-Match`` says."},
}


def show_task(context: Context, task_id: UUID) -> TaskOut:
    """Return a task as the context's viewer sees it.

    Raises:
        TaskNotFound: If there is no such task.
    """
    with context.unit_of_work(read_only=True) as work:
        view = tasks.describe(work, context.catalogue, task_id)
    return TaskOut.of(view, context)


@router.get(
    "/{task_id}",
    summary="Look at a task",
    response_model=TaskOut,
    responses={**examples(errors.TaskNotFound()), **_ANSWERS},
)
async def show(
    task_id: UUID,
    context: ContextDep,
    watcher: WatcherDep,
    if_none_match: Annotated[
        str | None, Header(description="``ETag`` of an answer before; 304 if the task is still like that.")
    ] = None,
    prefer: Annotated[
        list[str] | None,
        WithJsonSchema({"type": "string"}),
        Header(description=f"``wait=N``: answer once the task has changed, or after N s, at most {LONGEST_WAIT_S}."),
    ] = None,
) -> Response:
    """Say how far a task is, what it waits for, and why it failed if it did.

    With ``Prefer: wait=30`` the answer comes as soon as it is another one than ``If-None-Match`` names (without that
    header: than it is now), but after 30 seconds at the latest; at once if the task is done, failed or killed.
    """
    wait_s = wait_of(prefer or [])
    if wait_s is None:
        body = await _render(context, task_id)
    else:
        async with watcher.watch(context, task_id) as watch:
            body = await _once_changed(context, watch, if_none_match, wait_s)
    headers = {"ETag": tag_of(body), "Cache-Control": _KEPT}
    if wait_s is not None:
        headers["Preference-Applied"] = f"wait={wait_s}"
    if if_none_match is not None and matches(if_none_match, body):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


async def _render(context: Context, task_id: UUID) -> bytes:
    found = await to_thread.run_sync(show_task, context, task_id)
    return found.model_dump_json().encode()


async def _once_changed(context: Context, watch: Watch, known: str | None, wait_s: int) -> bytes:
    deadline = asyncio.get_running_loop().time() + wait_s
    while True:
        seen = watch.now  # before the body is made, so that no change falls between the two
        body = await _render(context, seen.task_id)
        known = known if known is not None else tag_of(body)
        left = deadline - asyncio.get_running_loop().time()
        if not matches(known, body) or seen.state.is_settled or watch.is_closing or left <= 0:
            return body
        await watch.change(seen.tag, left)


def tag_of(body: bytes) -> str:
    """Return the ETag of a body."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def matches(header: str, body: bytes) -> bool:
    """Return whether ``If-None-Match`` names a body.

    What a proxy compressed has a weak tag, which is as good here.

    >>> matches(f'"x", W/{tag_of(b"{}")}', b"{}"), matches("*", b"{}"), matches('"x"', b"{}")
    (True, True, False)
    """
    tags = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return bool(tags & {"*", tag_of(body)})


def wait_of(prefer: Iterable[str]) -> int | None:
    """Return for how many seconds to wait, at most; None if that is not preferred.

    >>> wait_of(["respond-async, wait=10"]), wait_of(["wait=9999"]), wait_of(["await=1"]), wait_of(["wait=soon"])
    (10, 60, None, None)
    """
    found = _WAIT.search(",".join(prefer))
    return None if found is None else min(int(found[1]), LONGEST_WAIT_S)
