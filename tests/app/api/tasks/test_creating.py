from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.services import keys

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
