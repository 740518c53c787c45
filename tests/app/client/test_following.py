"""Following by the client and by the command line, against the real gateway and against ones that misbehave."""

import json
import threading
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from app.cli import main
from app.client import Refused, Unreachable, VolcalClient, following, transport
from app.domain.failures import cancelled
from app.domain.tasks import TaskState
from tests.app.api.tasks.following.conftest import Live, Run
from tests.app.conftest import World


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(following, "_POLL_S", 0.001)


def state(**values: Any) -> dict[str, Any]:
    return {"id": "7", "status": "running", **values}


def stream(*events: tuple[str, str, dict[str, Any]], broken: bool = False) -> httpx.Response:
    text = "retry: 3000\n\n: still here\n\n" + "".join(
        f"id: {tag}\nevent: {name}\ndata: {json.dumps(data)}\n\n" for name, tag, data in events
    )
    headers = {"content-type": "text/event-stream; charset=utf-8"}
    return httpx.Response(200, headers=headers, text=text + ("id: half\nevent: st" if broken else ""))


class Server:
    """Answers looks at the task with the first of these, and requests for events one after the other."""

    def __init__(self, look: list[httpx.Response], *answers: httpx.Response | Exception) -> None:
        self._look = look
        self._answers = list(answers)
        self.seen: list[str | None] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return self._look.pop(0) if len(self._look) > 1 else self._look[0]
        self.seen.append(request.headers.get("last-event-id"))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self) -> VolcalClient:
        return VolcalClient("http://volcal.test", transport=httpx.MockTransport(self), patience_s=0.2)


RUNNING = httpx.Response(200, json=state())


def test_a_line_that_breaks_is_taken_up_where_it_broke() -> None:
    server = Server(
        [RUNNING],
        stream(("status", "a", state()), ("stage", "b", state(stage="reading")), broken=True),
        httpx.ConnectError("away"),
        httpx.Response(503),
        stream(("end", "c", state(status="done", progress=1.0))),
    )
    with server.client() as client:
        events = list(client.events("7"))
    assert [(event.name, event.id, event.task.status) for event in events] == [
        ("status", "a", "running"),
        ("stage", "b", "running"),
        ("end", "c", "done"),
    ]
    assert server.seen == [None, "b", "b", "b"]


@pytest.mark.parametrize("answer", [httpx.Response(404), httpx.Response(200, text="<html>"), httpx.Response(405)])
def test_where_there_is_no_stream_the_server_is_asked(answer: httpx.Response) -> None:
    looks = [state(), state(), state(), state(progress=0.5, steps=[]), state(status="done", stage="")]
    server = Server([httpx.Response(200, json=look) for look in looks], answer)
    with server.client() as client:
        assert [event.name for event in client.events("7")] == ["status", "progress", "end"]


def test_a_task_that_is_deleted_and_a_server_that_stays_away_are_errors() -> None:
    with Server([RUNNING], stream(("gone", "gone", {}))).client() as client, pytest.raises(Refused, match="deleted"):
        list(client.events("7"))
    refused = httpx.Response(404, json={"code": "TASK_NOT_FOUND", "detail": "There is no such task."})
    with Server([RUNNING], refused).client() as client, pytest.raises(Refused, match="no such task"):
        list(client.events("7"))
    away = [httpx.ConnectError("away")] * 1000
    with Server([RUNNING], *away).client() as client, pytest.raises(Unreachable):
        list(client.events("7"))


@pytest.mark.service
def test_the_command_line_shows_a_task_live(world: World, live: Any) -> None:
    served: Live = live()
    task = world.add(TaskState.PENDING)
    run = Run(world, task)
    run.beat(0.25, "reading")
    timer = threading.Timer(2.0, run.finish)
    timer.start()
    asked = CliRunner().invoke(main, ["status", str(task), "--follow", "--server", served.url])
    timer.join()
    assert asked.exit_code == 0, asked.output
    assert asked.output.splitlines() == ["running, reading (25%)", "done (100%)"]

    told = CliRunner().invoke(main, ["logs", str(task), "--follow", "--server", served.url])
    assert told.exit_code == 0, told.output
    assert [line.split(maxsplit=2)[2] for line in told.output.splitlines()] == ["A worker has taken it.", "Done."]
    lines = CliRunner().invoke(main, ["logs", str(task), "--json", "--server", served.url]).output.splitlines()
    assert [json.loads(line)["line"] for line in lines] == [0, 1]


@pytest.mark.service
def test_following_a_task_that_fails_ends_as_a_failure(world: World, live: Any) -> None:
    task = world.add(TaskState.KILLED, error=cancelled())
    asked = CliRunner().invoke(main, ["status", str(task), "--follow", "--server", live().url])
    assert asked.exit_code == 2
    assert "error[CANCELLED]" in asked.output
