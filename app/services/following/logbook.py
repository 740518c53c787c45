"""What happened to a task, line by line, for whoever may see it.

A line is written in the transaction that makes it true, so none tells of what was rolled back; a run's own lines go
with its heartbeat. They are numbered from 0, and a task keeps its newest lines up to a bound: the numbers show where
older ones are gone. They end with the task.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from app.db.models import LogLine, Task
from app.db.session import UnitOfWork

MOST_LINES = 2_000
MOST_BYTES = 256 * 1024
LONGEST = 2_000  # characters of a message
OVERHEAD = 64  # bytes that a line counts beside its message

Level = Literal["info", "warning", "error", "output"]
"""How grave a line is; ``output`` is what the run itself wrote to its standard error."""

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]+")


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened.

    Args:
        at: When, UTC.
        message: What, in one line.
        level: How grave it is.
        stage: In which stage of the run; empty outside of one.
        attempt: Which attempt it belongs to; 0 before the first.
    """

    at: datetime
    message: str
    level: Level = "info"
    stage: str = ""
    attempt: int = 0


def write(work: UnitOfWork, task_id: UUID, lines: Sequence[Line], *where: ColumnElement[bool]) -> bool:
    """Add lines to a task's log, and drop the oldest where there are too many; False if the task is not so.

    Args:
        work: The transaction; the caller commits it.
        task_id: Which task.
        lines: What to add, in order.
        where: What must hold of the task, such as that a lease is still held.
    """
    if not lines:
        return True
    messages = [plain(line.message) for line in lines]
    sizes = [len(message.encode()) + OVERHEAD for message in messages]
    counted = work.session.execute(
        update(Task)
        .where(Task.id == task_id, *where)
        .values(log_lines=Task.log_lines + len(lines), log_bytes=Task.log_bytes + sum(sizes))
        .returning(Task.log_lines, Task.log_bytes)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if counted is None:
        return False
    number, begins = counted.log_lines - len(lines), counted.log_bytes - sum(sizes)
    rows: list[dict[str, Any]] = []
    for line, message, size in zip(lines, messages, sizes, strict=True):
        rows.append(
            {
                "task_id": task_id,
                "number": number + len(rows),
                "at": line.at,
                "level": line.level,
                "stage": plain(line.stage)[:64],
                "attempt": line.attempt,
                "message": message,
                "begins": begins,
            }
        )
        begins += size
    work.session.execute(insert(LogLine), rows)
    _trim(work, task_id, counted.log_lines - MOST_LINES, counted.log_bytes - MOST_BYTES)
    return True


def note(work: UnitOfWork, task_id: UUID, at: datetime, message: str, **more: Any) -> None:
    """Add one line to a task's log: ``level``, ``stage`` and ``attempt`` as ``Line`` has them."""
    write(work, task_id, [Line(at, message, **more)])


def read(work: UnitOfWork, task_id: UUID, *, first: int = 0, limit: int = MOST_LINES) -> list[LogLine]:
    """Return lines of a task's log in order, from a number on.

    Args:
        work: The transaction.
        task_id: Which task; whether it may be seen is the caller's to ask.
        first: Number of the first line; what is no longer kept is left out.
        limit: How many at most.
    """
    query = select(LogLine).where(LogLine.task_id == task_id, LogLine.number >= first)
    return list(work.session.execute(query.order_by(LogLine.number).limit(limit)).scalars())


def told(error: dict[str, Any]) -> str:
    """Return an error document as one line.

    >>> told({"code": "CANCELLED", "message": "The task was cancelled.", "remedy": ""})
    'The task was cancelled. [CANCELLED]'
    """
    label = f"{error['label']}: " if error.get("label") else ""
    code = f"[{error['code']}]" if error.get("code") else ""
    said = label + " ".join(str(error.get("message") or "").split())
    return " ".join(filter(None, [said, " ".join(str(error.get("remedy") or "").split()), code]))


def plain(text: str) -> str:
    r"""Return text that any database and terminal can take: no control characters, no halves of characters.

    >>> plain("a\x00b\r\n\x1b[31mred")
    'a b [31mred'
    """
    whole = text[: LONGEST + 1].encode("utf-8", "replace").decode()
    clean = _CONTROL.sub(" ", whole).rstrip()
    return clean if len(clean) <= LONGEST else f"{clean[: LONGEST - 1]}…"


def _trim(work: UnitOfWork, task_id: UUID, lines: int, size: int) -> None:
    """Drop the first so many lines, and those within the first so many bytes."""
    if lines > 0 or size > 0:
        old = or_(LogLine.number < lines, LogLine.begins < size)
        work.session.execute(
            delete(LogLine).where(LogLine.task_id == task_id, old).execution_options(synchronize_session=False)
        )
