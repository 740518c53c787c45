"""What a deployment may and may not choose."""

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from app.cli.parts import SECRETS, hidden, secrets, serve
from app.settings import Settings
from app.wiring import build_context

GOOD = "u7Qm3xPz0aLw9sKd-4fT"
STACK = {
    "DATABASE_URL": f"postgresql://volcal:{GOOD}@db/volcal",
    "CELERY_BROKER_URL": f"redis://:{GOOD}@redis:6379/0",
    "MINIO_ENDPOINT": "http://minio:9000",
    "MINIO_ACCESS_KEY": "volcal",
    "MINIO_SECRET_KEY": GOOD,
    "TUS_ENDPOINT": "http://tusd:8080/files",
    "VOLCAL_HOOK_SECRET": GOOD,
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set the environment to nothing but what is given."""

    def put(**values: str) -> None:
        for name in list(os.environ):
            if name.startswith(
                ("VOLCAL_", "MINIO_", "CELERY_", "TUS_", "DATABASE_", "APP_ENV", "AWS_", "API_KEY", "LEGACY_")
            ):
                monkeypatch.delenv(name)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


def test_names_that_other_services_established_are_understood(environment: Any) -> None:
    environment(**STACK, AWS_S3_ADDRESSING_STYLE="virtual", MINIO_BUCKET="surveys", CELERY_RESULT_BACKEND="redis://r/1")
    found = Settings(_env_file=None)
    assert found.database_url == STACK["DATABASE_URL"]
    assert found.broker_url == STACK["CELERY_BROKER_URL"]
    assert (found.s3_endpoint, found.s3_access_key, found.s3_bucket) == ("http://minio:9000", "volcal", "surveys")
    assert found.s3_addressing_style == "virtual"
    assert found.tus_endpoint == "http://tusd:8080/files"
    assert found.result_backend == "redis://r/1"


def test_a_variable_set_to_nothing_counts_as_not_set(environment: Any) -> None:
    environment(VOLCAL_S3_PUBLIC_ENDPOINT="", MINIO_ENDPOINT="", VOLCAL_LINK_TTL_S="")
    found = Settings(_env_file=None)
    assert (found.s3_endpoint, found.s3_public_endpoint, found.link_ttl_s) == (None, None, 900)


@pytest.mark.parametrize(
    ("lacking", "named"),
    [("MINIO_SECRET_KEY", "MINIO_SECRET_KEY"), ("MINIO_ENDPOINT", "MINIO_ENDPOINT"), ("VOLCAL_HOOK_SECRET", "HOOK")],
)
def test_half_a_stack_is_refused(environment: Any, lacking: str, named: str) -> None:
    environment(**{name: value for name, value in STACK.items() if name != lacking})
    with pytest.raises(ValidationError, match=named):
        Settings(_env_file=None)


@pytest.mark.parametrize("url", ["minio:9000", "//minio:9000", "http://", "ftp://minio"])
def test_an_endpoint_that_is_no_url_is_refused(environment: Any, url: str) -> None:
    environment(**{**STACK, "MINIO_ENDPOINT": url})
    with pytest.raises(ValidationError, match="begins with http"):
        Settings(_env_file=None)


def test_good_secrets_may_go_into_production(environment: Any) -> None:
    environment(**STACK, APP_ENV="production")
    assert Settings(_env_file=None).weak_secrets() == []


def test_the_embedded_mode_may_go_into_production_as_it_is(environment: Any) -> None:
    environment(APP_ENV="production")
    assert Settings(_env_file=None).weak_secrets() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MINIO_SECRET_KEY", "minioadmin"),
        ("MINIO_SECRET_KEY", "insecure-default-of-the-compose-file"),
        ("VOLCAL_HOOK_SECRET", "Xq7-tiny"),
        ("VOLCAL_SECRET_KEY", "changeme_in_production"),
        ("DATABASE_URL", "postgresql://volcal:insecure-default@db/volcal"),
        ("DATABASE_URL", "postgresql://volcal@db/volcal"),
        ("CELERY_BROKER_URL", "redis://redis:6379/0"),
        ("CELERY_BROKER_URL", "amqp://guest:guest@rabbitmq//"),
    ],
)
def test_a_secret_that_anybody_could_guess_does_not_start_in_production(
    environment: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str
) -> None:
    environment(**{**STACK, name: value})
    assert Settings(_env_file=None).weak_secrets() == [name]
    environment(**{**STACK, name: value, "APP_ENV": "production"})
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(serve, [])
    assert refused.exit_code == 2
    assert name in refused.output
    assert "volcal secrets >> .env" in refused.output
    assert value not in refused.output


def test_fresh_secrets_are_good_enough_and_never_the_same(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (CliRunner().invoke(secrets, []).output.splitlines() for _ in range(2))
    assert [line.partition("=")[0] for line in one] == list(SECRETS)
    assert not set(one) & set(other)
    fresh = dict(line.split("=", 1) for line in one)
    environment(**{**STACK, **{name: value for name, value in fresh.items() if name in STACK}, "APP_ENV": "production"})
    assert Settings(_env_file=None).weak_secrets() == []


@pytest.mark.parametrize(
    ("told", "needs", "legacy"),
    [
        ({}, None, False),
        ({"VOLCAL_AUTH": "required"}, True, False),
        ({"VOLCAL_AUTH": "open", "LEGACY_AUTH": "required"}, False, True),
        ({"APP_ENV": "production"}, True, True),
        ({"APP_ENV": "production", "LEGACY_AUTH": "open"}, True, False),
    ],
)
def test_production_is_closed_unless_told_otherwise(
    environment: Any, tmp_path: Path, told: dict[str, str], needs: bool | None, legacy: bool
) -> None:
    environment(**told, VOLCAL_DATA_DIR=str(tmp_path))
    context = build_context(Settings(_env_file=None))
    context.engine.dispose()
    assert (context.policy.needs_key, context.policy.legacy_needs_key) == (needs, legacy)


def test_production_does_not_start_open(environment: Any) -> None:
    environment(APP_ENV="production", VOLCAL_AUTH="open")
    with pytest.raises(ValidationError, match="VOLCAL_AUTH is open"):
        Settings(_env_file=None)


def test_keys_of_the_environment_name_their_owner_or_none(environment: Any, tmp_path: Path) -> None:
    environment(API_KEYS=f"drones:{GOOD}, {GOOD}2,", VOLCAL_DATA_DIR=str(tmp_path))
    found = Settings(_env_file=None)
    assert found.fixed_keys() == [("drones", GOOD), ("api", f"{GOOD}2")]
    assert GOOD not in repr(found)
    assert {GOOD, f"{GOOD}2"} <= set(hidden(found))
    context = build_context(found)
    context.engine.dispose()
    assert {caller.owner for caller in context.policy.fixed_keys.values()} == {"drones", "api"}
    assert GOOD not in str(context.policy.fixed_keys)


@pytest.mark.parametrize("keys", ["short", f"drones:tiny,{GOOD}"])
def test_a_key_that_anybody_could_guess_does_not_start_in_production(environment: Any, keys: str) -> None:
    environment(API_KEYS=keys, APP_ENV="production")
    with pytest.raises(ValidationError, match="VOLCAL_API_KEYS"):
        Settings(_env_file=None)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("API_KEY", f"a b:{GOOD}", "no name"),
        ("VOLCAL_CORS_ORIGINS", "maps.example.com", "no origin"),
        ("VOLCAL_CORS_ORIGINS", "https://maps.example.com/", "no origin"),
    ],
)
def test_what_cannot_be_meant_is_refused(environment: Any, name: str, value: str, why: str) -> None:
    environment(**{name: value})
    with pytest.raises(ValidationError, match=why):
        Settings(_env_file=None)


@pytest.mark.parametrize(
    ("given", "level"),
    [({}, "INFO"), ({"LOG_LEVEL": "debug"}, "DEBUG"), ({"LOG_LEVEL": "ERROR", "VOLCAL_LOG_LEVEL": "INFO"}, "INFO")],
)
def test_the_level_of_logs_goes_by_its_common_name_too(environment: Any, given: dict[str, str], level: str) -> None:
    environment(**given)
    assert Settings(_env_file=None).log_level == level  # type: ignore[call-arg]


def test_the_bucket_of_everybodys_files_is_not_one_to_fetch_from() -> None:
    with pytest.raises(ValueError, match="VOLCAL_FETCH_BUCKETS names VOLCAL_S3_BUCKET"):
        Settings(_env_file=None, fetch_buckets="surveys, uploads")
    assert Settings(_env_file=None, fetch_buckets="surveys, more").buckets() == ["surveys", "more"]
