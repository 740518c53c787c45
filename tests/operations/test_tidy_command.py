"""`volcal tidy` and `volcal objects`: what do they print, and what do they refuse?"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.domain.keys import input_key
from app.settings import Settings
from app.wiring import build_context

Volcal = Callable[..., Result]


@pytest.fixture
def volcal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Volcal:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOLCAL_DATA_DIR", str(tmp_path / "var"))

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, list(words))

    assert run("setup").exit_code == 0
    return run


@pytest.fixture
def put(tmp_path: Path, volcal: Volcal) -> Callable[..., str]:
    """Put an object of no task into the store, as old as wanted."""
    store = build_context(Settings()).store

    def _put(hours: float, content: bytes = b"12345") -> str:
        key = input_key(uuid4(), "pre", "a")
        (tmp_path / "source").write_bytes(content)
        store.put(key, tmp_path / "source")
        os.utime(tmp_path / "var" / "objects" / key, (time.time() - hours * 3600,) * 2)
        return key

    return _put


def test_it_counts_and_deletes_only_when_told(volcal: Volcal, put: Callable[..., str]) -> None:
    old, young = put(25), put(23, b"123")
    assert volcal("tidy").output.splitlines() == [
        "1 objects: its task is not in the database",
        "1 objects, 5 bytes can be deleted; --delete deletes them.",
    ]
    assert volcal("tidy", "--older-than", "22h", "--list").output.splitlines()[:-2] == sorted(
        [f"{old}\t5\tits task is not in the database", f"{young}\t3\tits task is not in the database"]
    )
    assert volcal("tidy", "--delete").output.splitlines()[-1] == "1 objects, 5 bytes deleted."
    assert volcal("tidy").output == "0 objects, 0 bytes can be deleted.\n"
    assert volcal("tidy", "--older-than", "1h", "--delete").output.splitlines()[-1] == "1 objects, 3 bytes deleted."


def test_with_the_wrong_database_it_refuses_unless_forced(volcal: Volcal, put: Callable[..., str]) -> None:
    for _ in range(11):
        put(48)
    refused = volcal("tidy", "--delete")
    assert refused.exit_code == 2
    assert refused.stderr.startswith("error[TIDY]: 11 of 11 tasks in the store are not in the database")
    assert volcal("tidy").output.splitlines()[-1].startswith("11 objects")
    assert volcal("tidy", "--delete", "--force").output.splitlines()[-1] == "11 objects, 55 bytes deleted."


@pytest.mark.parametrize("age", ["59m", "0d", "soon", "-1d", "1w", ""])
def test_an_age_that_is_none_or_too_young_is_refused(volcal: Volcal, age: str) -> None:
    assert volcal("tidy", "--older-than", age).exit_code == 2


def test_a_database_without_tables_is_one_line(volcal: Volcal, tmp_path: Path, put: Callable[..., str]) -> None:
    put(25)
    (tmp_path / "var" / "volcal.db").unlink()
    failed = volcal("tidy", "--delete")
    assert failed.exit_code == 2
    assert failed.stderr.startswith("error[TIDY]: ")
    assert len(failed.stderr.splitlines()) == 1


def test_objects_are_saved_and_loaded(volcal: Volcal, put: Callable[..., str], tmp_path: Path) -> None:
    key = put(25)
    assert volcal("objects", "save", "backup").output == "1 objects, 5 bytes saved; 0 were there already.\n"
    assert volcal("tidy", "--delete").exit_code == 0
    assert volcal("objects", "load", "backup").output == "1 objects, 5 bytes loaded; 0 were there already.\n"
    assert (tmp_path / "var" / "objects" / key).read_bytes() == b"12345"
    build_context(Settings()).store.delete_prefix(key)
    assert (
        volcal("objects", "save", "backup", "--mirror").output
        == "0 objects, 0 bytes saved; 0 were there already, 1 deleted.\n"
    )
    assert volcal("objects", "load", "nowhere").exit_code == 2
