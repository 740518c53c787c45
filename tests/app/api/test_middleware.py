"""What no client library does, spoken to the middleware directly."""

import asyncio
from typing import Any

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
