"""Jobs of other services: posted by name from a Celery application that knows nothing of ours, to real brokers."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from socket import socket
from threading import Event
from typing import Any

import httpx
import pytest
from celery import Celery
from celery.result import AsyncResult

from app.domain.callbacks import signature
from tests.brokers.conftest import Deployment, Part
from tests.images import image_server, picture
from tests.receivers import Receiver, Request, answer, in_turn
from tests.servers.base import wait_for
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis

pytestmark = pytest.mark.service

SECRET = "what receivers know"
BOX = {"x1": 80.0, "y1": 60.0, "x2": 240.0, "y2": 180.0}  # of 640 x 480


@pytest.fixture(scope="module")
def web() -> Iterator[Receiver]:
    with image_server({"moth.jpg": picture(), "page.html": b"<html>"}) as server:
        yield server


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


@pytest.fixture(scope="module")
def here(
    redis: Redis, web: Receiver, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """The service, with Redis as broker and for results."""
    redis.empty()
    settings = {
        "CELERY_RESULT_BACKEND": redis.url.replace("/0", "/1"),
        "VOLCAL_FETCH_ALLOW": f"{web.authority},{receiver.authority}",
        "VOLCAL_WEBHOOK_SECRET": SECRET,
        "VOLCAL_CALLBACK_RETRY_S": "0.1",
        "VOLCAL_CALLBACK_ATTEMPTS": "3",
    }
    with Deployment(tmp_path_factory.mktemp("foreign") / "deployment", redis.url, **settings) as found:
        yield found


@pytest.fixture(scope="module")
def foreign(here: Deployment, redis: Redis) -> Iterator[Celery]:
    """An application as another service writes it: broker, backend, and nothing else."""
    with Celery("image_processing", broker=redis.url, backend=redis.url.replace("/0", "/1")) as app:
        yield app


def request_of(web: Receiver, name: str = "moth.jpg", **more: Any) -> dict[str, Any]:
    source = {"id": "img1", "url": f"{web.url}/{name}"}
    return {"pipeline": "constant", "source_images": [source], "config": {}, **more}


def test_the_queue_answers_as_http_does(here: Deployment, foreign: Celery, web: Receiver) -> None:
    posted = foreign.send_task("api.tasks.process_pipeline", args=[request_of(web), None])
    by_queue = posted.get(timeout=60)
    said = httpx.post(f"{here.gateway.url}/process", json=request_of(web), timeout=60)
    by_http = said.raise_for_status().json()
    for each in (by_queue, by_http):
        assert each.pop("total_time") > 0
        for detection in each["detections"]:
            assert detection.pop("inference_time") > 0
            assert detection.pop("timestamp")
            assert all(one.pop("timestamp") for one in detection["classifications"])
    assert by_queue == by_http
    assert by_queue["detections"][0]["bbox"] == BOX


def test_a_worker_says_that_it_is_well_and_takes_what_it_has_no_use_for(foreign: Celery) -> None:
    told = foreign.send_task("api.tasks.health_check").get(timeout=60)
    assert told == {"status": "healthy", "message": "Celery worker is running"}
    assert foreign.send_task("api.tasks.save_results", args=[{"any": "thing"}]).get(timeout=60) == {}


def test_results_are_posted_until_the_receiver_hears_them(foreign: Celery, web: Receiver, receiver: Receiver) -> None:
    receiver.requests.clear()
    receiver.react = in_turn(answer(503), answer(200))
    posted = foreign.send_task("api.tasks.process_pipeline", args=[request_of(web), f"{receiver.url}/results"])
    wait_for(lambda: len(receiver.requests) == 2, "the second attempt")
    first, second = receiver.requests
    assert first.line == "POST /results HTTP/1.1"
    assert json.loads(second.body) == posted.get(timeout=60) == json.loads(first.body)
    assert first.headers["x-volcal-delivery"] == second.headers["x-volcal-delivery"]
    stamp = int(second.headers["x-volcal-timestamp"])
    assert second.headers["x-volcal-signature"] == signature(SECRET, stamp, second.body)


def test_a_receiver_that_never_hears_is_given_up_and_the_result_stays(
    here: Deployment, foreign: Celery, web: Receiver, receiver: Receiver
) -> None:
    receiver.requests.clear()
    receiver.react = answer(500)
    posted = foreign.send_task("api.tasks.process_pipeline", args=[request_of(web), receiver.url])
    wait_for(lambda: "results not told: the receiver answered 500" in here.worker.log.read_text(), "the giving up")
    assert len(receiver.requests) == 3
    assert posted.get(timeout=60)["detections"][0]["bbox"] == BOX


def test_a_worker_that_stops_gives_its_job_back_and_another_does_it(
    here: Deployment, foreign: Celery, web: Receiver
) -> None:
    held, released, react, before = Event(), Event(), web.react, len(web.requests)

    def hold(connection: socket, request: Request) -> None:
        held.set()
        released.wait(30)
        react(connection, request)

    sources = [{"id": str(number), "url": f"{web.url}/moth.jpg"} for number in range(12)]  # more than come at once
    web.react = hold
    try:
        posted = foreign.send_task("api.tasks.process_pipeline", args=[request_of(web, source_images=sources), None])
        assert held.wait(60)
        assert here.worker.process is not None
        here.worker.process.terminate()
        wait_for(lambda: not here.answering(), "the worker to stop listening")
    finally:
        web.react = react
        released.set()
    here.worker.stop()
    here.wake()
    assert len(posted.get(timeout=60)["detections"]) == 12
    assert len(web.requests) - before > 12  # it was begun anew


@pytest.mark.parametrize(
    ("change", "callback", "words"),
    [
        ({"name": "page.html"}, None, "IMAGE_UNREADABLE: Image 'img1' cannot be used"),
        ({"pipeline": "moths"}, None, "IMAGE_PIPELINE_UNKNOWN: There is no image pipeline 'moths'"),
        ({"source_images": 7}, None, "REQUEST_INVALID: source_images"),
        ({}, "http://169.254.169.254/", "URL_REFUSED"),
    ],
)
def test_a_job_that_cannot_be_done_says_why_in_words_of_any_application(
    foreign: Celery, web: Receiver, change: dict[str, Any], callback: str | None, words: str
) -> None:
    posted = foreign.send_task("api.tasks.process_pipeline", args=[request_of(web, **change), callback])
    with pytest.raises(ValueError, match=words):
        posted.get(timeout=60)


def test_the_command_posts_a_job_and_prints_its_id(
    foreign: Celery, redis: Redis, web: Receiver, tmp_path: Path
) -> None:
    command = [sys.executable, "-P", "-m", "app.cli.jobs", "--broker-url", redis.url, "--config", '{"boxes": 2}']
    command += ["--image-url", f"{web.url}/moth.jpg", "--image-url", f"{web.url}/moth.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    told = dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)
    assert told["Images"] == "2"
    result = AsyncResult(told["Task ID"], app=foreign).get(timeout=60)
    assert (result["pipeline"], len(result["detections"])) == ("random", 4)
    assert [image["id"] for image in result["source_images"]] == ["img_0", "img_1"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--pipeline", "moths"], "IMAGE_PIPELINE_UNKNOWN"),
        (["--broker-url", "redis://127.0.0.1:1/0"], "BROKER"),
        (["--image-url", ""], "REQUEST_INVALID"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, more: list[str], code: str) -> None:
    command = [sys.executable, "-P", "-m", "app.cli", "submit-job", "--image-url", "http://images.example.com/1.jpg"]
    done = subprocess.run([*command, *more], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error[{code}]: ")
    assert done.stderr.count("\n") == 1


def test_rabbitmq_takes_the_jobs_and_a_folder_the_results(
    rabbitmq: RabbitMQ, web: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = f"file://{tmp_path / 'celery-results'}"
    settings = {"VOLCAL_DATA_DIR": str(tmp_path / "data"), "CELERY_BROKER_URL": rabbitmq.url}
    settings |= {"CELERY_RESULT_BACKEND": backend, "VOLCAL_FETCH_ALLOW": web.authority}
    rabbitmq.empty()
    with Part("work", tmp_path, settings), Celery("image_processing", broker=rabbitmq.url, backend=backend) as app:
        posted = app.send_task("api.tasks.process_pipeline", args=[request_of(web), None])
        assert posted.get(timeout=60)["detections"][0]["bbox"] == BOX
