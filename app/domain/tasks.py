"""The life of a task, said once.

::

    waiting ──► pending ──► running ──► done
     ▲  │          ▲ │       │ │ │
     │  │          └─┼───────┘ │ │   (its worker was lost: queued again, up to N attempts)
     │  ├──► error ◄─┼─────────┘ │
     │  │     │ │    │           │
     └──┼─────┘ └────┼─► pending │   (a fresh upload; a restart)
        └──► killed ◄┴───────────┘
               └──► pending          (a restart)
"""

from enum import StrEnum
from types import MappingProxyType

from app.domain.errors import IllegalTransition


class TaskState(StrEnum):
    """Where a task stands; the values are what the API and the database say."""

    WAITING = "waiting"  # created, files still arriving
    PENDING = "pending"  # complete, queued for a worker
    RUNNING = "running"
    DONE = "done"
    ERROR = "error"  # a file was refused, or the pipeline refused or failed
    KILLED = "killed"  # cancelled, expired, or its worker was lost too often

    @property
    def is_settled(self) -> bool:
        """Whether nothing follows unless the user acts.

        >>> TaskState.ERROR.is_settled, TaskState.RUNNING.is_settled
        (True, False)
        """
        return self in {TaskState.DONE, TaskState.ERROR, TaskState.KILLED}


_NEXT = MappingProxyType(
    {
        TaskState.WAITING: frozenset({TaskState.PENDING, TaskState.ERROR, TaskState.KILLED}),
        TaskState.PENDING: frozenset({TaskState.RUNNING, TaskState.KILLED}),
        TaskState.RUNNING: frozenset({TaskState.DONE, TaskState.ERROR, TaskState.KILLED, TaskState.PENDING}),
        TaskState.DONE: frozenset[TaskState](),
        TaskState.ERROR: frozenset({TaskState.WAITING, TaskState.PENDING}),
        TaskState.KILLED: frozenset({TaskState.PENDING}),
    }
)


def advance(current: TaskState, wanted: TaskState) -> TaskState:
    """Return ``wanted`` if a task may go there from ``current``.

    Raises:
        IllegalTransition: If the two states are not neighbours.

    >>> advance(TaskState.PENDING, TaskState.RUNNING)
    <TaskState.RUNNING: 'running'>
    """
    if wanted not in _NEXT[current]:
        raise IllegalTransition(current, wanted)
    return wanted


class UploadState(StrEnum):
    """Where one file stands."""

    OPEN = "open"  # bytes are still to come
    FINISHED = "finished"  # whole, in the store, and fit to use as far as a quick look can tell
    REJECTED = "rejected"  # whole, but not what its label says
    SUPERSEDED = "superseded"  # a fresh upload took its place, or it expired
