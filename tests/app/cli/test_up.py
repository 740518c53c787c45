"""`volcal up`: what it says, what it guards, how it ends."""

import itertools
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from click.testing import CliRunner

from app.cli import keeper, main
from app.cli.keeper import Part, Stack, kept_secret, lan_address, rotate
from app.settings import Settings

pytestmark = pytest.mark.service


class Up:
    """`volcal up` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.said = folder / "said"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str) -> str:
        with self.said.open("wb") as stream:
            command = [sys.executable, "-P", "-m", "app.cli", "up", "--port", "0", "--data", self.data, *arguments]
            self.process = subprocess.Popen(command, stdout=stream, stderr=stream, env=self.environment())
        deadline = time.monotonic() + 60
        while "Ctrl-C" not in (said := self.said.read_text()):
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return said

    def environment(self) -> dict[str, str]:
        return {key: value for key, value in os.environ.items() if not key.startswith("VOLCAL_")}

    def family(self) -> list[psutil.Process]:
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    up = Up(tmp_path)
    yield up
    if up.process is not None and up.process.poll() is None:
        up.process.terminate()
        up.process.wait(timeout=60)


def test_it_says_where_everything_is_keeps_its_secrets_and_shares_its_folder_with_nobody(up: Up) -> None:
    said = up.start()
    [url] = re.findall(r"API docs +(\S+)/docs", said)
    assert httpx.get(f"{url}/readyz", timeout=30).json()["problems"] == []
    assert httpx.get(f"{url}/docs", timeout=30).status_code == 200
    assert str(up.data) in said
    assert {path.name for path in (up.data / "logs").iterdir()} == {"gateway.log", "worker.log", "beat.log"}
    for secret in ("hook.secret", "secret.key"):
        assert stat.S_IMODE((up.data / secret).stat().st_mode) == 0o600
        assert (up.data / secret).read_text().strip() not in said

    seen = CliRunner().invoke(main, ["doctor", "--data", str(up.data), "--url", url])
    assert seen.exit_code == 0, seen.output

    second = [sys.executable, "-P", "-m", "app.cli", "up", "--port", "0", "--data", str(up.data)]
    refused = subprocess.run(second, capture_output=True, text=True, timeout=60, env=up.environment())
    assert refused.returncode == 2
    assert refused.stderr.startswith("error[DATA_IN_USE]: ")
    assert len(refused.stderr.strip().splitlines()) == 1

    family = up.family()
    assert up.process is not None
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(timeout=60) == 0
    assert [process for process in family if process.is_running()] == []


def test_a_second_call_to_stop_ends_it_at_once(up: Up) -> None:
    up.start()
    assert up.process is not None
    family = up.family()
    for part in psutil.Process(up.process.pid).children():
        part.suspend()  # parts that do not react
    up.process.send_signal(signal.SIGINT)
    while "Stopping" not in up.said.read_text():
        time.sleep(0.02)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(timeout=10) == 0
    assert psutil.wait_procs(family, timeout=20)[1] == []


def test_a_phone_on_the_network_is_told_an_address_and_shown_its_code(up: Up) -> None:
    said = up.start("--host", "0.0.0.0")  # noqa: S104  (it is what is tested)
    [url] = re.findall(r"API docs +(\S+)/docs", said)
    assert url.startswith(f"http://{lan_address()}:")
    port = url.rpartition(":")[2]
    created = httpx.post(f"http://127.0.0.1:{port}/create_task", timeout=30).json()
    assert all(link.startswith(f"{url}/files/") for link in created["upload_urls"].values())
    if not lan_address().startswith("127."):
        assert "█" in said


def test_links_are_made_from_the_public_url(up: Up) -> None:
    said = up.start("--public-url", "https://volcal.example/")
    assert "https://volcal.example/docs" in said
    port = next(c.laddr.port for p in up.family() for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
    created = httpx.post(f"http://127.0.0.1:{port}/create_task", timeout=30).json()
    assert all(link.startswith("https://volcal.example/files/") for link in created["upload_urls"].values())


def test_a_part_that_cannot_start_ends_it_all_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = Part.start

    def spoiled(self: Part, *arguments: Any) -> None:
        if self.name == "worker":
            self.arguments = ("no-such-command",)
        start(self, *arguments)

    monkeypatch.setattr(Part, "start", spoiled)
    stack = Stack(Settings(data_dir=tmp_path), port=0)
    with pytest.raises(SystemExit) as ended, stack:
        pass
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error[PART_FAILED]: The worker ended as soon as it was started. Its last words: ")
    assert [child for child in psutil.Process().children() if "app.cli" in child.cmdline()] == []


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    first = kept_secret(tmp_path / "hook.secret")
    assert len(first) >= 32
    assert kept_secret(tmp_path / "hook.secret") == first
    assert [path.name for path in tmp_path.iterdir()] == ["hook.secret"]


def test_a_log_that_grew_too_long_starts_anew_for_whoever_writes_it(tmp_path: Path) -> None:
    log = tmp_path / "gateway.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 11)
        rotate(log, limit=10)
        writer.write(b"new\n")
        rotate(log, limit=10)
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "gateway.log.1").read_bytes() == b"x" * 11


def test_a_part_that_dies_again_and_again_is_started_ever_more_rarely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, starts = [1000.0], list[float]()

    class Dead(Part):
        """Dies as soon as it is started."""

        def start(self, *_: Any) -> None:
            self.begun = now[0]
            starts.append(now[0])

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(keeper.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(keeper.time, "sleep", pass_time)
    stack = Stack(Settings(data_dir=tmp_path))
    stack.parts, stack._environment = [Dead("worker", (), begun=now[0])], {}
    told: list[str] = []
    stack.watch(lambda: now[0] > 1130, told.append)
    pauses = [round(later - earlier) for earlier, later in itertools.pairwise(starts)]
    assert pauses[:6] == [1, 2, 4, 8, 16, 30]
    assert set(pauses[6:]) <= {30}
    assert len(told) >= len(starts)
    assert "worker" in told[0]
