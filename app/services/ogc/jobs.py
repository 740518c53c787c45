"""Which tasks does a list of jobs hold?"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Float, FunctionElement, and_, func, literal, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from app.db.models import OgcOrder, Task
from app.db.session import UnitOfWork
from app.db.types import UtcDateTime
from app.services import queries, tasks
from app.services.ogc.words import DISMISSED, STATUS


class seconds_between(FunctionElement[float]):  # noqa: N801  (SQLAlchemy's habit for functions)
    """SQL: how many seconds lie between two instants."""

    type = Float()
    inherit_cache = True


@compiles(seconds_between, "sqlite")
def _on_sqlite(element: seconds_between, compiler: SQLCompiler, **more: Any) -> str:
    first, last = (compiler.process(each, **more) for each in element.clauses)
    return f"round((julianday({last}) - julianday({first})) * 86400.0, 3)"  # it counts milliseconds, in days


@compiles(seconds_between)
def _elsewhere(element: seconds_between, compiler: SQLCompiler, **more: Any) -> str:
    first, last = (compiler.process(each, **more) for each in element.clauses)
    return f"extract(epoch from ({last} - {first}))"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs a list holds.

    Args:
        processes: Only of these processes; empty = of any.
        statuses: Only with one of these statuses; empty = with any.
        ordered: Only such as were asked for by this standard's execution, not by another surface.
        since: Only such as were created then or later.
        until: Only such as were created then or earlier.
        shortest_s: Only such as have run, or ran, so many seconds at least.
        longest_s: And so many at most.
    """

    processes: Collection[str] = ()
    statuses: Collection[str] = ()
    ordered: bool = False
    since: datetime | None = None
    until: datetime | None = None
    shortest_s: float | None = None
    longest_s: float | None = None

    def conditions(self, now: datetime) -> list[ColumnElement[bool]]:
        """Return them as SQL has them."""
        found: list[ColumnElement[bool]] = []
        if self.processes:
            found.append(Task.pipeline.in_(list(self.processes)))
        if self.statuses:
            found.append(or_(*map(_has_status, self.statuses)))
        if self.ordered:
            found.append(select(OgcOrder.task_id).where(OgcOrder.task_id == Task.id).exists())
        if self.since is not None:
            found.append(Task.created_at >= self.since)
        if self.until is not None:
            found.append(Task.created_at <= self.until)
        if self.shortest_s is not None or self.longest_s is not None:
            found.append(Task.started_at.is_not(None))
            ran = seconds_between(Task.started_at, func.coalesce(Task.finished_at, literal(now, UtcDateTime())))
            found += [] if self.shortest_s is None else [ran >= self.shortest_s]
            found += [] if self.longest_s is None else [ran <= self.longest_s]
        return found


def _has_status(status: str) -> ColumnElement[bool]:
    states = [state for state, word in STATUS.items() if word == status]
    if status == DISMISSED:
        return or_(Task.state.in_(states), Task.cancel_requested)
    return and_(Task.state.in_(states), Task.cancel_requested.is_(False))


def list_jobs(
    work: UnitOfWork, wanted: Filter, *, before: tuple[datetime, UUID] | None = None, limit: int = 10
) -> list[Task]:
    """Return up to ``limit`` jobs, newest first.

    Args:
        work: The transaction.
        wanted: Which.
        before: Time of creation and id of the last one already seen.
        limit: How many at most.
    """
    return tasks.list_tasks(work, before=before, limit=limit, also=wanted.conditions(queries.utc_now()))
