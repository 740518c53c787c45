"""Webhooks as clients see them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient

from app.domain.tasks import TaskState
from app.main import create_app
from app.outbound import AllowList, GuardedClient
from app.services import callbacks, keys
from tests.app.conftest import World
from tests.receivers import Receiver, answer

URL = "https://hooks.example.com/volcal?token=hush"
HOOKS = "/api/v1/webhooks"


@pytest.fixture
def told(world: World) -> World:
    """A world that may call loopback; every name leads to the open internet."""
    web = GuardedClient(AllowList(["127.0.0.1"]), resolve=lambda _host, _port: ["93.184.215.14"])
    policy = replace(world.context.policy, callback_secret="master", callback_attempts=1, quota_webhooks=3)
    return replace(world, context=replace(world.context, web=web, policy=policy))


@pytest.fixture
def client(told: World) -> TestClient:
    return TestClient(create_app(told.context))


@pytest.fixture
def as_owner(told: World, client: TestClient) -> Callable[[str], Callable[..., Any]]:
    """Makes callers, each with a key of its own."""

    def make(owner: str, *scopes: str) -> Callable[..., Any]:
        with told.context.unit_of_work() as work:
            _, key = keys.create(work, name=owner, owner=owner, scopes=scopes or ["write"])
            work.commit()
        return lambda method, path, **more: client.request(
            method, path, headers={"Authorization": f"Bearer {key}"}, **more
        )

    return make


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


def send(told: World, at: str) -> None:
    """Do what the courier does."""
    for delivery, _ in callbacks.due(told.context, datetime.fromisoformat(at), limit=9):
        callbacks.deliver(told.context, delivery, datetime.fromisoformat(at))


def test_a_webhook_shows_its_secret_once_and_its_url_never(client: TestClient) -> None:
    made = client.post(HOOKS, json={"url": URL, "name": "Office"})
    assert made.status_code == 201
    body = made.json()
    assert body["secret"].startswith("whsec_")
    assert (body["host"], body["name"], body["enabled"]) == ("hooks.example.com", "Office", True)
    assert (body["events"], body["pipelines"]) == (["task.done", "task.error", "task.killed"], [])
    assert made.headers["location"] == f"http://volcal.test{HOOKS}/{body['id']}"
    seen = [client.get(HOOKS).text, client.get(f"{HOOKS}/{body['id']}").text]
    seen.append(client.patch(f"{HOOKS}/{body['id']}", json={"name": "Site"}).text)
    assert not any(word in text for text in [*seen, made.text] for word in ("hush", "salt", "master"))
    assert not any(body["secret"] in text for text in seen)
    assert client.get(HOOKS).json()["webhooks"] == [client.get(f"{HOOKS}/{body['id']}").json()]
    assert client.delete(f"{HOOKS}/{body['id']}").status_code == 204
    assert client.get(HOOKS).json() == {"webhooks": []}
    assert client.delete(f"{HOOKS}/{body['id']}").json()["code"] == "WEBHOOK_NOT_FOUND"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://169.254.169.254/latest/meta-data/", "address"),
        ("http://localhost:8000/", "address"),
        ("http://[::ffff:10.0.0.1]/", "address"),
        ("file:///etc/passwd", "scheme"),
        ("https://user:secret@hooks.example.com/", "login"),
    ],
)
def test_a_receiver_inside_is_refused_at_once(client: TestClient, url: str, reason: str) -> None:
    refused = client.post(HOOKS, json={"url": url})
    assert (refused.status_code, refused.json()["code"], refused.json()["reason"]) == (422, "URL_REFUSED", reason)
    webhook = client.post(HOOKS, json={"url": URL}).json()
    changed = client.patch(f"{HOOKS}/{webhook['id']}", json={"url": url})
    assert (changed.status_code, changed.json()["reason"]) == (422, reason)
    assert len(client.get(HOOKS).json()["webhooks"]) == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"url": URL, "events": []}, "REQUEST_INVALID"),
        ({"url": URL, "events": ["webhook.ping"]}, "REQUEST_INVALID"),
        ({"url": URL, "secret": "mine"}, "REQUEST_INVALID"),
        ({}, "REQUEST_INVALID"),
        ({"url": URL, "pipelines": ["nonsense"]}, "PIPELINE_NOT_FOUND"),
    ],
)
def test_what_cannot_be_told_is_refused(client: TestClient, body: dict[str, Any], code: str) -> None:
    assert client.post(HOOKS, json=body).json()["code"] == code


def test_without_a_secret_to_sign_with_there_are_no_webhooks(told: World) -> None:
    mute = told.with_policy(callback_secret=None)
    refused = TestClient(create_app(mute.context)).post(HOOKS, json={"url": URL})
    assert (refused.status_code, refused.json()["reason"]) == (422, "unsigned")


def test_an_owner_has_so_many_webhooks_and_no_more(as_owner: Any) -> None:
    alice, bob = as_owner("alice"), as_owner("bob")
    for _ in range(3):
        assert alice("POST", HOOKS, json={"url": URL}).status_code == 201
    refused = alice("POST", HOOKS, json={"url": URL})
    assert (refused.status_code, refused.json()["code"]) == (429, "QUOTA_WEBHOOKS")
    assert (refused.json()["limit"], refused.json()["used"]) == (3, 3)
    assert bob("POST", HOOKS, json={"url": URL}).status_code == 201


def test_anothers_webhook_answers_as_one_that_is_not_there(told: World, as_owner: Any) -> None:
    alice, bob, admin, reader = as_owner("alice"), as_owner("bob"), as_owner("root", "admin"), as_owner("alice", "read")
    webhook = alice("POST", HOOKS, json={"url": URL}).json()["id"]
    delivery = alice("POST", f"{HOOKS}/{webhook}/ping").json()["id"]
    schema = create_app().openapi()["paths"]
    routes = [(method.upper(), path) for path in schema if "{webhook_id}" in path for method in schema[path]]
    assert len(routes) == 7
    for method, path in routes:
        bodies = {"json": {"url": "http://10.0.0.1/"}} if method == "PATCH" else {}
        said = [
            bob(method, path.format(webhook_id=each, delivery_id=delivery), **bodies) for each in (webhook, uuid4())
        ]
        assert [(one.status_code, one.json()["code"]) for one in said] == [(404, "WEBHOOK_NOT_FOUND")] * 2, path
        if method != "GET":
            assert reader(method, path.format(webhook_id=webhook, delivery_id=delivery)).status_code == 403
    assert bob("GET", HOOKS).json() == {"webhooks": []}
    assert [each["id"] for each in admin("GET", HOOKS).json()["webhooks"]] == [webhook]
    assert admin("DELETE", f"{HOOKS}/{webhook}").status_code == 204


def test_a_key_hears_of_its_owners_tasks_alone(told: World, as_owner: Any, receiver: Receiver) -> None:
    alice, bob = as_owner("alice"), as_owner("bob")
    hook = alice("POST", HOOKS, json={"url": receiver.url}).json()["id"]
    ids = [told.add(TaskState.WAITING, owner=owner) for owner in ("alice", "bob", "")]
    assert alice("POST", f"/api/v1/tasks/{ids[0]}/cancel").status_code == 202
    assert bob("POST", f"/api/v1/tasks/{ids[1]}/cancel").status_code == 202
    (delivery,) = alice("GET", f"{HOOKS}/{hook}/deliveries").json()["deliveries"]
    assert (delivery["task"], delivery["event"], delivery["webhook"]) == (str(ids[0]), "task.killed", hook)
    listed = alice("GET", f"/api/v1/tasks/{ids[0]}/deliveries").json()["deliveries"]
    assert [each["id"] for each in listed] == [delivery["id"]]
    assert bob("GET", f"/api/v1/tasks/{ids[1]}/deliveries").json() == {"deliveries": []}


def test_trying_seeing_and_sending_again(client: TestClient, told: World, receiver: Receiver) -> None:
    receiver.react = answer(503, b"password: hush")
    hook = client.post(HOOKS, json={"url": receiver.url}).json()["id"]
    client.post(f"/api/v1/tasks/{told.add(TaskState.WAITING)}/cancel")
    pinged = client.post(f"{HOOKS}/{hook}/ping")
    assert (pinged.status_code, pinged.json()["event"], pinged.json()["state"]) == (202, "webhook.ping", "pending")
    early = client.post(f"{HOOKS}/{hook}/deliveries/{pinged.json()['id']}/redeliver")
    assert (early.status_code, early.json()["code"], early.json()["state"]) == (409, "DELIVERY_NOT_FAILED", "pending")
    send(told, pinged.json()["due_at"])
    answered = client.get(f"{HOOKS}/{hook}/deliveries")
    assert "hush" not in answered.text
    failed = answered.json()["deliveries"]
    assert {(each["event"], each["state"]) for each in failed} == {
        ("webhook.ping", "failed"),
        ("task.killed", "failed"),
    }
    assert all(attempt["status"] == 503 and attempt["seconds"] >= 0 for each in failed for attempt in each["attempts"])
    receiver.react = answer(204)
    wanted = next(each["id"] for each in failed if each["event"] == "task.killed")
    again = client.post(f"{HOOKS}/{hook}/deliveries/{wanted}/redeliver")
    assert (again.status_code, again.json()["state"]) == (202, "pending")
    send(told, again.json()["due_at"])
    (heard,) = client.get(f"{HOOKS}/{hook}/deliveries", params={"state": "delivered"}).json()["deliveries"]
    assert (heard["id"], [attempt["status"] for attempt in heard["attempts"]]) == (wanted, [503, 204])
    unknown = client.post(f"{HOOKS}/{hook}/deliveries/{uuid4()}/redeliver")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "DELIVERY_NOT_FOUND")


def test_a_webhook_can_be_switched_off_and_on(client: TestClient, told: World, receiver: Receiver) -> None:
    hook = client.post(HOOKS, json={"url": receiver.url, "pipelines": ["constant"]}).json()["id"]
    client.post(f"/api/v1/tasks/{told.add(TaskState.WAITING)}/cancel")
    off = client.patch(f"{HOOKS}/{hook}", json={"enabled": False}).json()
    assert (off["enabled"], off["disabled_reason"], off["pipelines"]) == (False, "owner", ["constant"])
    (delivery,) = client.get(f"{HOOKS}/{hook}/deliveries").json()["deliveries"]
    assert delivery["state"] == "failed"
    refused = client.post(f"{HOOKS}/{hook}/deliveries/{delivery['id']}/redeliver")
    assert (refused.status_code, refused.json()["code"], refused.json()["reason"]) == (409, "WEBHOOK_DISABLED", "owner")
    on = client.patch(f"{HOOKS}/{hook}", json={"enabled": True, "events": ["task.started"], "pipelines": []}).json()
    assert (on["enabled"], on["disabled_reason"], on["events"], on["pipelines"]) == (True, None, ["task.started"], [])
    assert client.post(f"{HOOKS}/{hook}/deliveries/{delivery['id']}/redeliver").status_code == 202


def test_deliveries_come_a_page_at_a_time_newest_first(client: TestClient, told: World, receiver: Receiver) -> None:
    hook = client.post(HOOKS, json={"url": receiver.url}).json()["id"]
    ids = [str(told.add(TaskState.WAITING)) for _ in range(5)]
    for each in ids:
        client.post(f"/api/v1/tasks/{each}/cancel")
    seen, cursor = [], None
    while True:
        page = client.get(
            f"{HOOKS}/{hook}/deliveries", params={"limit": 2} | ({"cursor": cursor} if cursor else {})
        ).json()
        seen += [each["task"] for each in page["deliveries"]]
        if (cursor := page["next"]) is None:
            break
    assert seen == ids[::-1]
    assert client.get(f"{HOOKS}/{hook}/deliveries", params={"cursor": "x"}).json()["code"] == "CURSOR_INVALID"


def test_a_fresh_secret_is_another_one_and_shown_once(client: TestClient) -> None:
    made = client.post(HOOKS, json={"url": URL}).json()
    fresh = client.post(f"{HOOKS}/{made['id']}/rotate", json={"grace_s": 60})
    assert fresh.status_code == 200
    assert fresh.json()["secret"] != made["secret"]
    assert {**fresh.json(), "secret": ""} == {**made, "secret": ""}
    assert client.post(f"{HOOKS}/{made['id']}/rotate", json={"grace_s": -1}).json()["code"] == "REQUEST_INVALID"
