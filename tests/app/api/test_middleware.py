"""What no client library does, spoken to the middleware directly."""

import asyncio
import json
import logging
from typing import Any

import pytest

from app.api.middleware import CarefulHeaders, RequestLog, SmallBodies

SCOPE = {"type": "http", "method": "POST", "path": "/create_task", "headers": []}


async def _app(scope: Any, receive: Any, send: Any) -> None:
    body = await receive()
    after = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body["body"] + after["type"].encode()})


def speak(middleware: Any, *messages: dict[str, Any], scope: Any = SCOPE) -> list[dict[str, Any]]:
    """Let a client say these things, and return what it is answered."""
    answered: list[dict[str, Any]] = []
    said = list(messages)

    async def receive() -> dict[str, Any]:
        return said.pop(0)

    async def send(message: dict[str, Any]) -> None:
        answered.append(message)

    asyncio.run(middleware(dict(scope), receive, send))
    return answered


def part(body: bytes, more: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_in_pieces_arrives_as_one() -> None:
    answered = speak(SmallBodies(_app), part(b"a", True), part(b"b", False), {"type": "http.disconnect"})
    assert answered[1]["body"] == b"abhttp.disconnect"


def test_who_goes_away_in_the_middle_of_a_body_is_not_answered() -> None:
    assert speak(SmallBodies(_app), part(b"a", True), {"type": "http.disconnect"}) == []


def test_a_body_is_refused_as_soon_as_it_is_too_large() -> None:
    (start, body) = speak(SmallBodies(_app, limit=3), part(b"ab", True), part(b"cd", True))
    assert start["status"] == 413
    assert b"larger than 3 bytes" in body["body"]


def test_what_is_not_a_request_passes_untouched() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    for middleware in (SmallBodies, RequestLog, CarefulHeaders):
        speak(middleware(app), scope={"type": "lifespan"})
    assert seen == ["lifespan"] * 3


ID = "Kq3v8wZ0-hT_yLm2Qe5RbA7cXsUd9fGj"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (f"/files/{ID}", "/files/Kq3v…"),
        (f"/files/{ID}/", "/files/Kq3v…/"),
        (f"/objects/tasks/7/in/pre-{ID}", "/objects/tasks/7/in/pre-Kq3v…"),
        (f"/objects/tasks/7/out/1/a.png?expires=9&sig={ID}", "/objects/tasks/7/out/1/a.png?expires=9&sig=***"),
        (f"/objects/a&sig={ID}&name=b", "/objects/a&sig=***&name=b"),
        (f"/tusd_hook?secret={ID}", "/tusd_hook?secret=***"),
        ("/api/v1/tasks/7/artifacts/hulls/1.png", "/api/v1/tasks/7/artifacts/hulls/1.png"),
        ("/files/", "/files/"),
    ],
)
def test_the_log_gives_nobody_a_way_into_an_upload_or_a_file(
    caplog: pytest.LogCaptureFixture, path: str, shown: str
) -> None:
    scope = {**SCOPE, "path": path, "query_string": f"expires=9&sig={ID}".encode()}
    with caplog.at_level(logging.INFO, logger="volcal.requests"):
        speak(RequestLog(_app), part(b"", False), {"type": "http.disconnect"}, scope=scope)
    (line,) = caplog.records
    assert vars(line)["path"] == shown
    assert ID not in json.dumps([vars(record) for record in caplog.records], default=str)
