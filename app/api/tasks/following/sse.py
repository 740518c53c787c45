"""A task's events as Server-Sent Events: what ``EventSource`` in a browser, ``curl -N`` and the client read."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.deps import ContextDep
from app.api.problems import examples
from app.api.tasks.following.events import STALL_S, Followers, News, follow
from app.api.tasks.watching import Watcher, WatcherDep
from app.context import Context
from app.domain.errors import TaskNotFound
from app.services.following.errors import StreamsExhausted

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"])

RETRY_MS = 3000
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx and its kin shall hold nothing back
]
_EXAMPLE = 'retry: 3000\n\nid: 5b1f0c\nevent: status\ndata: {"status":"running","stage":"reading","progress":0.05}\n\n'


def frame(news: News | None) -> bytes:
    r"""Return an event as the line has it; a comment if there is none.

    >>> frame(News("stage", "5b1f0c", '{"stage":"reading"}'))
    b'id: 5b1f0c\nevent: stage\ndata: {"stage":"reading"}\n\n'
    """
    if news is None:
        return b": still here\n\n"
    return f"id: {news.tag}\nevent: {news.name}\ndata: {news.data}\n\n".encode()


class Events(Response):
    """An answer of Server-Sent Events, as the description of the API has it."""

    media_type = "text/event-stream"


class EventStream(Events):
    """The answer that goes on until the task has ended, the client goes away, or the server stops.

    Args:
        request: What asked for it.
        watcher: Looks at the task.
        context: The application's parts, as the caller sees them.
        task_id: Which task.
        seen: Id of the last event that the client has.
    """

    def __init__(self, request: Request, watcher: Watcher, context: Context, task_id: UUID, seen: str) -> None:
        super().__init__()
        self._request = request
        self._watcher = watcher
        self._context = context
        self._task_id = task_id
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer.

        Raises:
            TaskNotFound: If the caller sees no such task.
            StreamsExhausted: If the caller follows too many.
        """
        followers: Followers = scope["app"].state.followers
        with followers.place(self._request, "sse"):
            async with self._watcher.watch(self._context, self._task_id) as watch:
                if watch.now.state.is_settled and watch.now.tag == self._seen:
                    # an EventSource comes back after each end, until it is told that there is nothing to come
                    await Response(status_code=HTTPStatus.NO_CONTENT)(scope, receive, send)
                    return
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})

                async def write(data: bytes, *, more: bool = True) -> None:
                    async with asyncio.timeout(STALL_S):
                        await send({"type": "http.response.body", "body": data, "more_body": more})

                async def tell() -> None:
                    await write(f"retry: {RETRY_MS}\n\n".encode())
                    try:
                        async for news in follow(watch, self._context, self._seen):
                            await write(frame(news))
                    except TaskNotFound:
                        await write(frame(News("gone", "gone", "{}")))
                    await write(b"", more=False)

                await until_gone(tell, receive, "http.disconnect")


async def until_gone(tell: Callable[[], Awaitable[None]], receive: Receive, gone: str) -> None:
    """Tell, until all is told or the client goes away, which is heard from what is received; then be quiet.

    Args:
        tell: Sends; who does not read fast enough makes it raise ``TimeoutError``.
        receive: Receives.
        gone: The message that says that the client has gone.
    """

    async def listen() -> None:
        while (await receive())["type"] != gone:
            pass

    telling, listening = asyncio.ensure_future(tell()), asyncio.ensure_future(listen())
    try:
        await asyncio.wait([telling, listening], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (telling, listening):
            task.cancel()
        results = await asyncio.gather(telling, listening, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, TimeoutError | OSError):
            raise result


def _described() -> dict[int | str, dict[str, Any]]:
    meaning = "Events `status`, `stage`, `progress`, `end` and `gone`; the data of each is a task's state, in JSON."
    return {
        **examples(TaskNotFound(), StreamsExhausted(100)),
        200: {"description": meaning, "content": {Events.media_type: {"example": _EXAMPLE}}},
        204: {"description": "All was told: the task has ended, and `Last-Event-ID` is its last event."},
    }


@router.get("/{task_id}/events", summary="Follow a task", response_class=Events, responses=_described())
async def events(
    task_id: UUID,
    request: Request,
    context: ContextDep,
    watcher: WatcherDep,
    last_event_id: Annotated[str, Header(description="Id of the last event that was received.")] = "",
) -> Response:
    """Tell what happens to a task as Server-Sent Events, until it has ended; docs/following.md has examples.

    Each event says where the task stands as a whole, so a reader that is slow gets fewer and misses nothing. The same
    address is a WebSocket: messages are JSON objects `{event, id, data}`.
    """
    return EventStream(request, watcher, context, task_id, last_event_id)
