"""Following a task by Server-Sent Events and by WebSocket, through real HTTP."""

import base64
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import pytest
from sqlalchemy.pool import QueuePool
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from app.domain.tasks import TaskState
from app.services import tasks
from tests.app.api.access.conftest import bearer, make_key
from tests.app.api.tasks.following.conftest import Live, Run, events_in
from tests.app.conftest import World
from tests.servers.base import wait_for
from tests.servers.nginx import Nginx

pytestmark = pytest.mark.service

Serve = Callable[..., Live]


def close_code(line: ClientConnection) -> tuple[int, str]:
    """Read to the end; return the code and the reason."""
    try:
        while True:
            line.recv(timeout=30)
    except ConnectionClosed as told:
        return (told.rcvd.code, told.rcvd.reason) if told.rcvd else (0, "")


def messages(line: ClientConnection) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for text in line:
        message = json.loads(text)
        yield message["event"], message["id"], message["data"]


def ways(live: Live, task: Any, kept: ExitStack) -> list[Iterator[Any]]:
    """Follow a task by both ways."""
    stream = kept.enter_context(httpx.stream("GET", live.events_url(task), timeout=60))
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["x-accel-buffering"] == "no"
    line = kept.enter_context(connect(live.socket_url(task)))
    return [events_in(stream.iter_lines()), messages(line)]


def test_a_task_is_followed_to_its_end_by_both_ways_which_say_the_same(world: World, live: Serve) -> None:
    served, task = live(), world.add(TaskState.PENDING, queued_at=None)
    with ExitStack() as kept:
        both = ways(served, task, kept)
        assert [next(way)[0] for way in both] == ["status", "status"]
        run = Run(world, task)
        for name, step in (
            ("status", lambda: None),
            ("stage", lambda: run.beat(0.2, "reading")),
            ("progress", lambda: run.beat(0.4, "reading")),
            ("end", run.finish),
        ):
            step()
            first, second = (next(way) for way in both)
            assert first == second
            assert first[0] == name
            shown = first[2]
        assert (shown["status"], shown["progress"], shown["attempts"], shown["steps"]) == ("done", 1.0, 1, 1)
        assert shown == {**shown, "stage": "", "eta": None, "queue_position": None, "error": None}
        for way in both:
            assert list(way) == []  # and both are closed


def test_who_breaks_off_comes_back_to_what_is_new(world: World, live: Serve) -> None:
    served, task = live(), world.add(TaskState.PENDING)
    with httpx.stream("GET", served.events_url(task), timeout=60) as stream:
        _, seen, _ = next(events_in(stream.iter_lines()))
    run = Run(world, task)
    run.beat(0.5, "reading")
    with httpx.stream("GET", served.events_url(task), headers={"Last-Event-ID": seen}, timeout=60) as stream:
        name, later, shown = next(events_in(stream.iter_lines()))
    assert (name, shown["stage"], shown["progress"]) == ("status", "reading", 0.5)
    with httpx.stream("GET", served.events_url(task), headers={"Last-Event-ID": later}, timeout=60) as stream:
        events = events_in(stream.iter_lines())
        run.beat(0.6, "reading")
        assert next(events)[2]["progress"] == 0.6  # not again what was seen
    run.finish()
    with connect(f"{served.socket_url(task)}?last_event_id={later}") as line:
        assert next(messages(line))[0] == "end"
        assert close_code(line) == (1000, "the task has ended")


def test_who_has_seen_the_end_is_not_kept_coming_back(world: World, live: Serve) -> None:
    served, task = live(), world.add(TaskState.DONE)
    with httpx.stream("GET", served.events_url(task), timeout=60) as stream:
        ((name, last, _),) = events_in(stream.iter_lines())
    assert name == "end"
    again = httpx.get(served.events_url(task), headers={"Last-Event-ID": last}, timeout=60)
    assert (again.status_code, again.text) == (204, "")
    with connect(f"{served.socket_url(task)}?last_event_id={last}") as line:
        assert close_code(line)[0] == 1000


def test_a_task_that_is_deleted_meanwhile_is_gone(world: World, live: Serve) -> None:
    served, task = live(), world.add(TaskState.WAITING)
    with ExitStack() as kept:
        stream, line = ways(served, task, kept)
        next(stream), next(line)
        assert httpx.delete(f"{served.url}/api/v1/tasks/{task}", timeout=60).status_code == 204
        assert [name for name, _, _ in stream] == ["gone"]
    with connect(served.socket_url(task)) as line:
        assert close_code(line) == (4404, "TASK_NOT_FOUND")


def test_the_server_stops_at_once_however_many_follow(world: World, live: Serve) -> None:
    served, task = live(), world.add(TaskState.WAITING)
    with ExitStack() as kept:
        both = [way for _ in range(5) for way in ways(served, task, kept)]
        for way in both:
            assert next(way)[0] == "status"
        served.ask_to_stop()
        began = time.monotonic()
        for stream, line in zip(both[::2], both[1::2], strict=True):
            assert list(stream) == []
            with pytest.raises(ConnectionClosed, match="1012"):
                next(line)
    served.stop()
    assert time.monotonic() - began < 5  # which is how long uvicorn waits for requests that go on


