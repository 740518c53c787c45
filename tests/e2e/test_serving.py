"""`volcal serve` as operators run it: in several processes, behind a proxy."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

pytestmark = pytest.mark.service


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


class Serve:
    """The command in a process of its own."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.folder = folder
        self._log = folder / "serve.log"
        variables = {**os.environ, "VOLCAL_DATA_DIR": str(folder / "data"), **environment}
        command = [sys.executable, "-P", "-m", "app.cli"]
        subprocess.run([*command, "db", "upgrade"], env=variables, check=True, capture_output=True)
        with self._log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*command, "serve", "--port", "0", *options], env=variables, stdout=stream, stderr=stream
            )
        until(lambda: "listening on" in self.said() or self.process.poll() is not None, "the socket")
        found = re.search(r"listening on \('127\.0\.0\.1', (\d+)\)", self.said())
        assert found, self.said()
        self.url = f"http://127.0.0.1:{found[1]}"
        until(self.answers, "an answer")

    def said(self) -> str:
        return self._log.read_text()

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/livez", timeout=10).is_success
        except httpx.TransportError:
            return False

    def processes(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=30)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Serve]:
    """A gateway in three processes."""
    serve = Serve(tmp_path, "--workers", "3")
    yield serve
    if serve.process.poll() is None:
        serve.stop()


def upload(url: str, data: bytes) -> None:
    headers = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
    for start in range(0, len(data), 10_000):
        more = {"Upload-Offset": str(start), "Upload-Length": str(len(data))}
        sent = httpx.patch(url, content=data[start : start + 10_000], headers=headers | more, timeout=30)
        assert sent.status_code == 204  # each on a line of its own: whichever process takes it


def test_several_processes_are_one_service(three: Serve) -> None:
    until(lambda: three.said().count("startup complete") == 3, "all processes")
    data = os.urandom(100_000)
    task = httpx.post(f"{three.url}/api/v1/tasks", json={"pipeline": "constant"}, timeout=30).json()
    upload(task["uploads"]["file"]["url"].replace("http://127.0.0.1:8000", three.url), data)
    found = httpx.get(f"{three.url}/api/v1/tasks/{task['id']}", timeout=30).json()
    assert (found["status"], found["uploads"]["file"]["size"]) == ("pending", len(data))
    stored = list((three.folder / "data" / "objects" / "tasks" / task["id"]).rglob("file-*"))
    assert [path.read_bytes() for path in stored] == [data]


def test_a_process_that_dies_is_started_again(three: Serve) -> None:
    first = {process.pid for process in three.processes()}
    os.kill(min(first), signal.SIGKILL)
    until(lambda: len({p.pid for p in three.processes()} - {min(first)}) == 3, "another process")
    assert "is started again" in three.said()
    assert three.answers()


def test_stopping_stops_all_within_seconds(three: Serve) -> None:
    family = three.processes()
    began = time.monotonic()
    assert three.stop() == 0
    assert time.monotonic() - began < 15
    assert psutil.wait_procs(family, timeout=0)[1] == []


def test_who_kills_the_first_process_ends_the_others(three: Serve) -> None:
    family = three.processes()
    three.process.kill()
    three.process.wait()
    assert psutil.wait_procs(family, timeout=30)[1] == []


def test_processes_that_cannot_start_are_not_started_for_ever(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "uploads").write_text("a file where a folder should be")
    variables = {**os.environ, "VOLCAL_DATA_DIR": str(tmp_path / "data")}
    failed = subprocess.run(
        [sys.executable, "-P", "-m", "app.cli", "serve", "--port", "0", "--workers", "2"],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert failed.returncode == 1
    assert "FileExistsError" in failed.stderr


@pytest.mark.parametrize(("proxies", "client"), [("127.0.0.0/8", "203.0.113.9"), ("192.0.2.1", "127.0.0.1")])
def test_the_log_names_the_client_that_a_trusted_proxy_names(tmp_path: Path, proxies: str, client: str) -> None:
    serve = Serve(tmp_path, VOLCAL_TRUSTED_PROXIES=proxies)
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Host": "evil.test", "X-Forwarded-Proto": "https"}
    made = httpx.post(f"{serve.url}/api/v1/tasks", json={"pipeline": "constant"}, headers=headers, timeout=30).json()
    assert serve.stop() in {0, -signal.SIGTERM}
    assert f"client={client}" in serve.said()
    assert made["uploads"]["file"]["url"].startswith("http://127.0.0.1:8000/files/")  # links are from the settings


@pytest.mark.parametrize("proxies", ["nginx", "10.0.0.1/8", "127.0.0.1,,"])
def test_a_proxy_that_is_no_address_is_one_line(tmp_path: Path, proxies: str) -> None:
    variables = {**os.environ, "VOLCAL_DATA_DIR": str(tmp_path), "VOLCAL_TRUSTED_PROXIES": proxies}
    failed = subprocess.run(
        [sys.executable, "-P", "-m", "app.cli", "serve"], env=variables, capture_output=True, text=True, timeout=60
    )
    assert failed.returncode == 2
    assert failed.stderr.startswith("error[SETTINGS]: A setting cannot be used: TRUSTED_PROXIES: ")
    assert len(failed.stderr.strip().splitlines()) == 1
