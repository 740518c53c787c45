"""A task's log by line: as JSON, as JSON lines, or as text."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from app.api.deps import ReadDep
from app.api.problems import examples
from app.db.models import LogLine
from app.domain.errors import TaskNotFound
from app.services import queries
from app.services.following import logbook

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"])

_JSON, _LINES, _TEXT = "application/json", "application/x-ndjson", "text/plain"


class LogLineOut(BaseModel):
    """One line."""

    line: int = Field(description="Its number, from 0; where numbers are left out, older lines are gone.", examples=[7])
    time: datetime
    attempt: int = Field(description="Which attempt it belongs to; 0 before the first.", examples=[1])
    level: str = Field(
        description="`info`, `warning`, `error`, or `output` for what the run itself wrote.", examples=["info"]
    )
    stage: str = Field(description="Stage of the run; empty outside of one.", examples=["reading"])
    message: str = Field(examples=["took 1.20 s"])

    @classmethod
    def of(cls, row: LogLine) -> "LogLineOut":
        """Show a line."""
        return cls(
            line=row.number, time=row.at, attempt=row.attempt, level=row.level, stage=row.stage, message=row.message
        )

    def text(self) -> str:
        """Return it as one line of text."""
        when = self.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        attempt = f"[{self.attempt}]" if self.attempt else ""
        stage = f"{self.stage}:" if self.stage else ""
        return " ".join(filter(None, [when, f"{self.level:<7}", attempt, stage, self.message]))


class LogPage(BaseModel):
    """Some lines of a log, oldest first."""

    lines: list[LogLineOut]
    next: int = Field(
        description="The `line` to ask for next; lines may come there until the task has ended.", examples=[8]
    )


def wanted(accept: str) -> str:
    """Return which of the three forms an Accept header asks for; JSON unless it names another one first.

    >>> wanted("text/plain;q=0.9, */*"), wanted("*/*"), wanted("application/x-ndjson")
    ('text/plain', 'application/json', 'application/x-ndjson')
    """
    for part in accept.split(","):
        kind = part.partition(";")[0].strip().lower()
        if kind in {_JSON, _LINES, _TEXT}:
            return kind
    return _JSON


def _described() -> dict[int | str, dict[str, Any]]:
    line = {"line": 7, "time": "2026-05-01T12:00:00Z", "attempt": 1, "level": "info", "stage": "reading"}
    shown = {
        _LINES: {"schema": {"type": "string"}, "example": f"{line | {'message': 'took 1.20 s'}}\n".replace("'", '"')},
        _TEXT: {"schema": {"type": "string"}, "example": "2026-05-01T12:00:00.000Z info    [1] reading: took 1.20 s\n"},
    }
    link = {"description": "The next page.", "schema": {"type": "string"}}
    return {
        **examples(TaskNotFound()),
        200: {"description": "The lines.", "content": shown, "headers": {"Link": link}},
    }


@router.get("/{task_id}/logs", summary="Read a task's log", response_model=LogPage, responses=_described())
def logs(
    task_id: UUID,
    work: ReadDep,
    request: Request,
    line: Annotated[int, Query(ge=0, le=2**31 - 1, description="Number of the first line.")] = 0,
    limit: Annotated[int, Query(ge=1, le=logbook.MOST_LINES, description="How many lines at most.")] = 500,
) -> Response:
    """Return what happened to a task, line by line from `line` on.

    Files, queue, workers, stages with their seconds, warnings, how it ended, and what the run wrote to its standard
    error. `Accept: text/plain` gets lines of text, `application/x-ndjson` a JSON object a line; `Link` has the next
    page. A log keeps its newest 2000 lines, 256 KiB at most, for as long as there is the task.
    """
    queries.get_task(work, task_id)
    lines = [LogLineOut.of(row) for row in logbook.read(work, task_id, first=line, limit=limit)]
    following = lines[-1].line + 1 if lines else line
    headers = {"Link": f'<{request.url.path}?line={following}&limit={limit}>; rel="next"', "Cache-Control": "no-store"}
    form = wanted(request.headers.get("accept", ""))
    if form == _JSON:
        return Response(LogPage(lines=lines, next=following).model_dump_json(), media_type=_JSON, headers=headers)
    texts: Iterable[str] = (each.text() if form == _TEXT else each.model_dump_json() for each in lines)
    return Response("".join(f"{text}\n" for text in texts), media_type=form, headers=headers)
