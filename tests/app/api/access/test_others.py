"""Nobody learns anything of others' tasks, by any route there is or will be."""

import re
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from app.domain.tasks import TaskState
from app.main import create_app
from tests.app.conftest import World

Serve = Callable[..., TestClient]


def routes(*, naming: str) -> Iterator[tuple[str, str]]:
    """Yield method and path of every documented route whose path names such a thing."""
    for path, methods in create_app().openapi()["paths"].items():
        if f"{{{naming}}}" in path:
            yield from ((method.upper(), path) for method in methods)


TASK_ROUTES = sorted(routes(naming="task_id"))
UPLOAD_ROUTES = sorted(routes(naming="upload_id"))
# what the other placeholders of such paths may be
PARTS = {"label": "file", "name": "constant.json", "number": "0", "output_id": "results"}


def fill(path: str, **known: str) -> str:
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: {**PARTS, **known}[found[1]], path)


def call(client: TestClient, method: str, path: str, headers: dict[str, str]) -> Any:
    headers = {**headers, "Tus-Resumable": "1.0.0", "Upload-Offset": "0", "X-HTTP-Method-Override": "HEAD"}
    if method == "PATCH":
        headers["Content-Type"] = "application/offset+octet-stream"
    return client.request(method, path, headers=headers, **({"json": {}} if method == "POST" else {}))


def test_the_routes_that_name_a_task_or_an_upload_are_found() -> None:
    assert ("GET", "/api/v1/tasks/{task_id}") in TASK_ROUTES
    assert ("GET", "/query_task/{task_id}") in TASK_ROUTES
    assert len(TASK_ROUTES) >= 12
    assert {method for method, _ in UPLOAD_ROUTES} == {"HEAD", "PATCH", "POST"}


@pytest.mark.case(28)
@pytest.mark.parametrize(("method", "path"), TASK_ROUTES)
@pytest.mark.parametrize("state", [TaskState.DONE, TaskState.WAITING])
def test_another_owners_task_answers_as_one_that_is_not_there(
    world: World, serve: Serve, bob: dict[str, str], method: str, path: str, state: TaskState
) -> None:
    more: dict[str, Any] = {"document": {"hulls": []}, "artifacts": []} if state is TaskState.DONE else {}
    theirs = world.add(state, owner="alice", **more)
    client = serve()
    answer = call(client, method, fill(path, task_id=str(theirs)), bob)
    absent = call(client, method, fill(path, task_id=(none := str(uuid4()))), bob)
    assert answer.status_code == absent.status_code == 404
    assert answer.text == absent.text.replace(none, str(theirs))
    assert world.task(theirs).state is state
    assert not world.task(theirs).cancel_requested


@pytest.mark.parametrize(("method", "path"), TASK_ROUTES)
def test_nobodys_key_opens_no_route_to_a_task_that_has_an_owner(
    world: World, serve: Serve, alice: dict[str, str], method: str, path: str
) -> None:
    theirs = world.add(TaskState.WAITING, owner="alice")
    answer = call(serve(), method, fill(path, task_id=str(theirs)), {})
    assert answer.status_code == (401 if path.startswith(("/api/v1/", "/ogc/")) else 404)
    assert call(serve(legacy_needs_key=True), method, fill(path, task_id=str(theirs)), {}).status_code == 401


@pytest.mark.parametrize(("method", "path"), UPLOAD_ROUTES)
def test_another_owners_upload_answers_as_one_that_is_not_there(
    serve: Serve, alice: dict[str, str], bob: dict[str, str], method: str, path: str
) -> None:
    client = serve()
    task = client.post("/api/v1/tasks", json={"pipeline": "constant"}, headers=alice).json()
    upload = task["uploads"]["file"]["url"].rpartition("/")[2]
    assert call(client, method, fill(path, upload_id=upload), bob).status_code == 404
    assert call(client, method, fill(path, upload_id=upload), alice).status_code in {200, 204}


def test_who_has_the_url_of_an_upload_may_send_without_a_key_unless_one_is_required(
    serve: Serve, alice: dict[str, str]
) -> None:
    task = serve().post("/api/v1/tasks", json={"pipeline": "constant"}, headers=alice).json()
    path = task["uploads"]["file"]["url"].removeprefix("http://volcal.test")
    strict = serve(legacy_needs_key=True)
    refused = call(strict, "PATCH", path, {})
    assert refused.status_code == 401
    assert refused.headers["Tus-Resumable"] == "1.0.0"
    assert refused.json()["code"] == "KEY_MISSING"
    assert call(strict, "HEAD", path, alice).status_code == 200
    assert call(serve(), "HEAD", path, {}).status_code == 200


def test_a_file_brought_without_a_key_starts_its_owners_task(world: World, serve: Serve, alice: dict[str, str]) -> None:
    client = serve()
    task = client.post("/api/v1/tasks", json={"pipeline": "constant"}, headers=alice).json()
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Upload-Length": "3",
        "Content-Type": "application/offset+octet-stream",
    }
    path = task["uploads"]["file"]["url"].removeprefix("http://volcal.test")
    assert client.patch(path, content=b"abc", headers=headers).status_code == 204
    assert client.get(f"/api/v1/tasks/{task['id']}", headers=alice).json()["status"] == "pending"


def test_lists_have_ones_own_tasks_only(
    serve: Serve, alice: dict[str, str], bob: dict[str, str], admin: dict[str, str]
) -> None:
    client = serve()
    ids = {
        name: {client.post("/api/v1/tasks", json={}, headers=key).json()["id"] for _ in range(3)}
        for name, key in (("alice", alice), ("bob", bob))
    }
    nobodys = client.post("/create_task").json()["id"]
    for name, key in (("alice", alice), ("bob", bob)):
        seen, cursor = set(), None
        while True:
            page = client.get(
                "/api/v1/tasks", params={"limit": 2} | ({"cursor": cursor} if cursor else {}), headers=key
            )
            seen |= {task["id"] for task in page.json()["tasks"]}
            if (cursor := page.json()["next"]) is None:
                break
        assert seen == ids[name]
    everything = {task["id"] for task in client.get("/api/v1/tasks", headers=admin).json()["tasks"]}
    assert everything == ids["alice"] | ids["bob"] | {nobodys}


def test_links_to_files_are_signed_by_themselves_and_lead_to_one_file(
    world: World, serve: Serve, alice: dict[str, str], bob: dict[str, str]
) -> None:
    (source := world.root / "x").write_text("report")
    task = world.add(TaskState.WAITING, owner="alice")
    key = f"tasks/{task}/out/1/x.txt"
    world.context.store.put(key, source)
    link = world.context.store.url(key, expires_s=60).removeprefix("http://volcal.test")
    client = serve(legacy_needs_key=True, needs_key=True)
    assert client.get(link).text == "report"
    assert client.get(link.partition("?")[0], headers=bob).status_code == 403
