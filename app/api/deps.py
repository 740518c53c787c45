"""What routes ask for: the application's parts, and a transaction that ends before the answer leaves."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, ParamSpec, TypeVar
from uuid import UUID

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, Request

from app.context import Context
from app.db.session import UnitOfWork
from app.domain.access import Caller
from app.domain.errors import TaskNotFound

CALLER = "volcal.caller"
"""Where a request's scope says who calls; absent where nobody is asked."""
REFUSAL = "volcal.refusal"
"""Where it has the error with which an upload's route answers, if its caller may not call it."""

P = ParamSpec("P")
T = TypeVar("T")


async def _context(request: Request) -> Context:  # a plain function would go through a thread each time
    context: Context = request.app.state.context
    caller: Caller | None = request.scope.get(CALLER)
    return (
        context if caller is None else context.seen_by(caller)
    )  # others' tasks are not there, whatever the route asks


ContextDep = Annotated[Context, Depends(_context)]


def _reading(context: ContextDep) -> Iterator[UnitOfWork]:
    with context.unit_of_work(read_only=True) as work:
        yield work


def _writing(context: ContextDep) -> Iterator[UnitOfWork]:
    with context.unit_of_work() as work:
        yield work
        work.commit()


# scope="function": closed or committed before the response leaves, so a client never reads stale state.
ReadDep = Annotated[UnitOfWork, Depends(_reading, scope="function")]
WorkDep = Annotated[UnitOfWork, Depends(_writing, scope="function")]


def read_id(text: str) -> UUID:
    """Return a task's id, where a route takes whatever stands in its place.

    Raises:
        TaskNotFound: If it is none.
    """
    try:
        return UUID(text)
    except ValueError:
        raise TaskNotFound from None


class Aside:
    """Threads set aside for one kind of work: where it waits for another server, everybody else is still answered.

    Args:
        threads: How much of it goes on at a time; more waits its turn, and no thread.
    """

    def __init__(self, threads: int) -> None:
        self._limiter = CapacityLimiter(threads)

    @property
    def waiting(self) -> int:
        """How much waits its turn."""
        return self._limiter.statistics().tasks_waiting

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do it in one of the threads."""
        return await to_thread.run_sync(partial(work, *args, **kwargs), limiter=self._limiter)


def set_aside(app: FastAPI) -> None:
    """Set threads aside for what waits for others.

    Opening uploads may ask tusd; tusd, while it is answered, asks back; looking at images waits for whichever hosts
    they are on, and takes memory.
    """
    app.state.looking = Aside(4)
    app.state.opening = Aside(24)
    app.state.admitting = Aside(8)


async def _opening(request: Request) -> Aside:
    aside: Aside = request.app.state.opening
    return aside


async def _admitting(request: Request) -> Aside:
    aside: Aside = request.app.state.admitting
    return aside


async def _looking(request: Request) -> Aside:
    aside: Aside = request.app.state.looking
    return aside


LookingDep = Annotated[Aside, Depends(_looking)]
OpeningDep = Annotated[Aside, Depends(_opening)]
AdmittingDep = Annotated[Aside, Depends(_admitting)]
