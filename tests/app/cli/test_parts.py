"""The parts of the service on their own, and what they say when they cannot start."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from app.cli import main
from app.cli.parts import hidden, read_settings


def volcal(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "app.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("command", ["up", "serve", "work", "beat", "db", "openapi", "doctor"])
def test_every_part_explains_itself(command: str) -> None:
    shown = CliRunner().invoke(main, [command, "--help"])
    assert shown.exit_code == 0
    assert len(shown.output.split("\n\n")[1]) > 20
    assert "--parent" not in shown.output
    assert "--fd" not in shown.output


def test_the_schema_is_printed_without_a_database(tmp_path: Path) -> None:
    printed = CliRunner().invoke(main, ["openapi"])
    schema = json.loads(printed.output)
    assert schema["info"]["title"] == "Volcal"
    assert "/create_task" in schema["paths"]
    assert CliRunner().invoke(main, ["openapi", "--out", str(tmp_path / "openapi.json")]).exit_code == 0
    assert json.loads((tmp_path / "openapi.json").read_text()) == schema


def test_the_database_is_made_and_a_second_time_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLCAL_DATA_DIR", str(tmp_path))
    for _ in range(2):
        assert CliRunner().invoke(main, ["db", "upgrade"]).exit_code == 0
    with sqlite3.connect(tmp_path / "volcal.db") as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    database.close()
    assert {"tasks", "uploads"} <= tables


@pytest.mark.parametrize("command", [["db", "upgrade"], ["up", "--port", "0"]])
@pytest.mark.service
def test_a_database_that_is_none_is_one_line(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "volcal.db").write_bytes(b"this is no database, whatever its name says" * 100)
    failed = volcal(*command, VOLCAL_DATA_DIR=str(tmp_path))
    assert failed.returncode == 2
    assert failed.stderr.startswith("error[DATABASE]: ")
    assert len(failed.stderr.strip().splitlines()) == 1


@pytest.mark.service
def test_a_setting_that_makes_no_sense_is_one_line(tmp_path: Path) -> None:
    failed = volcal("beat", VOLCAL_DATA_DIR=str(tmp_path), VOLCAL_LEASE_S="soon")
    assert failed.returncode == 2
    assert failed.stderr.startswith("error[SETTINGS]: ")
    assert "LEASE_S" in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1


@pytest.mark.service
@pytest.mark.parametrize("command", ["serve", "up"])
def test_a_port_that_is_taken_is_one_line_that_says_what_to_do(command: str, taken_port: int, tmp_path: Path) -> None:
    failed = volcal(command, "--port", str(taken_port), VOLCAL_DATA_DIR=str(tmp_path))
    assert failed.returncode == 2
    [line] = failed.stderr.strip().splitlines()
    assert line.startswith(f"error[PORT_IN_USE]: Cannot listen on 127.0.0.1 port {taken_port}")
    assert "--port" in line


@pytest.mark.service
def test_the_gateway_alone_answers_and_stops_when_asked(tmp_path: Path) -> None:
    environment = {**os.environ, "VOLCAL_DATA_DIR": str(tmp_path)}
    assert volcal("db", "upgrade", VOLCAL_DATA_DIR=str(tmp_path)).returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-P", "-m", "app.cli", "serve", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as gateway:
        assert answer_of(f"http://127.0.0.1:{port}/readyz")["problems"] == []
        gateway.terminate()
        assert gateway.wait(timeout=30) in {0, -15}


def answer_of(url: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while True:
        try:
            found: dict[str, Any] = httpx.get(url, timeout=10).json()
        except httpx.TransportError:
            assert time.monotonic() < deadline, f"{url} never answered"
            time.sleep(0.05)
        else:
            return found


def test_every_secret_of_the_settings_is_hidden_from_the_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where no .env is
    wanted = {
        "DATABASE_URL": "postgresql://u:of-the-database@h/d",
        "CELERY_BROKER_URL": "redis://:of-the-broker@h/0",
        "MINIO_ENDPOINT": "http://h:9000",
        "MINIO_ACCESS_KEY": "somebody",
        "MINIO_SECRET_KEY": "of-the-store",
        "VOLCAL_HOOK_SECRET": "of-the-hook",
        "VOLCAL_SECRET_KEY": "of-the-links",
        "VOLCAL_METRICS_TOKEN": "of-the-figures",
    }
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    assert {value for value in hidden(read_settings()) if value} >= {
        "of-the-database", "of-the-broker", "of-the-store", "of-the-hook", "of-the-links", "of-the-figures"
    }  # fmt: skip
