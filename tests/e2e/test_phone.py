"""The mobile app's uploads over real sockets: what it does every day, and what a bad line does to it."""

import hashlib
import importlib.util
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Gateway, Survey

pytestmark = pytest.mark.service


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


phone = _load("phone")
Phone = phone.Phone


def sha256(data: bytes | None) -> str:
    return hashlib.sha256(data or b"").hexdigest()


@pytest.mark.parametrize("override", [False, True], ids=["PATCH", "POST with override"])
@pytest.mark.case(2)
def test_the_app_uploads_a_survey_and_its_task_starts(
    shared_gateway: "Gateway", survey: "Survey", override: bool
) -> None:
    slot = shared_gateway.slot()
    assert Phone(slot.url, override=override).upload(survey.data) == 3
    assert sha256(shared_gateway.stored(slot)) == survey.sha256
    assert shared_gateway.status(slot) == "pending"
    assert shared_gateway.rung().count(slot.task_id) == 1


@pytest.mark.case(2)
def test_a_file_of_whole_pieces_ends_with_an_empty_request(shared_gateway: "Gateway", survey: "Survey") -> None:
    slot = shared_gateway.slot()
    data = survey.data[: 2 * phone.PIECE]
    assert Phone(slot.url).upload(data) == 3
    assert shared_gateway.stored(slot) == data
    assert shared_gateway.status(slot) == "pending"
    assert shared_gateway.rung().count(slot.task_id) == 1


@pytest.mark.case(2)
def test_an_empty_file_is_a_file(shared_gateway: "Gateway") -> None:
    slot = shared_gateway.slot()
    assert Phone(slot.url).upload(b"") == 1
    assert shared_gateway.stored(slot) == b""
    assert shared_gateway.status(slot) == "pending"


def test_before_the_length_is_known_it_is_said_to_be_deferred(shared_gateway: "Gateway") -> None:
    before = Phone(shared_gateway.slot().url)
    answer = before.head()
    assert (answer.status, answer.offset) == (200, 0)
    assert answer.headers["upload-defer-length"] == "1"
    assert "upload-length" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["tus-resumable"] == "1.0.0"
    answer = before.head(77)
    assert answer.headers["upload-length"] == "77"
    assert "upload-defer-length" not in answer.headers
    assert answer.body == b""


@pytest.mark.parametrize("ending", ["closed", "reset"])
@pytest.mark.case(1)
def test_a_line_that_breaks_at_forty_percent_loses_nothing(
    shared_gateway: "Gateway", survey: "Survey", ending: str
) -> None:
    slot = shared_gateway.slot()
    app = Phone(slot.url)
    cut = len(survey.data) * 2 // 5
    with app.connect() as line:
        line.sendall(app.patch_head(0, len(survey.data)))
        phone.send_chunks(line, survey.data[:cut])
        _until(lambda: app.head().offset == cut)
        if ending == "reset":
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert app.head().offset == cut
    assert shared_gateway.status(slot) == "waiting"
    app.upload(survey.data)
    assert sha256(shared_gateway.stored(slot)) == survey.sha256
    assert shared_gateway.status(slot) == "pending"


def test_a_stalled_request_gives_way_to_the_next_and_holds_nobody_up(
    shared_gateway: "Gateway", survey: "Survey"
) -> None:
    slot = shared_gateway.slot()
    app = Phone(slot.url)
    with app.connect() as stalled:
        stalled.sendall(app.patch_head(0, len(survey.data)))
        phone.send_chunks(stalled, survey.data[:1_000_000])
        _until(lambda: app.head().offset > 0)
        assert httpx.get(f"{shared_gateway.url}/livez", timeout=5).is_success
        app.upload(survey.data)
        assert sha256(shared_gateway.stored(slot)) == survey.sha256
        stalled.settimeout(10)
        assert b" 423 " in stalled.recv(100)


@pytest.mark.case(9)
def test_cancelling_a_task_stops_whoever_is_sending(shared_gateway: "Gateway", survey: "Survey") -> None:
    slot = shared_gateway.slot()
    app = Phone(slot.url)
    with app.connect() as line:
        line.sendall(app.patch_head(0, len(survey.data)))
        phone.send_chunks(line, survey.data[:1_000_000])
        _until(lambda: app.head().offset == 1_000_000)
        httpx.post(f"{shared_gateway.url}/api/v1/tasks/{slot.task_id}/cancel", timeout=10)
        line.settimeout(10)
        assert b" 410 " in line.recv(100)


@pytest.mark.parametrize("attempt", range(3))
@pytest.mark.case(1)
def test_killing_the_server_loses_nothing(gateway: "Gateway", survey: "Survey", attempt: int) -> None:
    slot = gateway.slot()
    app = Phone(slot.url)
    sender = threading.Thread(target=_send_and_bear_it, args=(app, survey.data))
    sender.start()
    _until(lambda: app.head().offset > (attempt + 1) * 3_000_000)
    gateway.kill()
    sender.join()
    gateway.start()
    offset = app.head(len(survey.data)).offset
    assert 0 < offset < len(survey.data)
    app.upload(survey.data)
    assert sha256(gateway.stored(slot)) == survey.sha256
    assert gateway.status(slot) == "pending"
    assert gateway.rung() == [slot.task_id]


@pytest.mark.case(10)
def test_a_body_longer_than_declared_is_refused_and_nothing_of_it_kept(
    shared_gateway: "Gateway", survey: "Survey"
) -> None:
    slot = shared_gateway.slot()
    app = Phone(slot.url)
    assert app.patch(survey.data[:1000], 0, 2000).status == 204
    answer = app.patch(survey.data[1000:2001], 1000)
    assert answer.status == 413
    assert b"UPLOAD_TOO_LARGE" in answer.body
    assert app.head().offset == 1000
    assert app.patch(survey.data[1000:2000], 1000).offset == 2000
    assert shared_gateway.stored(slot) == survey.data[:2000]


@pytest.mark.case(10)
def test_a_file_over_the_limit_is_refused_however_it_comes(shared_gateway: "Gateway") -> None:
    slot = shared_gateway.slot()
    app = Phone(slot.url)
    assert app.head(40_000_001).status == 413
    assert app.patch(b"x", 0, 40_000_001).status == 413
    assert app.patch(bytes(40_000_001), 0).status == 413
    assert app.head().offset == 0
    assert shared_gateway.stored(slot) is None


def test_memory_stays_flat_whatever_is_sent(gateway: "Gateway", survey: "Survey") -> None:
    Phone(gateway.slot().url).upload(survey.data)
    before = gateway.memory_mb()
    slots = [gateway.slot() for _ in range(4)]
    for slot in slots:
        Phone(slot.url).upload(survey.data)
    assert gateway.memory_mb() - before < 40  # the four files are 88 MB


def _send_and_bear_it(app: "phone.Phone", data: bytes) -> None:
    """Send slowly enough that the server can be killed in between."""
    try:
        with app.connect() as line:
            line.sendall(app.patch_head(0, len(data)))
            for start in range(0, len(data), 500_000):
                phone.send_chunks(line, data[start : start + 500_000])
                time.sleep(0.02)
    except OSError:
        return


def _until(holds: "object") -> None:
    deadline = time.monotonic() + 30
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come about in 30 s"
        time.sleep(0.02)
