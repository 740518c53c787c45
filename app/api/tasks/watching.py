"""Waiting for tasks to change: one look at the database every half second, however many wait.

Who waits holds neither a thread nor a connection. All looks of a process follow one another, so that nobody is shown a
task as it was before what he has already seen.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, Request

from app.api.deps import Aside
from app.context import Context
from app.domain.errors import TaskNotFound
from app.services.watching import snapshots
from app.services.watching.snapshots import Snapshot

log = logging.getLogger(__name__)

EVERY_S = 0.5


class Watch:
    """One task, watched by one or more.

    Args:
        first: How it is.
    """

    def __init__(self, first: Snapshot) -> None:
        self.now = first
        self.holders = 0
        self._gone = False
        self._closing = False
        self._news = asyncio.Event()

    def tell(self, snapshot: Snapshot | None) -> None:
        """Note how the task is now, None if it is gone, and wake whoever waits if that is news."""
        if snapshot is None:
            self._gone = True
        elif snapshot.tag == self.now.tag:
            return
        else:
            self.now = snapshot
        self._wake()

    def close(self) -> None:
        """Let nobody wait any more."""
        self._closing = True
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    @property
    def is_closing(self) -> bool:
        """Whether the server stops, so that there is no use in waiting."""
        return self._closing

    async def change(self, seen: str, timeout_s: float) -> Snapshot | None:
        """Wait until the task's tag is another than ``seen``; None if it is not after so many seconds.

        Changes that follow one another fast come as one, the last.

        Raises:
            TaskNotFound: If the task was deleted.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    if self._gone:
                        raise TaskNotFound
                    if self.now.tag != seen:
                        return self.now
                    if self._closing:
                        return None
                    await self._news.wait()
        return None


class Watcher:
    """Looks at the tasks that somebody watches, all in one go; sleeps while nobody does.

    For use in one event loop.

    Args:
        aside: The threads in which it looks.
        every_s: Seconds between looks.
    """

    def __init__(self, aside: Aside, *, every_s: float = EVERY_S) -> None:
        self._aside = aside
        self._every_s = every_s
        self._watches: dict[UUID, Watch] = {}
        self._joining: list[tuple[UUID, asyncio.Future[Snapshot]]] = []
        self._looking: asyncio.Task[None] | None = None
        self._due = asyncio.Event()
        self._closing = False

    @asynccontextmanager
    async def watch(self, context: Context, task_id: UUID) -> AsyncGenerator[Watch]:
        """Watch a task; ``now`` is how it is at the beginning, or later.

        Raises:
            TaskNotFound: If there is no such task, or the context's viewer does not see it.
        """
        first = await self._first(context, task_id)
        if context.sees_only not in (None, first.owner):
            raise TaskNotFound
        watch = self._watches.get(task_id)
        if watch is None:
            watch = self._watches[task_id] = Watch(first)
            if self._closing:
                watch.close()
        watch.holders += 1
        try:
            yield watch
        finally:
            watch.holders -= 1
            if not watch.holders and self._watches.get(task_id) is watch:
                del self._watches[task_id]

    async def changes(
        self, context: Context, task_id: UUID, seen: str | None = None, *, every_s: float = 15.0
    ) -> AsyncIterator[Snapshot | None]:
        """Yield a task as it is, unless that has been seen, then whenever it has changed, until the server stops.

        Args:
            context: The application's parts, as the caller sees them.
            task_id: Which task.
            seen: Tag of what the caller knows already.
            every_s: Seconds without news after which to yield None, so that the caller can say that it lives.

        Raises:
            TaskNotFound: If there is no such task, or none any more.
        """
        async with self.watch(context, task_id) as watch:
            while not watch.is_closing:
                found = await watch.change(seen or "", every_s)
                seen = seen if found is None else found.tag
                yield found

    def close(self) -> None:
        """Wake all who wait, since the server stops."""
        self._closing = True
        for watch in self._watches.values():
            watch.close()

    async def _first(self, context: Context, task_id: UUID) -> Snapshot:
        """Return the task as a look finds it that begins from now on."""
        answer: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        self._joining.append((task_id, answer))
        if self._looking is None or self._looking.done():
            self._due = asyncio.Event()
            self._looking = asyncio.create_task(self._look(context.seen_by(None)), name="watcher")
        self._due.set()
        return await answer

    async def _look(self, context: Context) -> None:
        failing = False
        while self._watches or self._joining:
            self._due.clear()
            joining, self._joining = self._joining, []
            watched = list(self._watches.items())
            ids = dict.fromkeys([task_id for task_id, _ in watched] + [task_id for task_id, _ in joining])
            try:
                found = await self._aside.run(snapshots.take, context, ids)
            except Exception as error:  # noqa: BLE001  (whatever the database's driver raises)
                log.log(logging.DEBUG if failing else logging.WARNING, "tasks cannot be watched now: %s", error)
                failing = True
                for _, answer in joining:
                    if not answer.done():
                        answer.set_exception(error)
            else:
                failing = False
                for task_id, watch in watched:
                    watch.tell(found.get(task_id))
                for task_id, answer in joining:
                    _answer(answer, found.get(task_id))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._due.wait()


def _answer(answer: asyncio.Future[Snapshot], found: Snapshot | None) -> None:
    if answer.done():  # who asked went away
        return
    if found is None:
        answer.set_exception(TaskNotFound())
    else:
        answer.set_result(found)


def install(app: FastAPI) -> None:
    """Give the application its watcher, with a thread of its own, and let nobody wait once the server stops."""
    app.state.watcher = Watcher(Aside(1))
    app.state.at_stop = [*getattr(app.state, "at_stop", []), app.state.watcher.close]


async def _watcher(request: Request) -> Watcher:
    watcher: Watcher = request.app.state.watcher
    return watcher


WatcherDep = Annotated[Watcher, Depends(_watcher)]
