"""A gateway as it is served, on a port of loopback, and the steps of a run as its worker would write them."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
import uvicorn

from app.context import Context
from app.main import create_app
from app.services import runs
from app.services.runs import Lease
from app.serving import server
from tests.app.conftest import World

Event = tuple[str, str, dict[str, Any]]


class Live:
    """A gateway in a thread of this process."""

    def __init__(self, context: Context) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.server: uvicorn.Server = server(create_app(context))
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self._listening]}, daemon=True)
        self._thread.start()
        httpx.get(f"{self.url}/livez", timeout=60).raise_for_status()

    def events_url(self, task_id: UUID | str) -> str:
        return f"{self.url}/api/v1/tasks/{task_id}/events"

    def socket_url(self, task_id: UUID | str) -> str:
        return self.events_url(task_id).replace("http://", "ws://")

    def ask_to_stop(self) -> None:
        self.server.should_exit = True

    def stop(self) -> None:
        self.ask_to_stop()
        self._thread.join(timeout=30)
        assert not self._thread.is_alive()


@pytest.fixture
def live(world: World) -> Iterator[Callable[..., Live]]:
    """Serve the world with another policy."""
    with ExitStack() as kept:

        def _serve(**policy: Any) -> Live:
            found = Live(world.with_policy(**policy).context)
            kept.callback(found.stop)
            return found

        yield _serve


class Run:
    """What a worker writes of a task."""

    def __init__(self, world: World, task_id: UUID) -> None:
        self._world = world
        self.lease = self._write(lambda work, now: runs.acquire(work, task_id, worker="w", now=now, lease_s=600))

    def _write(self, step: Callable[..., Any]) -> Any:
        with self._world.context.unit_of_work() as work:
            answer = step(work, datetime.now(UTC))
            work.commit()
            return answer

    def beat(self, progress: float, stage: str) -> None:
        lease: Lease = self.lease
        self._write(lambda work, now: runs.heartbeat(work, lease, progress=progress, stage=stage, now=now, lease_s=600))

    def finish(self) -> None:
        lease: Lease = self.lease
        self._write(lambda work, now: runs.finish(work, lease, document={}, artifacts=[], now=now))


def events_in(lines: Iterator[str]) -> Iterator[Event]:
    """Yield what a stream says: name, id and data of each event."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield fields["event"], fields["id"], json.loads(fields["data"])
            fields = {}
