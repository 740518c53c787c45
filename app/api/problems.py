"""From errors to answers: the one table of statuses, and problem documents as RFC 9457 has them."""

import errno
import json
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

from app.api.middleware import REQUEST_ID
from app.api.ogc import exceptions
from app.domain.errors import (
    Conflict,
    Forbidden,
    HookSecretInvalid,
    Invalid,
    KeyMissing,
    NotFound,
    ResultExpired,
    TooLarge,
    TooMany,
    Unauthenticated,
    VolcalError,
)
from app.domain.repeats import IdempotencyKeyBusy
from app.uploads.errors import (
    ContentTypeWrong,
    HeaderInvalid,
    UploadGone,
    UploadStalled,
    UploadSuperseded,
    VersionUnsupported,
)
from pipeline.errors import PipelineError, StorageFull

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_NO_JSON = "There was an error parsing the body"  # FastAPI's words for bytes that are no text
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
NEW_SURFACE = ("/api/v1/", "/files", "/objects/")

STATUS: dict[type[Exception], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Forbidden: HTTPStatus.FORBIDDEN,
    HookSecretInvalid: HTTPStatus.UNAUTHORIZED,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    TooMany: HTTPStatus.TOO_MANY_REQUESTS,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    # where tus asks for another status than the kind of error has elsewhere
    ContentTypeWrong: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HeaderInvalid: HTTPStatus.BAD_REQUEST,
    ResultExpired: HTTPStatus.GONE,
    UploadGone: HTTPStatus.GONE,
    UploadStalled: HTTPStatus.CONFLICT,  # which tus clients take as a reason to go on, unlike 408
    UploadSuperseded: HTTPStatus.LOCKED,
    VersionUnsupported: HTTPStatus.PRECONDITION_FAILED,
    StorageFull: HTTPStatus.INSUFFICIENT_STORAGE,
    PipelineError: HTTPStatus.UNPROCESSABLE_ENTITY,
}


class Problem(JSONResponse):
    """A problem document; pure ASCII, since what clients sent may hold halves of characters."""

    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        """Return the bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def status_of(kind: type[Exception]) -> HTTPStatus:
    """Return the status of the nearest ancestor in the table; 500 if there is none."""
    return next((STATUS[t] for t in kind.__mro__ if t in STATUS), HTTPStatus.INTERNAL_SERVER_ERROR)


def headers_of(error: Exception) -> dict[str, str]:
    """Return the headers that belong to an error's answer."""
    if isinstance(error, Unauthenticated):
        more = "" if isinstance(error, KeyMissing) else ', error="invalid_token"'
        return {"WWW-Authenticate": f'Bearer realm="volcal"{more}'}
    if isinstance(error, TooMany | IdempotencyKeyBusy):
        return {"Retry-After": str(max(1, math.ceil(error.retry_s)))}
    return {}


def plain_of(error: VolcalError | PipelineError) -> dict[str, Any]:
    """Return what the classic routes say of an error: words alone, and a code where something can be done about it."""
    remedy = getattr(error, "remedy", "") if isinstance(error, VolcalError) else ""
    return {"detail": f"{error} {remedy}", "code": error.code} if remedy else {"detail": str(error)}


def title_of(kind: type[Exception]) -> str:
    """Return the first line of an error's docstring, as the title of its problem document."""
    return (kind.__doc__ or "").split("\n", 1)[0].rstrip(".")


def problem(status: int, code: str, title: str, detail: str, instance: str, **more: Any) -> dict[str, Any]:
    """Return a problem document; members of ``more`` never replace the standard ones."""
    document = {
        **more,
        "type": f"/docs/errors#{code}",
        "title": title,
        "status": int(status),
        "detail": detail,
        "instance": instance,
        "code": code,
    }
    return exceptions.translate(document) if exceptions.concerns(instance) else document


def document_of(error: VolcalError | PipelineError, instance: str) -> dict[str, Any]:
    """Return the problem document of an error."""
    more = dict(error.extensions() if isinstance(error, VolcalError) else error.document())
    more.pop("code", None)  # a standard member, given below
    kind = type(error)
    return problem(status_of(kind), error.code, title_of(kind), str(error), instance, **more)


async def as_problem(request: Request, error: VolcalError | PipelineError) -> Response:
    """Answer an error of the domain or of a pipeline."""
    document = document_of(error, request.url.path)
    return Problem(document, status_code=document["status"], headers=headers_of(error))


