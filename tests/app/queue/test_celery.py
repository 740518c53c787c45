"""The doorbell: what it posts, and that it never makes anybody wait for long."""

import json
import logging
import multiprocessing
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from pydantic import ValidationError

from app.domain.ports import DEFAULT_QUEUE
from app.queue.celery import JOB, CeleryQueue, broker_settings, common_settings
from app.settings import Settings
from app.wiring import broker_url


def url(folder: Path) -> str:
    return f"filesystem://{folder}"


def messages(folder: Path) -> list[Path]:
    return sorted((folder / "messages" / DEFAULT_QUEUE).glob("*.json"))


def take(folder: Path) -> list[str]:
    """Take all messages as a worker does; return the tasks that they name."""
    celery = Celery("test", set_as_current=False)
    celery.conf.update(common_settings() | broker_settings(url(folder)))
    taken = []
    with celery.connection_for_read() as connection, connection.SimpleQueue(DEFAULT_QUEUE) as queue:
        while queue.qsize():
            try:
                message = queue.get(timeout=1)
            except queue.Empty:  # somebody else took the last one in between
                break
            assert message.headers["task"] == JOB
            assert message.content_type == "application/json"
            taken.append(message.payload[0][0])
            message.ack()
    return taken


def test_a_message_holds_the_tasks_id_and_its_step_and_nothing_else(tmp_path: Path) -> None:
    task_id = UUID(int=7)
    CeleryQueue(url(tmp_path)).submit(task_id)
    [path] = messages(tmp_path)
    message = json.loads(path.read_bytes())
    assert message["headers"]["argsrepr"] == f"['{task_id}', 0]"
    assert message["headers"]["kwargsrepr"] == "{}"
    assert take(tmp_path) == [str(task_id)]


def test_messages_come_in_the_order_in_which_they_were_sent(tmp_path: Path) -> None:
    queue = CeleryQueue(url(tmp_path / "with space & 100%"))
    sent = [uuid4() for _ in range(5)]
    for task_id in sent:
        queue.submit(task_id)
    assert take(tmp_path / "with space & 100%") == [str(task_id) for task_id in sent]
    assert messages(tmp_path / "with space & 100%") == []


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"body": "x", "properties": {}}',
        b'{"body": 1, "properties": {"delivery_info": {}, "delivery_tag": "t"}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_file_that_is_no_message_is_thrown_away_and_the_next_one_taken(
    junk: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    queue = CeleryQueue(url(tmp_path))
    queue.submit(uuid4())
    messages(tmp_path)[0].write_bytes(junk)
    queue.submit(UUID(int=2))
    with caplog.at_level(logging.WARNING):
        celery = Celery("test", set_as_current=False)
        celery.conf.update(common_settings() | broker_settings(url(tmp_path)))
        with celery.connection_for_read() as connection, connection.SimpleQueue(DEFAULT_QUEUE) as simple:
            assert simple.get(timeout=1).payload[0] == [str(UUID(int=2)), 0]
    assert "threw away" in caplog.text


def test_half_written_bindings_do_no_harm(tmp_path: Path) -> None:
    queue = CeleryQueue(url(tmp_path))
    queue.submit(UUID(int=1))
    for binding in (tmp_path / "bindings").rglob("*.json"):
        binding.write_bytes(b'["cel')
    queue.submit(UUID(int=2))
    assert take(tmp_path) == [str(UUID(int=1)), str(UUID(int=2))]


def test_a_folder_that_was_deleted_is_made_again_by_whoever_rings(tmp_path: Path) -> None:
    queue = CeleryQueue(url(tmp_path / "queue"))
    queue.submit(UUID(int=1))
    shutil.rmtree(tmp_path / "queue")
    queue.submit(UUID(int=2))
    assert take(tmp_path / "queue") == [str(UUID(int=2))]


def take_and_tell(folder: Path, told: "multiprocessing.Queue[list[str]]") -> None:
    told.put(take(folder))


