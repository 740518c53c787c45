"""Callbacks of a real service: receivers stumble, die and dawdle, the sender is killed, and every end is told."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.faults.conftest import Service, wait_for
from tests.receivers import Receiver, answer, dead_port, in_turn

pytestmark = pytest.mark.service

SECRET = "known to the service and its receivers"


@pytest.fixture(scope="module")
def dead() -> Iterator[int]:
    with dead_port() as port:
        yield port


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver, dead: int) -> Iterator[Service]:
    """A service to which two ports of loopback are open."""
    found = Service(
        tmp_path_factory.mktemp("service") / "data",
        VOLCAL_FETCH_ALLOW=f"{receiver.authority},127.0.0.1:{dead}",
        VOLCAL_WEBHOOK_SECRET=SECRET,
        VOLCAL_CALLBACK_TIMEOUT_S="2",
        VOLCAL_CALLBACK_RETRY_S="0.2",
        VOLCAL_CALLBACK_ATTEMPTS="3",
    )
    found.start()
    yield found
    found.close()


def submit(service: Service, callback_url: str) -> Any:
    body = {"pipeline": "constant", "callback_url": callback_url}
    return httpx.post(f"{service.url}/api/v1/tasks", json=body, timeout=30)


def run(service: Service, callback_url: str) -> str:
    """Create a task with a receiver and send its file; return its id."""
    task = submit(service, callback_url).raise_for_status().json()
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Upload-Length": "5",
        "Content-Type": "application/offset+octet-stream",
    }
    url = task["uploads"]["file"]["url"]
    assert httpx.patch(url, content=b"12345", headers=headers, timeout=30).status_code == 204
    return str(task["id"])


def delivery(service: Service, task_id: str, state: str) -> dict[str, Any]:
    """Wait until a task's one delivery has come to a state."""

    def look() -> dict[str, Any] | None:
        answer = httpx.get(f"{service.url}/api/v1/tasks/{task_id}/deliveries", timeout=30).raise_for_status().json()
        assert len(answer["deliveries"]) <= 1
        return next((found for found in answer["deliveries"] if found["state"] == state), None)

    found: dict[str, Any] = wait_for(look, f"a delivery that is {state}")
    return found


def heard(receiver: Receiver, task_id: str) -> list[Any]:
    return [request for request in receiver.requests if json.loads(request.body)["id"] == task_id]


@pytest.mark.case(30)
def test_a_receiver_that_stumbles_hears_the_same_delivery_again(service: Service, receiver: Receiver) -> None:
    receiver.react = in_turn(answer(500), answer(500), answer(200))
    task_id = run(service, f"{receiver.url}/volcal")
    told = delivery(service, task_id, "delivered")
    requests = heard(receiver, task_id)
    assert [attempt["status"] for attempt in told["attempts"]] == [500, 500, 200]
    assert {request.headers["x-volcal-delivery"] for request in requests} == {told["id"]}
    assert len(requests) == 3
    for request in requests:
        message = request.headers["x-volcal-timestamp"].encode() + b"." + request.body
        signature = hmac.new(SECRET.encode(), message, hashlib.sha256).hexdigest()
        assert request.headers["x-volcal-signature"] == f"v1={signature}"
    assert json.loads(requests[0].body)["status"] == service.task(task_id)["status"] == "done"


@pytest.mark.case(30)
def test_a_dead_host_is_given_up_and_the_task_is_done_nevertheless(service: Service, dead: int) -> None:
    task_id = run(service, f"http://127.0.0.1:{dead}/")
    told = delivery(service, task_id, "failed")
    assert len(told["attempts"]) == 3
    assert service.task(task_id)["status"] == "done"


def test_a_sender_that_is_killed_meanwhile_sends_again_under_the_same_id(service: Service, receiver: Receiver) -> None:
    receiver.react = in_turn(lambda _connection, _request: receiver.closing.wait(20), answer(204))
    task_id = run(service, receiver.url)
    wait_for(lambda: heard(receiver, task_id), "the first attempt")
    beat: psutil.Process = service.part("beat")
    beat.kill()
    told = delivery(service, task_id, "delivered")
    assert [attempt["status"] for attempt in told["attempts"]] == [None, 204]
    assert {request.headers["x-volcal-delivery"] for request in heard(receiver, task_id)} == {told["id"]}


@pytest.mark.case(30)
@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/", "http://localhost:1/", "http://redis:6379/", "file:///etc/passwd"]
)
def test_receivers_inside_are_refused(url: str, service: Service) -> None:
    response = submit(service, url)
    assert (response.status_code, response.json()["code"]) == (422, "URL_REFUSED")


@pytest.mark.case(30)
def test_a_redirect_inside_is_not_followed(service: Service, receiver: Receiver) -> None:
    with Receiver() as inside:
        receiver.react = answer(307, Location=inside.url)
        task_id = run(service, receiver.url)
        told = delivery(service, task_id, "failed")
        assert inside.requests == []
    assert {attempt["status"] for attempt in told["attempts"]} == {None}
