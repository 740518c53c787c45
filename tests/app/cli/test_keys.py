"""`volcal keys`, and what the client says where a key is missing."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from app.cli.keys import keys
from app.db.migrate import upgrade


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blank_sqlite: Path) -> Iterator[Path]:
    (path := tmp_path / "volcal.db").write_bytes(blank_sqlite.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOLCAL_DATABASE_URL", f"sqlite:///{path}")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield path
    root.handlers[:] = handlers
    root.setLevel(level)


def volcal(*words: str) -> Any:
    return CliRunner().invoke(keys, list(words))


def test_a_key_is_shown_once_and_listed_without_its_secret(database: Path) -> None:
    made = volcal("create", "Drone 7", "--owner", "quarry-north", "--scope", "read", "--expires", "90d", "--rate", "60")
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    prefix = key.split("_")[1]
    assert f"Key {prefix} of quarry-north (read)" in made.stderr
    assert key not in made.stderr
    listed = volcal("list").output
    assert prefix in listed
    assert "until 2" in listed
    assert key[14:] not in listed
    (row,) = json.loads(volcal("list", "--json").output)
    assert (row["owner"], row["scopes"], row["rate"], row["name"]) == ("quarry-north", ["read"], 60, "Drone 7")
    assert key[14:].encode() not in database.read_bytes()


def test_a_key_is_exchanged_and_revoked_by_its_public_part_or_by_the_whole(database: Path) -> None:
    old = volcal("create", "n", "--owner", "o").stdout.strip()
    new = volcal("rotate", old, "--grace", "1h").stdout.strip()
    assert new != old
    prefix = new.split("_")[1]
    assert f"Key {prefix} of o is revoked" in volcal("revoke", prefix).output
    states = {row["prefix"]: bool(row["revoked_at"]) for row in json.loads(volcal("list", "--json").output)}
    assert states == {old.split("_")[1]: False, prefix: True}
    again = volcal("rotate", prefix)
    assert again.exit_code == 2
    assert again.output.startswith("error[KEY_OVER]: The key was revoked")


def test_a_key_that_is_not_there_is_said_to_be_none(database: Path) -> None:
    refused = volcal("revoke", "0123456789")
    assert refused.exit_code == 2
    assert refused.output.startswith("error[KEY_NOT_FOUND]: There is no key '0123456789'")


@pytest.mark.parametrize(
    "words",
    [
        ("create", "n"),
        ("create", "n", "--owner", "with space"),
        ("create", "n", "--owner", ""),
        ("create", " ", "--owner", "o"),
        ("create", "n\x07", "--owner", "o"),
        ("create", "n", "--owner", "o", "--scope", "root"),
        ("create", "n", "--owner", "o", "--expires", "soon"),
    ],
)
def test_what_is_no_key_is_refused_with_its_reason(database: Path, words: tuple[str, ...]) -> None:
    refused = volcal(*words)
    assert refused.exit_code == 2
    assert "Error: " in refused.output
    assert volcal("list").output.startswith("There is no key.")


def test_a_database_without_tables_is_said_to_have_none(tmp_path: Path, database: Path) -> None:
    database.unlink()
    refused = volcal("list")
    assert refused.exit_code == 2
    assert refused.output.startswith("error[DATABASE]: ")
    assert "volcal db upgrade" in refused.output
    upgrade(f"sqlite:///{database}")
    assert volcal("list").exit_code == 0
