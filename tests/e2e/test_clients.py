"""Other people's tus clients against the real gateway: tuspy, and tus-js-client in node."""

import hashlib
import json
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError, TusUploadFailed

if TYPE_CHECKING:
    from tests.e2e.conftest import Gateway, Slot, Survey

pytestmark = pytest.mark.service
HERE = Path(__file__).parent


def sha256(data: bytes | None) -> str:
    return hashlib.sha256(data or b"").hexdigest()


def tuspy(slot: "Slot", survey: "Survey", **kwargs: Any) -> Any:
    client = TusClient("http://unused", headers={"Upload-Length": str(len(survey.data))})
    with survey.path.open("rb") as stream:
        uploader = client.uploader(file_stream=stream, url=slot.url, chunk_size=2**20, **kwargs)
        uploader.upload()
    return uploader


def test_tuspy_uploads_a_survey(shared_gateway: "Gateway", survey: "Survey") -> None:
    slot = shared_gateway.slot()
    tuspy(slot, survey)
    assert sha256(shared_gateway.stored(slot)) == survey.sha256
    assert shared_gateway.status(slot) == "pending"


@pytest.mark.case(1)
def test_tuspy_goes_on_while_the_server_is_killed_and_started_again(gateway: "Gateway", survey: "Survey") -> None:
    slot = gateway.slot()
    failed: list[BaseException] = []

    def send() -> None:
        try:
            tuspy(slot, survey, retries=60, retry_delay=0.25)
        except (TusCommunicationError, TusUploadFailed) as error:
            failed.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    for _ in range(2):
        deadline, before = time.monotonic() + 30, _offset(slot)
        while sender.is_alive() and _offset(slot) < before + 2_000_000 and time.monotonic() < deadline:
            time.sleep(0.005)
        gateway.kill()
        gateway.start()
    sender.join(timeout=120)
    assert not failed
    assert sha256(gateway.stored(slot)) == survey.sha256
    assert gateway.status(slot) == "pending"
    assert gateway.rung() == [slot.task_id]


def _offset(slot: "Slot") -> int:
    return int(httpx.head(slot.url, timeout=10).headers["upload-offset"])


@pytest.fixture(scope="session")
def javascript() -> Path:
    """A folder with tus-js-client installed from the lock; kept between runs outside the repository."""
    lock = (HERE / "js" / "package-lock.json").read_bytes()
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node and npm are not installed")
    folder = Path(tempfile.gettempdir()) / f"volcal-js-{hashlib.sha256(lock).hexdigest()[:12]}"
    folder.mkdir(exist_ok=True)
    for source in (HERE / "js").iterdir():
        shutil.copy(source, folder)
    if not (folder / "node_modules" / "tus-js-client").exists():
        done = subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"npm could not install tus-js-client: {done.stderr[-300:]}")
    return folder


def tus_js(folder: Path, slot: "Slot", survey: "Survey", mode: str, stop_at: int | None = None) -> dict[str, Any]:
    command = ["node", "upload.mjs", slot.url, str(survey.path), mode, *([] if stop_at is None else [str(stop_at)])]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("mode", ["plain", "deferred", "override"])
def test_tus_js_client_uploads_a_survey(
    shared_gateway: "Gateway", survey: "Survey", javascript: Path, mode: str
) -> None:
    slot = shared_gateway.slot()
    answer = tus_js(javascript, slot, survey, mode)
    assert answer.get("done"), answer
    assert sha256(shared_gateway.stored(slot)) == survey.sha256
    assert shared_gateway.status(slot) == "pending"


def test_tus_js_client_continues_what_it_stopped(shared_gateway: "Gateway", survey: "Survey", javascript: Path) -> None:
    slot = shared_gateway.slot()
    assert "stopped" in tus_js(javascript, slot, survey, "plain", stop_at=9_000_000)
    assert 0 < _offset(slot) < len(survey.data)
    assert tus_js(javascript, slot, survey, "plain").get("done")
    assert sha256(shared_gateway.stored(slot)) == survey.sha256


def test_tus_js_client_is_told_to_stop_when_the_upload_is_gone(
    shared_gateway: "Gateway", survey: "Survey", javascript: Path
) -> None:
    slot = shared_gateway.slot()
    fresh = httpx.post(f"{shared_gateway.url}/api/v1/tasks/{slot.task_id}/uploads/file", json={}, timeout=10)
    assert fresh.status_code == 201
    answer = tus_js(javascript, slot, survey, "plain")
    assert answer["status"] == 410
    assert answer["requests"] == 1
