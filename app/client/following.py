"""Following a task: what the server tells over an open line, or, where there is none, what is found by asking."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from pydantic import BaseModel

from app.client.errors import Refused, Unreachable
from app.client.models import SETTLED
from app.client.transport import Patience, Transport, refusal

_POLL_S = 2.0
_NOTHING_TO_COME = 204
_NO_TASK = "TASK_NOT_FOUND"
_NO_STREAM = {404, 405, 406, 429, 501}  # an older server, a proxy that knows no streams, or too many of them


class Standing(BaseModel, frozen=True):
    """Where a task stands, as an event tells it."""

    id: str
    status: str
    step: int = 1
    steps: int = 1
    stage: str = ""
    progress: float = 0.0
    eta: datetime | None = None
    queue_position: int | None = None
    attempts: int = 0
    cancelling: bool = False
    log_lines: int = 0
    error: dict[str, Any] | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing follows unless somebody acts."""
        return self.status in SETTLED


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Args:
        name: What is new: ``status``, ``stage``, ``progress`` or ``end``.
        id: The state's tag; empty if it was found by asking.
        task: Where the task stands.
    """

    name: str
    id: str
    task: Standing


class LogLine(BaseModel, frozen=True):
    """One line of a task's log."""

    line: int
    time: datetime
    attempt: int = 0
    level: str = "info"
    stage: str = ""
    message: str


class LogPage(BaseModel, frozen=True):
    """Some lines of a log, and the number of the line to ask for next."""

    lines: list[LogLine]
    next: int


def follow(http: Transport, task_id: str) -> Iterator[Event]:
    """Yield what happens to a task until it has ended; a line that breaks is taken up where it broke.

    Args:
        http: The server.
        task_id: Which task.

    Raises:
        Refused: If there is no such task, or none any more.
        Unreachable: If the server stays away.
    """
    http.call("GET", f"/api/v1/tasks/{task_id}")  # which says soon if the address is wrong, or there is no such task
    seen, patience = "", Patience(http.patience_s)
    while True:
        why: object = "the line ended"
        try:
            with http.stream(f"/api/v1/tasks/{task_id}/events", {"Last-Event-ID": seen} if seen else {}) as answer:
                if answer.status_code == _NOTHING_TO_COME:
                    return
                if not _is_stream(answer):
                    yield from _ask(http, task_id)
                    return
                for event in _events(answer.iter_lines()):
                    patience.restart()
                    seen = event.id
                    yield event
                    if event.name == "end":
                        return
        except httpx.InvalidURL as error:
            raise Unreachable(http.server, error) from None
        except httpx.TransportError as error:
            why = error
        except _Passing as passing:
            why = passing
        if not patience.pause():
            raise Unreachable(http.server, why)


class _Passing(Exception):
    """The server cannot tell just now."""


def _is_stream(answer: httpx.Response) -> bool:
    """Return whether it is a stream; false if there is none, so that one has to ask.

    Raises:
        Refused: If the server says no.
    """
    if answer.is_success:
        kind: str = answer.headers.get("content-type", "")
        return kind.startswith("text/event-stream")
    answer.read()
    if answer.status_code in {502, 503, 504}:
        raise _Passing(answer.status_code)
    said = refusal(answer)
    if answer.status_code in _NO_STREAM and said.code not in {_NO_TASK, "RATE_LIMITED"}:
        return False
    raise said


def _events(lines: Iterator[str]) -> Iterator[Event]:
    """Yield the events of a stream.

    Raises:
        Refused: If the task was deleted.
    """
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if fields.get("event") == "gone":
            raise Refused(404, code=_NO_TASK, message="The task was deleted.")
        if "data" in fields:
            standing = Standing.model_validate(json.loads(fields["data"]))
            yield Event(fields.get("event", "status"), fields.get("id", ""), standing)
        fields = {}


def _ask(http: Transport, task_id: str) -> Iterator[Event]:
    before: Standing | None = None
    while True:
        found = http.call("GET", f"/api/v1/tasks/{task_id}")
        now = Standing.model_validate({key: value for key, value in found.items() if key not in {"step", "steps"}})
        if now != before:
            yield Event("end" if now.is_settled else _name(now, before), "", now)
        if now.is_settled:
            return
        before = now
        time.sleep(_POLL_S)


def _name(now: Standing, before: Standing | None) -> str:
    if before is None or (now.status, now.attempts) != (before.status, before.attempts):
        return "status"
    return "stage" if now.stage != before.stage else "progress"
