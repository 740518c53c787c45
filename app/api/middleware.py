"""Around every request: an id, one line of log, a limit on small bodies, headers that keep browsers careful."""

import json
import logging
import re
import time
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.observe import logs, requests, tracing
from app.observe.masking import Mask

log = logging.getLogger("volcal.requests")

MAX_BODY = 1 << 20
REQUEST_ID = "volcal.request_id"
"""Where a request's scope has its id."""

_STREAMED = ("/files",)  # uploads limit themselves
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ENDLESS = "text/event-stream"
_PROBES = {"/livez", "/readyz", "/metrics"}
_UNMATCHED = "none"
_CREATES = {"/create_task", "/api/v1/tasks", "/ogc/processes/{process_id}/execution"}
_mask = Mask()
_LOCKED = "default-src 'none'; frame-ancestors 'none'"
_DOCS = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'"
)


class RequestLog:
    """Gives each request an id, which every line of log within it carries, and logs one line about it.

    The line leaves out the query, which may hold secrets; of what a path gives away, an upload's id above all, four
    characters are shown.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and log it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        scope[REQUEST_ID] = request_id = given if _ID.fullmatch(given) else uuid4().hex
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        began, status, answered = time.perf_counter(), 0, 0.0
        requests.begin()

        async def mark(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                if headers.get("content-type", "").startswith(_ENDLESS):  # it was answered now, and is followed
                    answered = time.perf_counter() - began
            await send(message)

        with logs.about(request_id=request_id):
            try:
                await self._app(scope, receive, mark)
            except Exception:
                status = HTTPStatus.INTERNAL_SERVER_ERROR  # which the outermost layer will answer
                raise
            finally:
                _tell(scope, status, answered or time.perf_counter() - began)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, code = time.perf_counter(), 0

        async def hear() -> Message:
            nonlocal code
            message = await receive()
            if message["type"] == "websocket.disconnect":
                code = code or message.get("code") or 0
            return message

        async def mark(message: Message) -> None:
            nonlocal code
            if message["type"] == "websocket.close":
                code = message.get("code", 1000)
            await send(message)

        with logs.about(request_id=scope[REQUEST_ID]):
            try:
                await self._app(scope, hear, mark)
            finally:
                seconds = time.perf_counter() - began
                line = {"path": _mask(scope["path"])[:500], "code": code, "seconds": round(seconds, 1)}
                log.info("websocket", extra=line | {"client": (scope.get("client") or [None])[0]})


def _tell(scope: Scope, status: int, seconds: float) -> None:
    path, route = scope["path"], getattr(scope.get("route"), "path", _UNMATCHED)
    requests.end(route, scope["method"], int(status), seconds)
    line = {
        "method": scope["method"],
        "path": _mask(path)[:500],
        "status": int(status),  # 0 if the client went away before it was answered
        "ms": round(seconds * 1000, 1),
        "client": (scope.get("client") or [None])[0],
    }
    if task_id := scope.get("path_params", {}).get("task_id"):
        line["task_id"] = str(task_id)[:64]
    if path in _PROBES:
        log.debug("request", extra=line)
        return
    log.info("request", extra=line)
    if (traces := tracing.active()) is not None:
        _trace(traces, scope, route, line, seconds)


def _trace(traces: tracing.Tracing, scope: Scope, route: str, line: dict[str, Any], seconds: float) -> None:
    now, status = time.time(), line["status"]
    about = {
        "http.request.method": scope["method"],
        "http.route": route,
        "http.response.status_code": status,
        "url.path": line["path"],
        "volcal.request_id": scope[REQUEST_ID],
    }
    traces.request(
        f"{scope['method']} {route}",
        (now - seconds, now),
        about,
        task=str(line.get("task_id") or logs.known().get("task_id", "")),
        created=scope["method"] == "POST" and route in _CREATES,
        caller=Headers(scope=scope).get("traceparent", ""),
        failed=status >= HTTPStatus.INTERNAL_SERVER_ERROR,
    )


class SmallBodies:
    """Reads the body before the application sees the request, and answers 413 if it is larger than 1 MiB."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its whole body, or refuse it."""
        if scope["type"] != "http" or scope["path"].startswith(_STREAMED) or scope["method"] in {"GET", "HEAD"}:
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        body, more = bytearray(), True
        too_large = declared.isdecimal() and (len(declared) > 18 or int(declared) > self._limit)
        while more and not too_large:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client went away
            body += message.get("body", b"")
            more = message.get("more_body", False)
            too_large = len(body) > self._limit
        if too_large:
            await _refuse(scope, send, self._limit)
            return
        read = False

        async def replay() -> Message:
            nonlocal read
            if read:
                return await receive()
            read = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        await self._app(scope, replay, send)


async def _refuse(scope: Scope, send: Send, limit: int) -> None:
    document = too_large_document(scope["path"], limit)
    content = json.dumps(document).encode()
    kind = b"application/problem+json" if "code" in document else b"application/json"
    headers = [(b"content-type", kind), (b"content-length", str(len(content)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def too_large_document(path: str, limit: int = MAX_BODY) -> dict[str, Any]:
    """Return what is said where a body is too large, in the words of the surface that was asked."""
    detail = f"The body is larger than {limit} bytes; files are sent to upload URLs."
    if not path.startswith(("/api/v1/", "/ogc/")):
        return {"detail": detail}
    return {
        "type": "/docs/errors#BODY_TOO_LARGE",
        "title": "The body is too large",
        "status": int(HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        "detail": detail,
        "code": "BODY_TOO_LARGE",
    }


class CarefulHeaders:
    """Adds the headers that keep browsers from guessing, framing and caching; a route may set its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add what the answer lacks."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "no-referrer")
                headers.setdefault("X-Frame-Options", "DENY")
                kind = headers.get("content-type", "")
                if scope["path"].startswith("/docs"):
                    headers.setdefault("Content-Security-Policy", _DOCS)
                elif "json" in kind:
                    headers.setdefault("Content-Security-Policy", _LOCKED)
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, add)
