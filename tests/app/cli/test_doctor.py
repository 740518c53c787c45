"""`volcal doctor`: what is well, what must be mended, and what to do about it."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import doctor, main
from app.cli.doctor import LOOKS, Finding
from app.cli.parts import migrate_or_exit
from app.settings import Settings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where no .env is
    for name in ("DATABASE_URL", "CELERY_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def ask(data: Path) -> Result:
    return CliRunner().invoke(main, ["doctor", "--data", str(data), "--url", "http://127.0.0.1:9"])


def only(monkeypatch: pytest.MonkeyPatch, **findings: Finding) -> None:
    looks = {name: (lambda _, found=found: found) for name, found in findings.items()}
    monkeypatch.setattr(doctor, "LOOKS", looks)


def test_all_well_is_exit_status_0(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only(monkeypatch, disk=Finding(good=True, said="plenty"), extra=Finding(good=False, said="none", fatal=False))
    asked = ask(tmp_path)
    assert asked.exit_code == 0
    assert asked.output.splitlines()[0].split() == ["ok", "disk", "plenty"]
    assert asked.output.splitlines()[1].split() == ["note", "extra", "none"]


def test_something_to_mend_is_exit_status_1_and_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    only(monkeypatch, broker=Finding(good=False, said="away", remedy="Start it."))
    asked = ask(tmp_path)
    assert asked.exit_code == 1
    assert "MEND broker" in asked.output
    assert "→ Start it." in asked.output


def test_a_look_that_fails_is_itself_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(_: Settings) -> Finding:
        raise RuntimeError("the look broke")

    monkeypatch.setattr(doctor, "LOOKS", {"broken": broken})
    asked = ask(tmp_path)
    assert asked.exit_code == 1
    assert "the look broke" in asked.output


def test_a_service_that_is_not_running_is_missing_a_worker_and_a_gateway(closed_port: int, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, public_url=f"http://127.0.0.1:{closed_port}")
    found = {name: LOOKS[name](settings) for name in ("folder", "broker", "worker", "gateway", "database")}
    assert {name for name, finding in found.items() if finding.good} == {"folder", "broker"}
    assert "volcal up" in found["worker"].remedy
    assert "volcal db upgrade" in found["database"].remedy


def test_a_database_without_the_present_tables_is_told_from_one_with_them(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    (tmp_path / "volcal.db").touch()
    assert "out of date" in LOOKS["database"](settings).said
    migrate_or_exit(f"sqlite:///{tmp_path / 'volcal.db'}")
    assert LOOKS["database"](settings).good


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_down_is_named_without_its_password(
    scheme: str, closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", f"{scheme}://user:hush@127.0.0.1:{closed_port}//")
    found = LOOKS["broker"](Settings(data_dir=tmp_path))
    assert not found.good
    assert found.said.startswith(f"{scheme} does not answer")
    assert "hush" not in found.said


def test_a_database_that_is_down_is_named_without_its_password(
    closed_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://user:hush@127.0.0.1:{closed_port}/volcal")
    found = LOOKS["database"](Settings(data_dir=tmp_path))
    assert not found.good
    assert "postgresql does not answer" in found.said
    assert "hush" not in found.said


@pytest.mark.service
def test_the_science_is_tried_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert LOOKS["science"](Settings(data_dir=tmp_path)).good


@pytest.mark.parametrize(
    ("chosen", "good"),
    [
        ({}, True),
        ({"public_url": "http://192.168.1.26:8000"}, False),
        ({"public_url": "http://192.168.1.26:8000", "auth": "required"}, True),
        ({"public_url": "http://192.168.1.26:8000", "API_KEYS": "drones:u7Qm3xPz0aLw9sKd"}, True),
        ({"public_url": "https://volcal.example.org", "APP_ENV": "production"}, True),
        ({"public_url": "https://volcal.example.org", "auth": "open"}, False),
    ],
)
def test_an_open_door_to_the_network_is_noted_and_stops_nothing(chosen: dict[str, str], good: bool) -> None:
    found = LOOKS["keys"](Settings(_env_file=None, **chosen))
    assert found.good is good
    assert good or not found.fatal
    assert good or "docs/keys.md" in found.remedy