def test_hundreds_who_follow_hold_neither_threads_nor_connections_to_the_database(world: World, live: Serve) -> None:
    served, task = live(streams_per_caller=0), world.add(TaskState.WAITING)
    where = urlsplit(served.url)
    request = f"GET /api/v1/tasks/{task}/events HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode()
    with ExitStack() as kept:
        lines = []
        for _ in range(300):
            line = kept.enter_context(socket.create_connection(("127.0.0.1", where.port or 0), timeout=60))
            line.sendall(request)
            lines.append(line)
        for line in lines:
            heard = b""
            while b"event: status" not in heard:
                heard += line.recv(4096)
        assert threading.active_count() < 60
        pool = world.context.engine.pool
        assert isinstance(pool, QueuePool)
        assert pool.checkedout() <= 1  # for the one look of all
        with world.context.unit_of_work() as work:
            tasks.cancel_task(work, task)
            work.commit()
        for line in lines:
            heard = b""
            while b"event: end" not in heard:
                data = line.recv(4096)
                assert data
                heard += data


def test_each_caller_follows_so_many_and_no_more(world: World, live: Serve) -> None:
    served, task = live(streams_per_caller=2), world.add(TaskState.WAITING)
    with ExitStack() as kept:
        both = ways(served, task, kept)  # held, since who drops a generator hangs up
        assert [next(way)[0] for way in both] == ["status", "status"]
        refused = httpx.get(served.events_url(task), timeout=60)
        assert (refused.status_code, refused.json()["code"]) == (429, "TOO_MANY_STREAMS")
        assert refused.headers["retry-after"] == "5"
        with connect(served.socket_url(task)) as line:
            assert close_code(line) == (4429, "TOO_MANY_STREAMS")

    # both are given back once their clients are gone
    def is_free() -> bool:
        with httpx.stream("GET", served.events_url(task), timeout=60) as again:
            return again.status_code == 200

    wait_for(is_free, "a place")


def test_both_ways_lead_through_nginx_at_once_and_encrypted_as_well(world: World, live: Serve) -> None:
    served, task = live(), world.add(TaskState.PENDING)
    port = urlsplit(served.url).port
    with Nginx(gateway=port or 0) as front, ExitStack() as kept:
        trust = ssl.create_default_context(cafile=str(front.certificate))
        path = f"/api/v1/tasks/{task}/events"
        streams = [
            kept.enter_context(httpx.stream("GET", front.url + path, timeout=60)),
            kept.enter_context(httpx.stream("GET", front.tls_url + path, timeout=60, verify=trust)),
        ]
        lines = [
            kept.enter_context(connect(front.url.replace("http", "ws") + path)),
            kept.enter_context(connect(front.tls_url.replace("http", "ws") + path, ssl=trust)),
        ]
        followed = [*(events_in(stream.iter_lines()) for stream in streams), *map(messages, lines)]
        assert [next(way)[2]["status"] for way in followed] == ["pending"] * 4
        run = Run(world, task)
        run.beat(0.25, "reading")
        for way in followed:
            assert any(shown["progress"] == 0.25 for _, _, shown in way)
        run.finish()
        assert [[name for name, _, _ in way][-1:] for way in followed] == [["end"]] * 4


def offering(key: str) -> list[Any]:
    return ["volcal.events", "volcal.key." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")]


@pytest.mark.case(28)
def test_a_task_is_followed_with_its_owners_key_alone(world: World, live: Serve) -> None:
    served = live()
    alice, bob = make_key(world.context, "alice", "read"), make_key(world.context, "bob")
    theirs = world.add(TaskState.DONE, owner="alice")
    url = served.events_url(theirs)
    assert httpx.get(url, timeout=60).status_code == 401
    absent = httpx.get(served.events_url(uuid4()), headers=bearer(bob), timeout=60)
    assert httpx.get(url, headers=bearer(bob), timeout=60).status_code == absent.status_code == 404
    assert "event: end" in httpx.get(url, headers=bearer(alice), timeout=60).text

    def code(task: Any, **how: Any) -> int:
        with connect(served.socket_url(task), **how) as line:
            return close_code(line)[0]

    assert code(theirs) == 4401
    assert code(theirs, additional_headers=bearer("vk_0000000000_" + "x" * 43)) == 4401
    assert code(theirs, subprotocols=["volcal.events", "volcal.key.%%%"]) == 4401
    assert code(theirs, additional_headers=bearer(bob)) == code(uuid4(), additional_headers=bearer(bob)) == 4404
    assert code("no-id", additional_headers=bearer(bob)) == 4404
    assert code(theirs, subprotocols=offering(bob)) == 4404
    assert code(theirs, additional_headers=bearer(alice)) == 1000
    with connect(served.socket_url(theirs), subprotocols=offering(alice)) as line:
        assert line.subprotocol == "volcal.events"  # a browser wants one to be chosen, and the key is not told back
        assert close_code(line)[0] == 1000


def test_requests_to_follow_count_as_requests(world: World, live: Serve) -> None:
    served, task = live(rate_per_address=1), world.add(TaskState.DONE)
    assert httpx.get(f"{served.url}/api/v1/pipelines", timeout=60).status_code == 200
    with connect(served.socket_url(task)) as line:
        assert close_code(line) == (4429, "RATE_LIMITED")


@pytest.mark.parametrize(
    ("origin", "code"),
    [("https://evil.test", 4403), ("null", 4403), ("https://app.test", 1000), ("http://volcal.test", 1000)],
)
def test_a_page_of_another_origin_follows_nothing_unless_it_may(
    world: World, live: Serve, origin: str, code: int
) -> None:
    served, task = live(cors_origins=("https://app.test",)), world.add(TaskState.DONE)
    with connect(served.socket_url(task), origin=origin) as line:  # type: ignore[arg-type]
        assert close_code(line)[0] == code


def test_a_client_that_talks_too_much_is_closed(world: World, live: Serve) -> None:
    served, task = live(), world.add(TaskState.WAITING)
    with connect(served.socket_url(task)) as line:
        line.send("hello")
        assert next(messages(line))[0] == "status"
        line.send("x" * 5000)
        assert close_code(line)[0] == 1009
