"""Keys through HTTP: asked for, taken, refused, made, revoked, exchanged."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event

from app.api.access.places import Place, place_of
from app.domain.access import Caller, digest_of, scopes_of
from app.main import create_app
from tests.app.api.access.conftest import bearer, make_key
from tests.app.conftest import World

Serve = Callable[..., TestClient]


def test_without_any_key_nobody_is_asked_for_one(serve: Serve) -> None:
    client = serve()
    assert client.post("/api/v1/tasks", json={}).status_code == 201
    assert client.get("/api/v1/tasks").status_code == 200
    assert client.post("/create_task").status_code == 200
    assert client.get("/api/v1/tasks", headers=bearer("of some proxy")).status_code == 200


def test_without_any_key_nobody_makes_one_by_http(serve: Serve) -> None:
    refused = serve().post("/api/v1/keys", json={"name": "mine", "owner": "me", "scopes": ["admin"]})
    assert (refused.status_code, refused.json()["code"]) == (401, "KEY_MISSING")


def test_once_there_is_a_key_the_new_surface_asks_for_it_also_when_it_is_revoked(
    world: World, serve: Serve, admin: dict[str, str]
) -> None:
    client = serve()
    refused = client.get("/api/v1/tasks")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="volcal"'
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["code"] == "KEY_MISSING"
    assert "volcal keys create" in refused.json()["remedy"]
    assert client.post("/create_task").status_code == 200
    (prefix,) = [key["prefix"] for key in client.get("/api/v1/keys", headers=admin).json()["keys"]]
    assert client.delete(f"/api/v1/keys/{prefix}", headers=admin).status_code == 204
    assert serve().get("/api/v1/tasks").status_code == 401


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/docs", "/docs/errors", "/openapi.json", "/metrics"])
def test_what_says_nothing_of_anybodys_needs_no_key(serve: Serve, path: str) -> None:
    assert serve(needs_key=True, legacy_needs_key=True).get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/api/v2/tasks", "/API/v1/tasks", "/api/v1", "//api/v1/tasks", "/api/v1/tasks/", "/new"]
)
def test_a_path_that_no_rule_names_needs_a_key(serve: Serve, path: str) -> None:
    assert serve(needs_key=True).get(path).status_code == 401


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("Bearer ", "KEY_INVALID"),
        ("Bearer nonsense", "KEY_INVALID"),
        (f"Bearer vk_0123456789_{'A' * 43}", "KEY_INVALID"),
        ("Bearer " + "x" * 5000, "KEY_INVALID"),
        ("Basic dm9sY2FsOnNlY3JldA==", "KEY_MISSING"),
        ("Bearer \x00\xff", "KEY_INVALID"),
    ],
)
def test_what_is_no_key_is_refused(serve: Serve, given: str, code: str) -> None:
    refused = serve(needs_key=True).get("/api/v1/tasks", headers={"Authorization": given.encode("latin-1")})
    assert (refused.status_code, refused.json()["code"]) == (401, code)


def test_a_key_with_one_letter_changed_is_none(world: World, serve: Serve) -> None:
    key = make_key(world.context, "alice")
    other = key[:-1] + ("A" if key[-1] != "A" else "B")
    client = serve()
    assert client.get("/api/v1/tasks", headers=bearer(key)).status_code == 200
    assert client.get("/api/v1/tasks", headers=bearer(other)).json()["code"] == "KEY_INVALID"


def test_an_expired_key_says_when_to_who_has_it(world: World, serve: Serve) -> None:
    key = make_key(world.context, "alice", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    refused = serve().get("/api/v1/tasks", headers=bearer(key))
    assert refused.status_code == 401
    assert "expired at" in refused.json()["detail"]
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="volcal", error="invalid_token"'


def test_who_may_look_may_not_touch(world: World, serve: Serve) -> None:
    looker = bearer(make_key(world.context, "alice", "read"))
    client = serve()
    assert client.get("/api/v1/tasks", headers=looker).status_code == 200
    for method, path in (("POST", "/api/v1/tasks"), ("POST", "/create_task"), ("GET", "/api/v1/keys")):
        refused = client.request(method, path, headers=looker)
        assert (refused.status_code, refused.json()["code"]) == (403, "SCOPE_MISSING"), path
    assert client.get("/api/v1/keys", headers=looker).json()["needed"] == "admin"


def test_an_admin_makes_lists_and_revokes_keys(serve: Serve, admin: dict[str, str]) -> None:
    client = serve()
    wanted = {"name": "Drone 7", "owner": "quarry-north", "scopes": ["read"], "rate": 5}
    made = client.post("/api/v1/keys", json=wanted, headers=admin)
    assert made.status_code == 201
    assert made.headers["Cache-Control"] == "no-store"
    key, prefix = made.json()["key"], made.json()["prefix"]
    mine = client.get("/api/v1/tasks", headers=bearer(key))
    assert mine.headers["RateLimit-Policy"] == '"key";q=5;w=60'
    listed = client.get("/api/v1/keys", headers=admin)
    assert key not in listed.text
    assert digest_of(key) not in listed.text
    (found,) = [each for each in listed.json()["keys"] if each["prefix"] == prefix]
    assert (found["owner"], found["scopes"], found["rate"]) == ("quarry-north", ["read"], 5)
    assert found["used_at"] is not None
    assert client.delete(f"/api/v1/keys/{prefix}", headers=admin).status_code == 204
    assert client.delete("/api/v1/keys/0000000000", headers=admin).json()["code"] == "KEY_NOT_FOUND"


def test_a_revoked_key_stops_working_within_seconds(world: World, serve: Serve, alice: dict[str, str]) -> None:
    client = serve()
    assert client.get("/api/v1/tasks", headers=alice).status_code == 200
    admin = bearer(make_key(world.context, "root", "admin"))
    (prefix,) = [k["prefix"] for k in client.get("/api/v1/keys", headers=admin).json()["keys"] if k["owner"] == "alice"]
    client.delete(f"/api/v1/keys/{prefix}", headers=admin)
    deadline = time.monotonic() + 10
    while (answer := client.get("/api/v1/tasks", headers=alice)).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert "was revoked" in answer.json()["detail"]


def test_an_exchanged_key_has_the_same_rights_and_the_old_one_a_while(serve: Serve, admin: dict[str, str]) -> None:
    client = serve()
    old = client.post("/api/v1/keys", json={"name": "n", "owner": "o"}, headers=admin).json()
    new = client.post(f"/api/v1/keys/{old['prefix']}/rotate", json={"grace_s": 60}, headers=admin).json()
    assert {name: new[name] for name in ("name", "owner", "scopes")} == {n: old[n] for n in ("name", "owner", "scopes")}
    for key in (old["key"], new["key"]):
        assert client.get("/api/v1/tasks", headers=bearer(key)).status_code == 200
    last = client.post(f"/api/v1/keys/{new['prefix']}/rotate", headers=admin).json()
    again = client.post(f"/api/v1/keys/{new['prefix']}/rotate", headers=admin)
    assert (again.status_code, again.json()["code"]) == (409, "KEY_OVER")
    assert client.get("/api/v1/tasks", headers=bearer(last["key"])).status_code == 200


def test_a_key_of_the_settings_reads_and_writes(serve: Serve) -> None:
    key = "a-key-of-the-environment"
    client = serve(fixed_keys={digest_of(key): Caller("drones", "settings", "drones", scopes_of(["write"]))})
    assert client.post("/api/v1/tasks", json={}, headers=bearer(key)).status_code == 201
    assert client.get("/api/v1/keys", headers=bearer(key)).status_code == 403
    assert client.get("/api/v1/tasks").status_code == 401


def test_a_known_key_costs_no_question_to_the_database(world: World, serve: Serve, alice: dict[str, str]) -> None:
    client, asked = serve(), []

    @event.listens_for(world.context.engine, "before_cursor_execute")
    def note(_c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if "keys" in statement:
            asked.append(statement)

    for _ in range(20):
        assert client.get("/api/v1/tasks", headers=alice).status_code == 200
    assert len(asked) <= 3  # is there any; whose is this; it was used


def test_a_database_that_is_away_is_said_to_be_away(
    world: World, monkeypatch: pytest.MonkeyPatch, alice: dict[str, str]
) -> None:
    with TestClient(create_app(world.context)) as client:
        (world.root / "volcal.db").rename(world.root / "gone.db")
        world.context.engine.dispose()
        answer = client.get("/api/v1/tasks", headers=alice)
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
        assert client.get("/livez").status_code == 200


def test_the_audit_log_tells_who_did_what_and_no_key(
    world: World, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    key = make_key(world.context, "alice")
    client = serve()
    with caplog.at_level(logging.INFO, logger="volcal"):
        task = client.post("/api/v1/tasks", json={}, headers=bearer(key)).json()["id"]
        client.post(f"/api/v1/tasks/{task}/cancel", headers=bearer(key))
        client.delete(f"/api/v1/tasks/{task}", headers=bearer(key))
        client.get("/api/v1/tasks")
        client.get("/api/v1/keys", headers=bearer(key))
    told = [vars(record) for record in caplog.records if record.name == "volcal.audit"]
    assert [(line["message"], line["method"], line["route"], line["owner"]) for line in told] == [
        ("changed", "POST", "/api/v1/tasks", "alice"),
        ("changed", "POST", "/api/v1/tasks/{task_id}/cancel", "alice"),
        ("changed", "DELETE", "/api/v1/tasks/{task_id}", "alice"),
        ("denied", "GET", "new place", ""),
        ("denied", "GET", "admin place", "alice"),
    ]
    assert [line.get("code") for line in told[3:]] == ["KEY_MISSING", "SCOPE_MISSING"]
    assert told[1]["task_id"] == task
    assert {line["key"] for line in told[:3]} == {key[3:13]}
    assert all(line["address"] for line in told)
    assert key[14:] not in str([vars(record) for record in caplog.records])


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/", Place.OPEN),
        ("/objects/tasks/7/out/1/a.png", Place.OPEN),
        ("/objectsx", Place.NEW),
        ("/docs/x", Place.NEW),
        ("/create_task", Place.LEGACY),
        ("/create_task/", Place.NEW),
        ("/query_task/7", Place.LEGACY),
        ("/api/task/7", Place.LEGACY),
        ("/api/tasks", Place.LEGACY),
        ("/api/v1/jobs", Place.NEW),
        ("/files", Place.UPLOAD),
        ("/files/abc", Place.UPLOAD),
        ("/filesystem", Place.NEW),
        ("/api/v1/keys/7/rotate", Place.ADMIN),
        ("/api/v1/keysx", Place.NEW),
    ],
)
def test_each_path_has_one_rule(path: str, place: Place) -> None:
    assert place_of(path) is place
