from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.db.models import Upload
from app.main import create_app
from app.outbound import AllowList, GuardedClient, Limits, WebFiles
from app.services import keys
from app.services.intake import fetches
from app.services.watching import snapshots
from tests.files import WebFile
from tests.receivers import Receiver
from tests.receivers import answer as answer_with
from worker.fetcher import fetch_file

TASKS = "/api/v1/tasks"
KEY = {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'}


def count(client: TestClient, **headers: str) -> int:
    return len(client.get(TASKS, headers=headers).json()["tasks"])


def test_the_same_request_with_the_same_key_is_answered_with_the_same_task(client: TestClient) -> None:
    body = {"pipeline": "four", "name": "Quarry"}
    first = client.post(TASKS, json=body, headers=KEY)
    again = client.post(
        TASKS, json=dict(reversed(body.items())), headers={"Idempotency-Key": KEY["Idempotency-Key"][1:-1]}
    )
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert count(client) == 1


def test_another_body_with_the_same_key_is_a_conflict_of_its_own(client: TestClient) -> None:
    client.post(TASKS, json={"pipeline": "four"}, headers=KEY)
    answer = client.post(TASKS, json={"pipeline": "four", "name": "x"}, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (409, "IDEMPOTENCY_KEY_REUSED")
    assert count(client) == 1


def test_without_a_key_each_request_creates_a_task(client: TestClient) -> None:
    assert client.post(TASKS, json={}).json()["id"] != client.post(TASKS, json={}).json()["id"]


def test_a_key_that_is_none_is_refused_and_so_is_one_that_is_too_long(client: TestClient) -> None:
    for key in ("", "a b", "x" * 129):
        answer = client.post(TASKS, json={}, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["code"]) == (422, "IDEMPOTENCY_KEY_INVALID")
    assert count(client) == 0


def test_a_request_that_was_refused_may_be_mended_and_sent_again_with_its_key(client: TestClient) -> None:
    assert client.post(TASKS, json={"options": {"cell": -1}}, headers=KEY).status_code == 422
    assert client.post(TASKS, json={"options": {"cell": 1}}, headers=KEY).status_code == 201


def test_a_task_that_was_deleted_is_not_made_again(client: TestClient) -> None:
    task = client.post(TASKS, json={}, headers=KEY).json()
    client.delete(f"{TASKS}/{task['id']}")
    answer = client.post(TASKS, json={}, headers=KEY)
    assert (answer.status_code, answer.json()["code"]) == (404, "TASK_NOT_FOUND")
    assert count(client) == 0


@pytest.fixture
def owners(world: Any) -> list[dict[str, str]]:
    with world.context.unit_of_work() as work:
        made = [keys.create(work, name=who, owner=who, scopes=["write"])[1] for who in ("alice", "bob")]
        work.commit()
    return [{"Authorization": f"Bearer {key}"} for key in made]


def test_a_key_tells_nothing_of_what_another_owner_did_with_the_same_one(world: Any, owners: Any) -> None:
    with TestClient(create_app(world.context)) as client:
        alice, bob = (client.post(TASKS, json={"name": "same"}, headers={**KEY, **who}) for who in owners)
        assert (alice.status_code, bob.status_code) == (201, 201)
        assert alice.json()["id"] != bob.json()["id"]
        assert [count(client, **who) for who in owners] == [1, 1]


@pytest.fixture
def named(world: Any) -> Iterator[tuple[TestClient, Receiver]]:
    """A service that may fetch files from a host."""
    files = WebFiles(GuardedClient(AllowList(["127.0.0.0/8"])), Limits(max_bytes=1 << 20))
    context = replace(world.context, sources={"http": files})
    with Receiver(WebFile(b"1 2 3\n")) as host, TestClient(create_app(context)) as client:
        client.app.state.context = context
        yield client, host


def fetch_all(client: TestClient, world: Any) -> None:
    context = client.app.state.context  # type: ignore[attr-defined]
    for due in fetches.due(context, datetime.now(UTC), limit=9):
        fetch_file(context, due.upload_id, world.root / "fetching")


def test_some_files_may_be_named_and_others_sent(named: Any, world: Any) -> None:
    client, host = named
    body = {"pipeline": "four", "inputs": {"pre": f"{host.url}/a.xyz?sig=5e", "shx": f"{host.url}/b.shx"}}
    answer = client.post(TASKS, json=body)
    task = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"].endswith(task["id"])
    assert task["missing"] == ["pre", "post", "shp", "shx"]
    pre = task["uploads"]["pre"]
    assert (pre["state"], pre["offset"], pre["source"], pre["url"]) == ("open", 0, host.authority, None)
    assert "5e" not in answer.text.replace(task["id"], "").replace(task["uploads"]["post"]["url"], "")
    fetch_all(client, world)
    for label in ("post", "shp"):
        url = task["uploads"][label]["url"].replace("http://volcal.test", "")
        headers = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Upload-Length": "3"}
        kind = {"Content-Type": "application/offset+octet-stream"}
        assert client.patch(url, content=b"abc", headers={**headers, **kind}).status_code == 204
    task = client.get(f"{TASKS}/{task['id']}").json()
    assert task["status"] == "pending"
    assert {label: upload["source"] for label, upload in task["uploads"].items() if upload["source"]} == {
        "pre": host.authority,
        "shx": host.authority,
    }


def test_a_file_that_did_not_come_can_be_named_anew_or_sent(named: Any, world: Any) -> None:
    client, host = named
    host.react = answer_with(404)
    task = client.post(TASKS, json={"pipeline": "constant", "inputs": {"file": f"{host.url}/a"}}).json()
    fetch_all(client, world)
    found = client.get(f"{TASKS}/{task['id']}").json()
    assert (found["status"], found["error"]["code"], found["error"]["label"]) == ("error", "FETCH_FAILED", "file")
    fresh = found["error"]["details"]["fresh_upload"]["url"].replace("http://volcal.test", "")
    host.react = WebFile(b"123")
    answer = client.post(fresh, json={"url": f"{host.url}/b.laz"})
    assert (answer.status_code, answer.json()) == (202, {"label": "file", "url": None, "source": host.authority})
    assert client.get(f"{TASKS}/{task['id']}").json()["status"] == "waiting"
    assert client.post(fresh).json()["url"].startswith("http://volcal.test/files/")
    assert client.post(fresh, json={"url": f"{host.url}/b.laz"}).status_code == 202
    fetch_all(client, world)
    assert client.get(f"{TASKS}/{task['id']}").json()["status"] == "pending"


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ({"file": "file:///etc/passwd"}, "URL_REFUSED"),
        ({"file": "http://169.254.169.254/latest"}, "URL_REFUSED"),
        ({"file": "http://user:word@127.0.0.1/a"}, "URL_REFUSED"),
        ({"file": "s3://uploads/tasks/7/in/pre"}, "URL_REFUSED"),
        ({"other": "http://127.0.0.1/a"}, "LABEL_UNKNOWN"),
        ({"file": 7}, "REQUEST_INVALID"),
        ({"file": "http://127.0.0.1/" + "x" * 2048}, "REQUEST_INVALID"),
        ([], "REQUEST_INVALID"),
    ],
)
def test_what_is_no_url_of_a_file_is_refused(named: Any, inputs: Any, code: str) -> None:
    client, _ = named
    answer = client.post(TASKS, json={"pipeline": "constant", "inputs": inputs})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert count(client) == 0


def test_how_much_has_come_wakes_who_waits(named: Any, world: Any) -> None:
    client, host = named
    task = client.post(TASKS, json={"pipeline": "constant", "inputs": {"file": f"{host.url}/a"}}).json()
    seen = snapshots.take(world.context, [task_id := UUID(task["id"])])[task_id]
    with world.context.unit_of_work() as work:
        work.session.execute(update(Upload).values(received=5, length=9))
        work.commit()
    assert snapshots.take(world.context, [task_id])[task_id].tag != seen.tag
    upload = client.get(f"{TASKS}/{task['id']}").json()["uploads"]["file"]
    assert (upload["offset"], upload["length"], upload["size"]) == (5, 9, None)
