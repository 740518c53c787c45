"""``callback_url`` and the deliveries, as clients see them."""

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from app.domain.tasks import TaskState
from app.main import create_app
from app.outbound import AllowList, GuardedClient
from app.services import callbacks, tasks
from tests.receivers import Receiver, answer

URL = "https://hooks.example.com/volcal?token=secret"


@pytest.fixture
def told(world: Any) -> Any:
    """A world whose tasks may have receivers; every name leads to the open internet."""
    web = GuardedClient(AllowList(["127.0.0.1"]), resolve=lambda _host, _port: ["93.184.215.14"])
    policy = replace(world.context.policy, callback_secret="known to receivers")
    return replace(world, context=replace(world.context, web=web, policy=policy))


@pytest.fixture
def client(told: Any) -> TestClient:
    return TestClient(create_app(told.context))


def create(client: TestClient, url: Any) -> Any:
    return client.post("/api/v1/tasks", json={"pipeline": "constant", "callback_url": url})


def test_a_task_shows_its_receivers_host_and_no_more(client: TestClient, told: Any) -> None:
    response = create(client, URL)
    assert response.status_code == 201
    assert response.json()["callback_host"] == "hooks.example.com"
    assert "secret" not in response.text
    path = f"/api/v1/tasks/{response.json()['id']}"
    assert "secret" not in client.get(path).text
    assert client.get(f"{path}/deliveries").json() == {"deliveries": []}


def test_without_a_receiver_none_is_shown(client: TestClient) -> None:
    assert create(client, None).json()["callback_host"] is None


@pytest.mark.case(30)
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://169.254.169.254/latest/meta-data/", "address"),
        ("http://localhost:8000/", "address"),
        ("http://redis:6379/", "address"),
        ("http://[::ffff:10.0.0.1]/", "address"),
        ("file:///etc/passwd", "scheme"),
        ("https://user:secret@hooks.example.com/", "login"),
        ("http://2852039166/", "host"),
        ("", "scheme"),
    ],
)
def test_a_receiver_inside_is_refused_at_once(url: str, reason: str, client: TestClient, told: Any) -> None:
    response = create(client, url)
    assert response.status_code == 422
    problem = response.json()
    assert (problem["code"], problem["reason"]) == ("URL_REFUSED", reason)
    assert response.headers["content-type"] == "application/problem+json"
    with told.context.unit_of_work(read_only=True) as work:
        assert tasks.list_tasks(work) == []


@pytest.mark.parametrize("url", ["https://hooks.example.com/" + "a" * 2048, 1, ["https://hooks.example.com/"]])
def test_what_is_no_url_at_all_is_malformed(url: Any, client: TestClient) -> None:
    assert create(client, url).json()["code"] == "REQUEST_INVALID"


def test_each_attempt_is_listed_and_nothing_that_the_receiver_said(client: TestClient, told: Any, now: Any) -> None:
    with Receiver(answer(503, b"password: hush")) as receiver:
        task_id = told.add(TaskState.WAITING, callback_url=f"{receiver.url}/?token=secret")
        assert client.post(f"/api/v1/tasks/{task_id}/cancel").status_code == 202
        (before,) = client.get(f"/api/v1/tasks/{task_id}/deliveries").json()["deliveries"]
        assert (before["event"], before["state"], before["attempts"]) == ("task.killed", "pending", [])
        ((delivery_id, _),) = callbacks.due(told.context, moment(before), limit=9)
        callbacks.deliver(told.context, delivery_id, moment(before))
    response = client.get(f"/api/v1/tasks/{task_id}/deliveries")
    (after,) = response.json()["deliveries"]
    (attempt,) = after["attempts"]
    assert (after["id"], after["state"], after["settled_at"]) == (str(delivery_id), "pending", None)
    assert (attempt["status"], attempt["error"]) == (503, None)
    assert after["due_at"] > before["due_at"]
    assert "hush" not in response.text
    assert "secret" not in response.text


def moment(delivery: dict[str, Any]) -> Any:
    """Return the moment at which a delivery is due."""
    return datetime.fromisoformat(delivery["due_at"])


def test_deliveries_of_no_task_are_not_found(client: TestClient) -> None:
    assert client.get(f"/api/v1/tasks/{uuid4()}/deliveries").json()["code"] == "TASK_NOT_FOUND"
