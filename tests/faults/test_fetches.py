"""Files that a real service fetches: named on the command line, and while whoever fetches them is killed."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import app.samples
from tests.faults.conftest import Service, wait_for
from tests.files import WebFile
from tests.receivers import Receiver, Request

pytestmark = pytest.mark.service

CONTENT = bytes(range(256)) * 8000
SAMPLES = Path(app.samples.__file__).parent / "ttp"


@pytest.fixture(scope="module")
def host() -> Iterator[Receiver]:
    with Receiver() as found:
        yield found


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, host: Receiver) -> Iterator[Service]:
    found = Service(tmp_path_factory.mktemp("service") / "data", VOLCAL_FETCH_ALLOW=host.authority)
    found.start()
    yield found
    found.close()


def test_a_survey_is_submitted_by_urls_alone(service: Service, host: Receiver, tmp_path: Path) -> None:
    def sample(connection: socket.socket, request: Request) -> None:
        name = request.line.split()[1].removeprefix("/").partition("?")[0]
        WebFile((SAMPLES / name).read_bytes())(connection, request)

    host.react = sample
    command = [sys.executable, "-P", "-m", "app.cli", "submit", "--server", service.url, "--json"]
    command += [f"{host.url}/{name}?sig=secret" for name in ("pre_2015.laz", "post_2023.laz", "stable_area.shp")]
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    task = json.loads(done.stdout)
    sources = {label: upload["source"] for label, upload in task["uploads"].items()}
    assert sources == dict.fromkeys(("pre", "post", "shp", "shx"), host.authority)
    wait_for(lambda: service.task(task["id"])["status"] in {"pending", "running", "done"}, "the files")
    service.cancel(task["id"])
    told = "".join(path.read_text() for path in (service.data / "logs").iterdir())
    assert "secret" not in told + done.stdout + done.stderr


def test_a_file_arrives_although_the_fetching_process_is_killed(service: Service, host: Receiver) -> None:
    whole = WebFile(CONTENT)

    def hang(connection: socket.socket, _: Request) -> None:
        """Send some, then nothing for as long as anybody listens."""
        head = f"HTTP/1.1 200 OK\r\nETag: {whole.tag}\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
        connection.sendall(head.encode() + CONTENT[:1_000_000])
        connection.recv(1)

    host.react = hang
    host.requests.clear()
    body = {"pipeline": "constant", "inputs": {"file": f"{host.url}/survey.laz"}}
    task: Any = httpx.post(f"{service.url}/api/v1/tasks", json=body, timeout=30).raise_for_status().json()
    wait_for(lambda: service.task(task["id"])["uploads"]["file"]["offset"] >= 900_000, "half of the file")
    host.react = whole
    service.part("beat").kill()
    wait_for(lambda: service.task(task["id"])["uploads"]["file"]["size"] == len(CONTENT), "the whole file")
    assert host.requests[0].headers.get("range") is None
    start = int(host.requests[-1].headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert 900_000 <= start <= 1_000_000
    wait_for(lambda: not list((service.data / "fetching").iterdir()), "the folder to be empty")
