"""A real service, seen from outside: the story of a task in the logs, figures of several processes as one."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from app.cli.parts import migrate_or_exit
from tests.app.observe.test_metrics import read

pytestmark = pytest.mark.service

PATIENCE_S = 60.0
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


def wait_for(found: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := found()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return answer


def volcal(data: Path, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
    ours = {key: value for key, value in os.environ.items() if not key.startswith("VOLCAL_")}
    with data.with_suffix(".out").open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "app.cli", *arguments],
            stdout=stream,
            stderr=stream,
            env={**ours, "VOLCAL_DATA_DIR": str(data), **settings},
        )


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The embedded service with logs for machines: its data folder and its URL."""
    data = tmp_path_factory.mktemp("observed") / "data"
    process = volcal(data, "up", "--port", "0", "--data", str(data), VOLCAL_LOG_FORMAT="json")
    said = data.with_suffix(".out")
    wait_for(lambda: "Ctrl-C" in said.read_text() or process.poll() is not None, "the service")
    found = re.search(r"API docs +(\S+)/docs", said.read_text())
    assert found, said.read_text()
    yield data, found[1]
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=PATIENCE_S)


def lines(data: Path) -> list[dict[str, Any]]:
    """Return every line of every log, each of which must be a JSON object, in the order of their times."""
    found = [
        {**json.loads(line), "part": log.stem}
        for log in sorted((data / "logs").glob("*.log"))
        for line in log.read_text().splitlines()
    ]
    return sorted(found, key=lambda line: line["ts"])


def run_one(url: str, **options: Any) -> dict[str, Any]:
    """Create a task, upload its file, wait for its end; each request has an id of its own."""
    body = {"pipeline": "constant", "options": options}
    mine = {"X-Request-ID": "the-creation"}
    task = httpx.post(f"{url}/api/v1/tasks", json=body, headers=mine, timeout=30).raise_for_status().json()
    headers = {**TUS, "Upload-Offset": "0", "Upload-Length": "5", "X-Request-ID": "the-upload"}
    sent = httpx.patch(task["uploads"]["file"]["url"], content=b"12345", headers=headers, timeout=30)
    assert sent.status_code == 204
    where = f"{url}/api/v1/tasks/{task['id']}"

    def over() -> dict[str, Any] | None:
        seen: dict[str, Any] = httpx.get(where, timeout=30).json()
        return seen if seen["status"] in {"done", "error", "killed"} else None

    found: dict[str, Any] = wait_for(over, "the end of the task")
    return found


def test_the_lines_about_a_task_tell_its_story(service: tuple[Path, str]) -> None:
    data, url = service
    task = run_one(url)
    assert task["status"] == "done"
    wait_for(lambda: any(line["message"] == "done" for line in lines(data)), "the last line")
    about = [line for line in lines(data) if line.get("task_id") == task["id"]]
    story = [line for line in about if line["message"] != "request"]
    assert [(line["part"], line["message"]) for line in story if line["message"] != "stage"] == [
        ("gateway", "created"),
        ("gateway", "file arrived"),
        ("gateway", "queued"),
        ("worker", "taken"),
        ("worker", "done"),
    ]
    created, arrived, queued, taken, *_, done = story
    assert created["request_id"] == "the-creation"
    assert (arrived["label"], arrived["bytes"]) == ("file", 5)
    assert queued["request_id"] == "the-upload"  # from the run back to the request that caused it
    stages = [line["stage"] for line in story if line["message"] == "stage"]
    assert stages[:2] == ["fetching", "starting"]
    assert stages[-1] == "storing"
    assert "working" in stages
    worked = [line for line in story if line["part"] == "worker"]
    assert {(line["attempt"], line["worker"]) for line in worked} == {(1, taken["worker"])}
    assert done["seconds"] > 0
    assert done["peak_mib"] >= 0
    assert list(done["stages"]) == list(dict.fromkeys(stages))
    assert sum(done["stages"].values()) <= done["seconds"] + 0.1
    asked = [line for line in about if line["message"] == "request"]
    assert [(line["method"], line["path"].split("/")[1]) for line in asked[:2]] == [("POST", "api"), ("PATCH", "files")]
    assert {line["path"] for line in asked[2:]} == {f"/api/v1/tasks/{task['id']}"}


def test_no_log_holds_a_secret_or_anything_but_json(service: tuple[Path, str]) -> None:
    data, url = service
    task = httpx.post(f"{url}/create_task", timeout=30).json()
    upload = next(iter(task["upload_urls"].values())).rpartition("/")[2]
    httpx.head(f"{url}/files/{upload}", headers=TUS, timeout=30)
    httpx.get(f"{url}/objects/x?expires=9&sig=0123456789abcdef", timeout=30)
    wait_for(lambda: any("/objects/x" in line.get("path", "") for line in lines(data)), "the last request")
    text = "\n".join(log.read_text() for log in (data / "logs").glob("*.log"))
    for secret in (
        upload,
        "0123456789abcdef",
        *((data / name).read_text().strip() for name in ("secret.key", "hook.secret")),
    ):
        assert secret not in text


def test_the_figures_of_a_running_service_know_its_parts_and_its_runs(service: tuple[Path, str]) -> None:
    _, url = service
    before = read(httpx.get(f"{url}/metrics", timeout=30).text)
    run_one(url)
    told = wait_for(
        lambda: (
            now := read(httpx.get(f"{url}/metrics", timeout=30).text),
            count := now("volcal_run_seconds_count", pipeline="constant", outcome="done") or 0,
            count > (before("volcal_run_seconds_count", pipeline="constant", outcome="done") or 0) and now,
        )[-1],
        "the run to be counted",
    )
    assert told("volcal_workers") == 1
    assert {told("volcal_up", part=part) for part in ("database", "store", "uploads", "disk", "broker")} == {1}
    assert told("volcal_run_stage_seconds_count", pipeline="constant", stage="working") >= 1
    assert told("volcal_run_peak_mib_count", pipeline="constant") >= 1
    assert httpx.get(f"{url}/readyz", timeout=30).json()["degraded"] == []


def test_several_gateway_processes_tell_their_sum(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    migrate_or_exit(f"sqlite:///{data / 'volcal.db'}")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    process = volcal(data, "serve", "--port", str(port), "--workers", "2")
    url = f"http://127.0.0.1:{port}"
    route = {"route": "/query_task/{task_id}", "method": "GET", "status": "404"}

    def figures() -> Any:
        try:
            return read(httpx.get(f"{url}/metrics", timeout=30).text)
        except httpx.TransportError:
            return None

    try:
        wait_for(lambda: (told := figures()) and told("volcal_gateway_processes") == 2, "both processes")
        for _ in range(40):
            httpx.get(f"{url}/query_task/x", timeout=30)  # each on a connection of its own
        sums = [figures()("volcal_http_request_seconds_count", **route) for _ in range(8)]
        assert sums == [40] * 8
        one = next(iter(psutil.Process(process.pid).children()))
        one.kill()
        wait_for(lambda: (told := figures()) and told("volcal_gateway_processes") == 2, "both processes again")
        told = figures()
        assert told("volcal_http_request_seconds_count", **route) == 40  # what the dead one did is not forgotten
        assert told("volcal_http_requests_under_way") == 1
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)
