"""What routes ask for: the application's parts, and a transaction that ends before the answer leaves."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request

from app.context import Context
from app.db.session import UnitOfWork


async def _context(request: Request) -> Context:  # a plain function would go through a thread each time
    context: Context = request.app.state.context
    return context


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
