"""From a task's run to a receiver's hands: the real courier, and the receiver that the documents give away."""

import http.client
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.context import Context
from app.main import create_app
from app.outbound import AllowList, GuardedClient, Limits
from tests.receivers import Receiver, answer, in_turn
from worker.courier import Courier
from worker.runner import run_task

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "receiver.py"
HOOKS = "/api/v1/webhooks"


@pytest.fixture
def context(bench: Any) -> Context:
    web = GuardedClient(AllowList(["127.0.0.0/8"]), limits=Limits(total_s=1.0, idle_s=1.0))
    policy = replace(bench.context.policy, callback_secret="master", callback_retry_s=0.01, callback_timeout_s=1.0)
    return replace(bench.context, web=web, policy=policy)


@pytest.fixture
def client(context: Context) -> Iterator[TestClient]:
    """The front door, with a courier at work behind it."""
    stop = threading.Event()
    courier = threading.Thread(target=Courier(context, every_s=0.02).run, args=(stop,))
    courier.start()
    with TestClient(create_app(context)) as found:
        yield found
    stop.set()
    courier.join(timeout=30)
    assert not courier.is_alive()


def wait_for(found: Callable[[], Any]) -> Any:
    for _ in range(1500):
        if value := found():
            return value
        threading.Event().wait(0.02)
    raise AssertionError("waited in vain")


def delivered(client: TestClient, hook: str) -> list[Any]:
    found: list[Any] = client.get(f"{HOOKS}/{hook}/deliveries?state=delivered").json()["deliveries"]
    return found


@pytest.fixture
def example() -> Iterator[Callable[[str], Any]]:
    """Starts the receiver of the documents as they say, with a secret; returns it and its port."""
    started: list[subprocess.Popen[str]] = []

    def start(secret: str, port: int) -> subprocess.Popen[str]:
        environment = {**os.environ, "VOLCAL_SECRET": secret}
        command = [sys.executable, str(EXAMPLE), str(port)]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        assert re.fullmatch(rf"listening on {port}\n", started[-1].stdout.readline())
        return started[-1]

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.service
def test_the_receiver_of_the_documents_hears_a_run_and_no_forgery(
    client: TestClient, context: Context, bench: Any, example: Any
) -> None:
    with Receiver() as spy:  # lends its port, and remembers what a real delivery looks like
        port = spy.port
        made = client.post(HOOKS, json={"url": spy.url, "events": ["task.started", "task.done"]}).json()
        client.post(f"{HOOKS}/{made['id']}/ping")
        (ping,) = wait_for(lambda: list(spy.requests))
        wait_for(lambda: delivered(client, made["id"]))
    process = example(made["secret"], port)
    task_id = bench.pending()
    run_task(context, task_id, bench.here)
    wait_for(lambda: len(delivered(client, made["id"])) == 3)
    lines = sorted(process.stdout.readline() for _ in range(2))
    assert lines == [
        f"task.done {task_id} {context.policy.public_url}/api/v1/tasks/{task_id}/results\n",
        f"task.started {task_id} \n",
    ]

    def knock(headers: dict[str, str], body: bytes) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/", body, headers)
        status = connection.getresponse().status
        connection.close()
        return status

    signed = {name: ping.headers[name.lower()] for name in ("X-Volcal-Timestamp", "X-Volcal-Signature")}
    assert knock(signed, ping.body) == knock(signed, ping.body) == 204
    assert knock(signed, ping.body + b" ") == 401
    assert knock({**signed, "X-Volcal-Timestamp": str(int(time.time()) - 301)}, ping.body) == 401
    assert knock({}, ping.body) == 401
    client.post(f"{HOOKS}/{made['id']}/ping")
    wait_for(lambda: len(delivered(client, made["id"])) == 4)
    heard = [process.stdout.readline().split()[0] for _ in range(2)]
    assert heard == ["webhook.ping", "webhook.ping"], "that which was sent twice was worked on once"


def test_one_that_is_slow_then_ill_then_redirects_inside_hears_in_the_end_and_holds_up_nobody(
    client: TestClient, context: Context, bench: Any
) -> None:
    with Receiver() as moody, Receiver() as brisk:
        slow: Any = lambda _connection, _request: moody.closing.wait(3)  # noqa: E731
        inside = answer(307, Location="http://169.254.169.254/")
        moody.react = in_turn(slow, answer(500), inside, answer(302, Location=brisk.url), answer(204))
        first, second = (client.post(HOOKS, json={"url": each.url}).json()["id"] for each in (moody, brisk))
        run_task(context, bench.pending(), bench.here)
        wait_for(lambda: delivered(client, second))
        (heard,) = wait_for(lambda: delivered(client, first))
        assert [attempt["status"] for attempt in heard["attempts"]] == [None, 500, None, 302, 204]
        assert len({request.headers["webhook-id"] for request in moody.requests}) == 1
        assert len(brisk.requests) == 1
        assert client.get(f"{HOOKS}/{first}").json()["failing_since"] is None
