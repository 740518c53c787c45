import json
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.domain.tasks import TaskState
from app.services.following import logbook
from app.services.following.logbook import Line
from tests.app.conftest import NOW, World


def fill(world: World, count: int, **more: Any) -> Any:
    task = world.add(TaskState.RUNNING)
    with world.context.unit_of_work() as work:
        lines = [Line(NOW + timedelta(seconds=i), f"line {i}", attempt=1, **more) for i in range(count)]
        assert logbook.write(work, task, lines)
        work.commit()
    return task


def test_what_happened_to_a_task_is_told_from_its_creation_on(client: TestClient, send: Any) -> None:
    task = client.post("/api/v1/tasks", json={"pipeline": "constant"}).json()
    send(task["uploads"]["file"]["url"], b"12345")
    client.post(f"/api/v1/tasks/{task['id']}/cancel")
    page = client.get(f"/api/v1/tasks/{task['id']}/logs").json()
    assert [(line["line"], line["level"], line["message"]) for line in page["lines"]] == [
        (0, "info", "Created for constant."),
        (1, "info", "file: 5 bytes have arrived."),
        (2, "info", "Queued."),
        (3, "error", page["lines"][3]["message"]),
    ]
    assert page["lines"][3]["message"].startswith("The task was cancelled. ")
    assert page["lines"][3]["message"].endswith(" [CANCELLED]")
    assert page["next"] == 4
    assert client.get(f"/api/v1/tasks/{task['id']}/logs", params={"line": 4}).json() == {"lines": [], "next": 4}


def test_a_long_log_comes_in_pages_that_meet(world: World, client: TestClient) -> None:
    task = fill(world, 25)
    seen, path = [], f"/api/v1/tasks/{task}/logs?limit=10"
    while True:
        answer = client.get(path)
        if not answer.json()["lines"]:
            break
        seen += [line["message"] for line in answer.json()["lines"]]
        path = answer.links["next"]["url"]
    assert seen == [f"line {i}" for i in range(25)]


def test_a_log_is_read_as_text_and_as_json_lines_too(world: World, client: TestClient) -> None:
    task = fill(world, 2, stage="reading", level="warning")
    path = f"/api/v1/tasks/{task}/logs"
    text = client.get(path, headers={"Accept": "text/plain"})
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text == (
        "2026-05-01T12:00:00.000Z warning [1] reading: line 0\n2026-05-01T12:00:01.000Z warning [1] reading: line 1\n"
    )
    lines = client.get(path, headers={"Accept": "application/x-ndjson"})
    assert [json.loads(line) for line in lines.text.splitlines()] == client.get(path).json()["lines"]
    assert lines.links["next"]["url"] == f"{path}?line=2&limit=500"


@pytest.mark.parametrize("query", ["line=-1", "limit=0", "limit=2001", "line=x"])
def test_lines_that_cannot_be_are_refused(world: World, client: TestClient, query: str) -> None:
    assert client.get(f"/api/v1/tasks/{world.add()}/logs?{query}").status_code == 422
