"""What is told of a task to those who follow it: where it stands, under a name that says what is new.

An event carries everything, not what changed, so whoever misses some is up to date with the next: a slow reader is
told less often, never something old. Its id is a tag of what it says; who comes back with that hears only what is new.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection

from app.api.deps import CALLER
from app.api.schemas import ErrorOut
from app.api.tasks.watching import Watch
from app.context import Context
from app.domain.access import ANYBODY, Caller
from app.domain.tasks import TaskState
from app.observe import requests
from app.services.following.errors import StreamsExhausted
from app.services.watching.snapshots import Snapshot

STILL_S = 15.0
"""Seconds without news after which a follower is told that the connection lives."""
LONGEST_S = 3600.0
"""Seconds after which a connection ends and has to be made anew, so that a key that was revoked is asked for."""
STALL_S = 30.0
"""Seconds that a follower may take to read what fills the line; who takes longer is dropped."""

Name = Literal["status", "stage", "progress", "end", "gone"]


class TaskEvent(BaseModel):
    """Where a task stands."""

    id: UUID
    status: TaskState = Field(examples=["running"])
    step: int = Field(description="The step at which it is, from 1.", examples=[1])
    steps: int = Field(description="How many steps its pipeline has.", examples=[1])
    stage: str = Field(description="What the run is doing.", examples=["comparing"])
    progress: float = Field(description="Fraction done, 0 to 1; within an attempt it never falls.", examples=[0.4])
    eta: datetime | None = Field(description="When it is expected to be done; null while that cannot be told.")
    queue_position: int | None = Field(
        description="1 for the next to be served; null if it is not queued.", examples=[None]
    )
    attempts: int = Field(description="Times that a worker took it, or its present step.", examples=[1])
    cancelling: bool = Field(description="Whether it is being stopped.")
    started_at: datetime | None
    finished_at: datetime | None
    log_lines: int = Field(description="Lines that its log has had: from here on they are new.", examples=[11])
    error: ErrorOut | None = Field(description="Why it failed.", examples=[None])

    @classmethod
    def of(cls, found: Snapshot, context: Context) -> "TaskEvent":
        """Show a snapshot."""
        spec = context.catalogue.get(found.pipeline)
        return cls(
            id=found.task_id,
            status=found.state,
            step=found.step + 1,
            steps=1 if spec is None else len(spec.steps),
            stage=found.stage,
            progress=found.progress,
            eta=found.eta_at,
            queue_position=found.queue_position,
            attempts=found.attempts,
            cancelling=found.cancelling,
            started_at=found.started_at,
            finished_at=found.finished_at,
            log_lines=found.log_lines,
            error=None if found.error is None else ErrorOut(**found.error),
        )


@dataclass(frozen=True, slots=True)
class News:
    """One event.

    Args:
        name: What is new.
        tag: Its id.
        data: JSON.
    """

    name: Name
    tag: str
    data: str


def name_of(found: Snapshot, before: Snapshot | None) -> Name:
    """Return what is new, the weightiest of it; to who has seen nothing all is."""
    if found.state.is_settled:
        return "end"
    if before is None or (found.state, found.step, found.attempts) != (before.state, before.step, before.attempts):
        return "status"
    return "stage" if found.stage != before.stage else "progress"


async def follow(watch: Watch, context: Context, seen: str) -> AsyncIterator[News | None]:
    """Yield what happens to a task, from what is not yet seen to its end; None now and then while nothing does.

    It ends earlier if the server stops, or after ``LONGEST_S``.

    Args:
        watch: The task.
        context: The application's parts.
        seen: Tag of the last event that the follower has.

    Raises:
        TaskNotFound: If the task was deleted meanwhile.
    """
    before: Snapshot | None = None
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        found = await watch.change(seen, STILL_S)
        if found is None:
            if watch.is_closing:
                return
            yield None
            continue
        yield News(name_of(found, before), found.tag, TaskEvent.of(found, context).model_dump_json())
        if found.state.is_settled:
            return
        before, seen = found, found.tag


class Followers:
    """Counts the connections that each caller holds open to this process."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def place(self, connection: HTTPConnection, kind: str) -> Iterator[None]:
        """Hold one more for as long as the block lasts.

        Args:
            connection: Whose.
            kind: ``sse`` or ``websocket``.

        Raises:
            StreamsExhausted: If its caller holds as many as are allowed.
        """
        caller: Caller = connection.scope.get(CALLER, ANYBODY)
        address = connection.client.host if connection.client else "?"
        who = f"key:{caller.key}:{caller.owner}" if caller.key else f"address:{address}"
        most: int = connection.app.state.context.policy.streams_per_caller
        if most and self._open[who] >= most:
            raise StreamsExhausted(most)
        self._open[who] += 1
        try:
            with requests.following(kind):
                yield
        finally:
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]