def test_no_message_is_taken_twice_by_workers_that_compete(tmp_path: Path) -> None:
    queue = CeleryQueue(url(tmp_path))
    sent = [str(uuid4()) for _ in range(60)]
    for task_id in sent:
        queue.submit(UUID(task_id))
    spawning = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue[list[str]] = spawning.Queue()
    workers = [spawning.Process(target=take_and_tell, args=(tmp_path, told)) for _ in range(2)]
    for worker in workers:
        worker.start()
    taken = [task_id for _ in workers for task_id in told.get(timeout=60)]
    for worker in workers:
        worker.join()
    assert sorted(taken) == sorted(sent)


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_down_is_an_error_at_once(scheme: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(OperationalError, match="refused"):
        CeleryQueue(f"{scheme}://127.0.0.1:{port}//").submit(uuid4())


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where somebody accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_never_answers_is_given_up(scheme: str, silent_port: int) -> None:
    with pytest.raises(OperationalError, match=r"[Tt]im"):
        CeleryQueue(f"{scheme}://127.0.0.1:{silent_port}//").submit(uuid4())


def test_nobody_answers_where_no_worker_is(tmp_path: Path) -> None:
    assert CeleryQueue(url(tmp_path)).answering(timeout_s=0.3) == []


def test_redis_gives_a_job_to_another_worker_only_after_the_longest_run() -> None:
    options = broker_settings("redis://broker/0", visibility_s=18_000)["broker_transport_options"]
    assert options["visibility_timeout"] == 18_000


def test_a_worker_looks_anew_for_a_redis_that_is_silent() -> None:
    options = broker_settings("redis://broker/0")["broker_transport_options"]
    assert options["socket_timeout"] > 1  # an idle worker asks each second: silence is not idleness
    assert options["health_check_interval"] > 0


SENTINELS = "sentinel://:pw@one:26379;sentinel://two:26380;three:26381/2?master=volcal"


def test_each_sentinel_knows_the_password_and_the_number_of_the_database() -> None:
    settings = broker_settings(SENTINELS)
    urls = [f"sentinel://:pw@{host}/2" for host in ("one:26379", "two:26380", "three:26381")]
    assert settings["broker_url"].split(";") == urls
    assert settings["broker_transport_options"]["master_name"] == "volcal"


def test_sentinels_that_are_silent_are_given_up_together_not_one_by_one() -> None:
    asking = broker_settings(SENTINELS, patience_s=3.0)["broker_transport_options"]["sentinel_kwargs"]
    assert (asking["socket_timeout"], asking["socket_connect_timeout"]) == (1.0, 1.0)


def test_sentinels_may_have_a_password_of_their_own() -> None:
    options = broker_settings(f"{SENTINELS}&sentinel_password=a%26b")["broker_transport_options"]
    assert options["sentinel_kwargs"]["password"] == "a&b"


def test_sentinels_without_the_masters_name_are_refused_with_the_settings_name() -> None:
    with pytest.raises(ValueError, match="VOLCAL_BROKER_MASTER"):
        broker_settings("sentinel://one:26379/0")
    with pytest.raises(ValidationError, match="VOLCAL_BROKER_MASTER"):
        Settings(CELERY_BROKER_URL="sentinel://one:26379/0")


def test_the_masters_name_goes_with_the_url() -> None:
    settings = Settings(CELERY_BROKER_URL="sentinel://one:26379/0", broker_master="my master")
    options = broker_settings(broker_url(settings))["broker_transport_options"]
    assert options["master_name"] == "my master"


@pytest.mark.timeout(10)
def test_sentinels_that_are_away_are_one_short_error_soon() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    url = f"sentinel://:pw@127.0.0.1:{port};sentinel://127.0.0.1:{port}/0?master=volcal"
    for call in (lambda: CeleryQueue(url).submit(uuid4()), CeleryQueue(url).check):
        with pytest.raises(OperationalError, match=r"^No master found for 'volcal'$"):
            call()
