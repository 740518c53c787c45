"""What a deployment chooses about callbacks reaches the parts that need it."""

import hmac
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import SecretStr, ValidationError

from app.cli import main
from app.domain.errors import UrlRefused
from app.settings import Settings
from app.wiring import build_context, callback_secret

REMOTE: dict[str, Any] = {
    "VOLCAL_DATABASE_URL": "postgresql://volcal:x@db/volcal",
    "VOLCAL_BROKER_URL": "redis://redis",
    "VOLCAL_S3_ENDPOINT": "http://minio:9000",
    "VOLCAL_S3_ACCESS_KEY": "a",
    "VOLCAL_S3_SECRET_KEY": "b",
    "VOLCAL_TUS_ENDPOINT": "http://tusd:8080/files",
}


def settings(root: Path, **values: Any) -> Settings:
    return Settings(_env_file=None, data_dir=root / "var", **values)


def test_the_secret_is_the_given_one_or_derived_from_the_key_or_kept_in_the_data_folder(tmp_path: Path) -> None:
    given = settings(tmp_path, webhook_secret=SecretStr("given"), secret_key=SecretStr("key"))
    assert callback_secret(given) == "given"
    derived = callback_secret(settings(tmp_path, secret_key=SecretStr("key")))
    assert derived == hmac.new(b"key", b"volcal callbacks v1", "sha256").hexdigest()
    kept = callback_secret(settings(tmp_path))
    assert kept == callback_secret(settings(tmp_path))
    assert kept not in {derived, callback_secret(settings(tmp_path / "elsewhere"))}


def test_without_a_secret_that_all_parts_share_there_is_none(tmp_path: Path) -> None:
    assert callback_secret(settings(tmp_path, **REMOTE, hook_secret="c")) is None
    assert callback_secret(settings(tmp_path, **REMOTE, hook_secret="c", secret_key=SecretStr("key"))) is not None
    assert not (tmp_path / "var").exists()


def test_the_command_line_shows_the_secret(tmp_path: Path) -> None:
    environment = {"VOLCAL_DATA_DIR": str(tmp_path / "var"), "VOLCAL_SECRET_KEY": "key"}
    shown = CliRunner().invoke(main, ["secrets", "--callbacks"], env=environment)
    assert shown.output.strip() == hmac.new(b"key", b"volcal callbacks v1", "sha256").hexdigest()


def test_the_command_line_says_what_is_missing(tmp_path: Path) -> None:
    environment = {"VOLCAL_DATA_DIR": str(tmp_path / "var"), "VOLCAL_HOOK_SECRET": "c", **REMOTE}
    shown = CliRunner().invoke(main, ["secrets", "--callbacks"], env=environment)
    assert shown.exit_code == 2
    assert "error[SETTINGS]: There is no secret to sign with." in shown.output


def test_what_the_operator_opened_is_open(tmp_path: Path) -> None:
    context = build_context(settings(tmp_path, fetch_allow="10.1.0.0/16, 127.0.0.1:9000"))
    assert context.web.check("http://10.1.2.3:8080") == "http://10.1.2.3:8080/"
    assert context.web.check("http://127.0.0.1:9000/x") == "http://127.0.0.1:9000/x"
    for closed in ("http://10.2.0.1/", "http://127.0.0.1:9001/"):
        with pytest.raises(UrlRefused):
            context.web.check(closed)
    context.engine.dispose()


def test_a_list_that_means_nothing_does_not_start() -> None:
    with pytest.raises(ValidationError, match=r"'10.0.0.1/8' is not a host, an address, host:port, or a network"):
        Settings(_env_file=None, fetch_allow="10.0.0.1/8")


def test_a_secret_that_anybody_could_guess_is_weak() -> None:
    assert "VOLCAL_WEBHOOK_SECRET" in Settings(_env_file=None, webhook_secret=SecretStr("short")).weak_secrets()