def examples(
    *errors: VolcalError | PipelineError, instance: str = "/api/v1/tasks/…"
) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route that may answer these errors, an example each."""
    shown = [(document_of(error, instance), title_of(type(error))) for error in errors]
    wrong = [{"field": "path.task_id", "message": "Input should be a valid UUID"}]
    detail = f"{wrong[0]['field']}: {wrong[0]['message']}"
    title = HTTPStatus.UNPROCESSABLE_ENTITY.phrase
    shown.append((problem(422, "REQUEST_INVALID", title, detail, instance, problems=wrong), "The request is malformed"))
    found: dict[int | str, dict[str, Any]] = {}
    for document, meaning in shown:
        entry = found.setdefault(document["status"], {"description": "", "content": {MEDIA_TYPE: {"examples": {}}}})
        words = [entry["description"], f"{document['code']}: {meaning}"]
        entry["description"] = "; ".join(filter(None, words))
        entry["content"][MEDIA_TYPE]["examples"][document["code"]] = {"value": document}
    return found


def is_new(request: Request) -> bool:
    """Return whether a route speaks problem documents; the classic ones say ``{"detail": …}``."""
    return request.url.path.startswith(NEW_SURFACE) or exceptions.concerns(request.url.path)


def refuse(
    request: Request, status: int, code: str, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> Response:
    """Answer something that is not an error of the domain, in the words of the surface that was asked."""
    if not is_new(request):
        return JSONResponse({"detail": detail, **more}, status_code=status, headers=headers)
    document = problem(status, code, HTTPStatus(status).phrase, detail, request.url.path, **more)
    return Problem(document, status_code=document["status"], headers=headers)


async def _domain(request: Request, error: Exception) -> Response:
    assert isinstance(error, VolcalError | PipelineError)  # noqa: S101  (narrowing: registered for these only)
    if is_new(request):
        return await as_problem(request, error)
    return JSONResponse(plain_of(error), status_code=status_of(type(error)), headers=headers_of(error))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  (narrowing: registered for this only)
    status, headers = HTTPStatus(error.status_code), dict(error.headers or {})
    if status is HTTPStatus.BAD_REQUEST and error.detail == _NO_JSON:  # as where it is UTF-8, and no JSON
        return _malformed(request, [{"field": "body", "message": "The body is not JSON in UTF-8."}])
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request))
    return refuse(request, status, status.name, str(error.detail), headers)


def _allowed(request: Request) -> list[str]:
    """Return the methods that some route has for a path; the framework knows only those of the first."""
    routes: Iterable[BaseRoute] = request.app.router.routes
    asked = {method: {**request.scope, "method": method} for method in _METHODS}
    return [method for method, scope in asked.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  (narrowing: registered for this only)
    return _malformed(request, list(_problems(error.errors())))


def _malformed(request: Request, problems: list[dict[str, str]]) -> Response:
    detail = "; ".join(f"{p['field']}: {p['message']}" for p in problems)
    # What was sent is not repeated: it may be a secret, or huge.
    return refuse(request, HTTPStatus.UNPROCESSABLE_ENTITY, "REQUEST_INVALID", _ascii(detail), problems=problems)


def _problems(errors: Iterable[dict[str, Any]]) -> Iterable[dict[str, str]]:
    for error in errors:
        where = ".".join(str(part) for part in error["loc"])
        yield {"field": _ascii(where)[:200], "message": _ascii(str(error["msg"]))[:500]}


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")


async def _database(request: Request, error: Exception) -> Response:
    log.error("the database does not answer", exc_info=error)
    detail = "The database does not answer just now; try again."
    return refuse(request, HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", detail, {"Retry-After": "5"})


async def _system(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)  # noqa: S101  (narrowing: registered for this only)
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        log.error("the disk is full", exc_info=error)
        return refuse(request, HTTPStatus.INSUFFICIENT_STORAGE, StorageFull.code, "The server's disk is full.")
    if isinstance(code := getattr(error, "code", None), str):  # a server beside us is away
        log.error("%s", error)
        detail = f"{title_of(type(error))}; try again."
        return refuse(request, HTTPStatus.SERVICE_UNAVAILABLE, code, detail, {"Retry-After": "5"})
    return await _defect(request, error)


async def _defect(request: Request, error: Exception) -> Response:
    # Answered outside of every middleware, so the request's id is said here.
    request_id = str(request.scope.get(REQUEST_ID, ""))
    log.error("a request failed", exc_info=error, extra={"request_id": request_id})
    detail = "Something failed that should not have; the log has more under this request's id."
    return refuse(request, HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL", detail, {"X-Request-ID": request_id})


def _handlers() -> dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]]:
    return {
        VolcalError: _domain,
        PipelineError: _domain,
        HTTPException: _http,
        RequestValidationError: _validation,
        OperationalError: _database,
        InterfaceError: _database,
        NoConnectionFree: _database,
        OSError: _system,
        Exception: _defect,
    }


async def answer(request: Request, error: Exception) -> Response:
    """Return the answer to an error that comes before any route."""
    handlers = _handlers()
    return await next(handlers[kind] for kind in type(error).__mro__ if kind in handlers)(request, error)


def install(app: FastAPI) -> None:
    """Teach an application to answer every error."""
    for kind, handler in _handlers().items():
        app.add_exception_handler(kind, handler)
