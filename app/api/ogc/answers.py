"""A finished job's results as they are wanted: one document, the one output itself, several in parts, or links."""

from collections.abc import Iterable, Iterator
from itertools import chain
from secrets import token_hex
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse, StreamingResponse

from app.api.ogc.exceptions import status_of_failure, translate
from app.api.problems import Problem, problem
from app.context import Context
from app.db.models import Task
from app.db.session import UnitOfWork
from app.domain.errors import NotReady
from app.domain.media import is_active
from app.domain.tasks import TaskState
from app.services.ogc import orders, results
from app.services.ogc.asking import REFERENCE
from app.services.ogc.errors import OutputNotFound
from app.services.ogc.links import PREFIX, header, job_href
from app.services.ogc.results import Part

_SANDBOX = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def results_of(context: Context, work: UnitOfWork, task: Task) -> Response:
    """Answer with the results of a job, or with why there are none.

    Raises:
        NotReady: If it is not over.
        OutputNotFound: If only outputs are wanted that the run left out.
    """
    if task.state in (TaskState.ERROR, TaskState.KILLED):
        return failure(task)
    if task.state is not TaskState.DONE or task.document is None:
        raise NotReady(task.state)
    wanted = orders.wanted(work, task.id, results.labels(context, task.pipeline))
    parts = results.parts_of(context, task, wanted.outputs)
    if wanted.response == orders.DOCUMENT:
        return JSONResponse({part.label: _entry(context, task, part) for part in parts})
    if not parts:
        raise OutputNotFound(next(iter(wanted.outputs)), [part.label for part in results.everything(context, task)])
    if all(part.mode == REFERENCE for part in parts):
        headers = [(b"link", _link(context, task, part).encode("latin-1", "replace")) for part in parts]
        response = Response(status_code=204)
        response.raw_headers += headers
        return response
    if len(wanted.outputs) == 1:
        return one(context, parts[0])
    return _multipart(context, task, parts)


def one(context: Context, part: Part) -> Response:
    """Answer with one output as it is."""
    headers = {"X-Content-Type-Options": "nosniff"}
    if part.key:
        headers["Content-Length"] = str(part.size)
        if is_active(part.key):
            headers["Content-Security-Policy"] = _SANDBOX
    chunks = results.content(context, part)
    first = next(chunks, b"")  # now, so that a store that is away, or has lost it, is told by the status
    return StreamingResponse(chain([first], chunks), media_type=part.media_type, headers=headers)


def failure(task: Task) -> Response:
    """Answer with why a job has no result."""
    error = task.error or {"code": "INTERNAL", "message": "The job ended without a result."}
    code, path = str(error["code"]), f"{PREFIX}/jobs/{task.id}/results"
    more = {key: error[key] for key in ("label", "remedy", "details") if error.get(key)}
    status = status_of_failure(code)
    document = translate(problem(status, code, "The job has no result", str(error["message"]), path, **more))
    return Problem(document, status_code=document["status"])


def _entry(context: Context, task: Task, part: Part) -> Any:
    if part.mode == REFERENCE or part.size > results.LARGEST_INLINE:
        return {"href": _href(context, task, part), "type": part.media_type, "title": part.title}
    return results.inline(context, part)


def _href(context: Context, task: Task, part: Part) -> str:
    """Return where an output is; a file's link works without a key, for a while."""
    if part.key:
        return context.store.url(part.key, expires_s=context.policy.link_ttl_s)
    return job_href(context, task.id, f"/results/{part.label}")


def _link(context: Context, task: Task, part: Part) -> str:
    return header(_href(context, task, part), part.label, part.media_type, part.title)


def _multipart(context: Context, task: Task, parts: Iterable[Part]) -> Response:
    """Answer with several outputs in one body (RFC 2387)."""
    boundary = token_hex(16)

    def body() -> Iterator[bytes]:
        for part in parts:
            head = [f"--{boundary}", f"Content-Type: {part.media_type}", f"Content-ID: {part.label}"]
            if part.mode == REFERENCE:
                head.append(f"Content-Location: {_href(context, task, part)}")
            yield "\r\n".join([*head, "", ""]).encode("latin-1", "replace")
            if part.mode != REFERENCE:
                yield from results.content(context, part)
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    return StreamingResponse(body(), media_type=f'multipart/related; boundary="{boundary}"')
