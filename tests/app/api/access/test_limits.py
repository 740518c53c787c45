"""How often, how much, and from which pages: limits as HTTP tells them."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from app.api.access.guard import Guard
from app.api.access.places import Place, place_of
from app.domain.access import Rate, Taken
from app.limiting.shared import SharedLimiter
from app.main import create_app
from app.services import queries
from tests.app.api.access.conftest import bearer, make_key
from tests.app.conftest import World
from tests.servers.redis import Redis

Serve = Callable[..., TestClient]
TUS = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}


def test_who_asks_too_often_is_told_when_to_come_again(world: World, serve: Serve) -> None:
    key, client = bearer(make_key(world.context, "alice", rate=3)), serve()
    answers = [client.get("/api/v1/tasks", headers=key) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["RateLimit"] for answer in answers] == [
        '"key";r=2;t=20', '"key";r=1;t=40', '"key";r=0;t=60', '"key";r=0;t=60',
    ]  # fmt: skip
    last = answers[-1]
    assert 18 <= int(last.headers["Retry-After"]) <= 20
    assert last.headers["content-type"] == "application/problem+json"
    problem = last.json()
    assert (problem["code"], problem["limit"], problem["window_s"]) == ("RATE_LIMITED", 3, 60.0)
    assert "Retry-After" in problem["remedy"]


def test_a_key_may_have_no_limit_where_others_have_one(world: World, serve: Serve, alice: dict[str, str]) -> None:
    free, client = bearer(make_key(world.context, "bob", rate=0)), serve(rate_per_key=2)
    assert [client.get("/api/v1/tasks", headers=free).status_code for _ in range(5)] == [200] * 5
    assert [client.get("/api/v1/tasks", headers=alice).status_code for _ in range(3)] == [200, 200, 429]


def test_without_a_key_addresses_are_counted_and_old_clients_are_told_in_their_words(serve: Serve) -> None:
    client = serve(rate_per_address=2)
    answers = [client.post("/create_task") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"address";q=2;w=60'
    assert set(answers[2].json()) == {"detail", "code"}
    assert answers[2].json()["code"] == "RATE_LIMITED"
    assert int(answers[2].headers["Retry-After"]) >= 1


def test_uploads_and_probes_are_not_counted(serve: Serve) -> None:
    client = serve(rate_per_address=1)
    task = client.post("/api/v1/tasks", json={"pipeline": "constant"}).json()
    path = task["uploads"]["file"]["url"].removeprefix("http://volcal.test")
    for _ in range(5):
        assert client.head(path).status_code == 200
        assert client.get("/livez").status_code == 200


def test_who_tries_keys_is_slowed_down_and_others_at_that_address_are_not(world: World, serve: Serve) -> None:
    good, client = bearer(make_key(world.context, "alice")), serve()
    answers = [client.get("/api/v1/tasks", headers=bearer(f"guess {number}")) for number in range(61)]
    assert {answer.status_code for answer in answers[:60]} == {401}
    assert (answers[60].status_code, answers[60].json()["code"]) == (429, "RATE_LIMITED")
    assert client.get("/api/v1/tasks", headers=good).status_code == 200


def test_a_limiter_that_waits_is_asked_in_a_thread(world: World) -> None:
    class Elsewhere:
        waits = True

        def take(self, who: str, rate: Rate) -> Taken:
            with pytest.raises(RuntimeError, match="no running event loop"):
                asyncio.get_running_loop()
            return Taken(allowed=False, remaining=0, reset_s=1.0, retry_s=1.0)

    context = replace(world.with_policy(rate_per_address=1).context, limiter=Elsewhere())
    with TestClient(create_app(context)) as client:
        assert client.get("/api/v1/tasks").status_code == 429


@pytest.mark.service
def test_gateways_that_share_a_redis_count_together(world: World, redis: Redis) -> None:
    redis.empty()
    key = bearer(make_key(world.context, "alice", rate=5))
    limiters = [SharedLimiter(redis.url) for _ in range(2)]
    with ExitStack() as kept:
        clients = [
            kept.enter_context(TestClient(create_app(replace(world.context, limiter=each)))) for each in limiters
        ]
        answers = [clients[number % 2].get("/api/v1/tasks", headers=key).status_code for number in range(8)]
        assert answers == [200] * 5 + [429] * 3
    for each in limiters:
        each._redis.close()


def test_quotas_are_told_with_their_figures_and_a_remedy(serve: Serve, alice: dict[str, str]) -> None:
    client = serve(quota_tasks=1)
    assert client.post("/create_task", headers=alice).status_code == 200
    refused = client.post("/api/v1/tasks", json={}, headers=alice)
    assert refused.status_code == 429
    problem = refused.json()
    assert (problem["code"], problem["limit"], problem["used"]) == ("QUOTA_TASKS", 1, 1)
    assert "cancel one" in problem["remedy"]
    assert refused.headers["Retry-After"] == "60"
    assert client.post("/create_task", headers=alice).json()["code"] == "QUOTA_TASKS"


def test_a_file_for_which_there_is_no_room_is_refused_before_its_bytes(
    world: World, serve: Serve, alice: dict[str, str]
) -> None:
    client = serve(quota_bytes=10)
    task = client.post("/api/v1/tasks", json={"pipeline": "constant"}, headers=alice).json()
    path = task["uploads"]["file"]["url"].removeprefix("http://volcal.test")
    for headers in ({**TUS, "Upload-Length": "11"}, {**TUS, "Upload-Length": "11", **alice}, TUS):
        refused = client.patch(path, content=b"x" * 11, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (413, "QUOTA_UPLOAD")
        assert refused.headers["Tus-Resumable"] == "1.0.0"
    assert client.patch(path, content=b"x" * 10, headers={**TUS, "Upload-Length": "10"}).status_code == 204
    full = client.post("/api/v1/tasks", json={"pipeline": "constant"}, headers=alice)
    assert (full.status_code, full.json()["code"], full.json()["used"]) == (429, "QUOTA_BYTES", 10)


def test_tusd_is_told_to_stop_an_upload_for_which_there_is_no_room(
    world: World, serve: Serve, alice: dict[str, str]
) -> None:
    client = serve(quota_bytes=10)
    task = client.post("/api/v1/tasks", json={"pipeline": "constant"}, headers=alice).json()
    with world.context.unit_of_work(read_only=True) as work:
        handle = queries.get_task(work, UUID(task["id"])).uploads[0].handle

    def receive(offset: int, size: int = 0) -> Any:
        event = {"Type": "post-receive", "Event": {"Upload": {"ID": handle, "Offset": offset, "Size": size}}}
        return client.post("/tusd_hook?secret=open sesame", json=event).json()

    assert receive(10) == {}
    assert receive(11) == {"StopUpload": True}
    assert receive(1, size=11) == {"StopUpload": True}


def test_pages_of_named_origins_may_read_answers_and_others_may_not(serve: Serve) -> None:
    client = serve(cors_origins=("https://maps.example.com",), needs_key=True)
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for origin, allowed in (("https://maps.example.com", True), ("https://evil.example.com", False)):
        before = client.options("/api/v1/tasks", headers={"Origin": origin, **asks})
        assert (before.headers.get("Access-Control-Allow-Origin") == origin) is allowed
        answer = client.get("/api/v1/tasks", headers={"Origin": origin})
        assert answer.status_code == 401
        assert (answer.headers.get("Access-Control-Allow-Origin") == origin) is allowed
        assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Access-Control-Allow-Origin" not in serve().get("/api/v1/tasks", headers={"Origin": origin}).headers


def test_every_answer_tells_browsers_to_be_careful(serve: Serve) -> None:
    for answer in (serve(needs_key=True).get("/api/v1/tasks"), serve().get("/api/v1/tasks")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Request-ID"]


def test_a_socket_without_a_key_is_closed_with_a_code_that_a_browser_can_read(world: World) -> None:
    app, answered = create_app(world.with_policy(needs_key=True).context), []

    async def send(message: Any) -> None:
        answered.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def none(*_: Any) -> None:
        raise AssertionError("the application was asked")

    scope = {
        "type": "websocket",
        "path": "/api/v1/tasks/7/events",
        "headers": [],
        "app": app,
        "client": ("10.0.0.1", 1),
    }
    asyncio.run(Guard(none)(scope, receive, send))
    accepted, closed = answered
    assert accepted == {"type": "websocket.accept", "subprotocol": None}
    assert closed == {"type": "websocket.close", "code": 4401, "reason": "KEY_MISSING"}


def test_the_description_says_of_every_guarded_route_how_it_refuses() -> None:
    document = create_app().openapi()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    silent = [
        f"{method} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if place_of(path) is not Place.OPEN and method != "options"  # what the server can do is no secret
        if "security" not in operation or not {"401", "403", "429"} <= set(operation["responses"])
    ]
    assert silent == []
    assert document["paths"]["/api/v1/keys"]["post"]["security"] == [{"key": []}]
    assert "security" not in document["paths"]["/livez"]["get"]
