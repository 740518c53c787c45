"""A task's events by WebSocket, at the same address: one JSON message for each, ``{"event", "id", "data"}``."""

import asyncio
import json
import logging
from uuid import UUID

from fastapi import APIRouter, WebSocket
from sqlalchemy.exc import SQLAlchemyError
from starlette.websockets import WebSocketDisconnect

from app.api.access.sockets import chosen
from app.api.deps import CALLER
from app.api.tasks.following.events import STALL_S, Followers, News, follow
from app.api.tasks.following.sse import until_gone
from app.api.tasks.watching import Watcher
from app.context import Context
from app.domain.access import Caller
from app.domain.errors import TaskNotFound
from app.services.following.errors import StreamsExhausted

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"])
log = logging.getLogger(__name__)

ENDED, RESTARTING = 1000, 1012
NOT_THERE, TOO_MANY, UNAVAILABLE = 4404, 4429, 4503


@router.websocket("/{task_id}/events")
async def events(socket: WebSocket, task_id: str, last_event_id: str = "") -> None:
    """Tell what happens to a task until it has ended; whoever comes back says by ``last_event_id`` what it has seen.

    It closes with 1000 at the task's end, 1012 if the server stops or the connection has become old: come back then.
    What the client sends is not looked at.
    """
    await socket.accept(subprotocol=chosen(socket.scope))
    code, reason = await _answer(socket, task_id, last_event_id)
    try:
        async with asyncio.timeout(STALL_S):
            await socket.close(code, reason)
    except (WebSocketDisconnect, RuntimeError, OSError, TimeoutError) as error:  # it went away first
        log.debug("a follower was gone before it could be told so: %s", error)


async def _answer(socket: WebSocket, task_id: str, seen: str) -> tuple[int, str]:
    """Send events until there is no more to say; return the code to close with, and the reason."""
    watcher: Watcher = socket.app.state.watcher
    followers: Followers = socket.app.state.followers
    parts: Context = socket.app.state.context
    caller: Caller | None = socket.scope.get(CALLER)
    context = parts if caller is None else parts.seen_by(caller)
    over = False

    async def write(news: News) -> None:
        nonlocal over
        over = news.name == "end"
        message = f'{{"event":{json.dumps(news.name)},"id":{json.dumps(news.tag)},"data":{news.data}}}'
        async with asyncio.timeout(STALL_S):
            await socket.send_text(message)

    try:
        with followers.place(socket, "websocket"):
            async with watcher.watch(context, UUID(task_id)) as watch:
                if watch.now.state.is_settled and watch.now.tag == seen:
                    return ENDED, "nothing is to come"

                async def tell() -> None:
                    async for news in follow(watch, context, seen):
                        if news is not None:  # pings keep the line open
                            await write(news)

                await until_gone(tell, socket.receive, "websocket.disconnect")
    except (TaskNotFound, ValueError):
        return NOT_THERE, TaskNotFound.code
    except StreamsExhausted as error:
        return TOO_MANY, error.code
    except SQLAlchemyError as error:
        log.error("the database does not answer: %s", error)
        return UNAVAILABLE, "UNAVAILABLE"
    return (ENDED, "the task has ended") if over else (RESTARTING, "come back")
