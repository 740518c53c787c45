import stat
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from app.db.migrate import upgrade
from app.main import create_app
from app.settings import Settings
from app.wiring import broker_url, build_context, database_url


def settings(root: Path, **values: Any) -> Settings:
    return Settings(_env_file=None, data_dir=root / "var", public_url="http://volcal.test/", **values)


def test_the_defaults_are_the_embedded_mode(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    assert database_url(chosen) == f"sqlite:///{tmp_path}/var/volcal.db"
    assert broker_url(chosen) == f"filesystem://{tmp_path}/var/queue"
    context = build_context(chosen)
    assert context.policy.public_url == "http://volcal.test"
    assert context.store.url("tasks/1/a.png", expires_s=60).startswith("http://volcal.test/objects/tasks/1/a.png?")
    context.engine.dispose()


def test_processes_that_start_together_sign_links_alike(tmp_path: Path, together: Any) -> None:
    contexts = together([lambda: build_context(settings(tmp_path))] * 6)
    key = tmp_path / "var" / "secret.key"
    assert len({context.store._secret for context in contexts}) == 1
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(key.read_text()) >= 32
    assert sorted(path.name for path in key.parent.glob(".secret*")) == []
    for context in contexts:
        context.engine.dispose()


def test_a_process_that_comes_second_takes_the_secret_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_context(settings(tmp_path))
    monkeypatch.setattr(Path, "exists", lambda _: False)  # it looked before the first had written
    second = build_context(settings(tmp_path))
    assert first.store._secret == second.store._secret
    first.engine.dispose()
    second.engine.dispose()


def test_a_given_secret_is_used_and_none_is_kept(tmp_path: Path) -> None:
    build_context(settings(tmp_path, secret_key=SecretStr("given"))).engine.dispose()
    assert not (tmp_path / "var" / "secret.key").exists()


@pytest.mark.parametrize(("given", "closed"), [(None, True), ("", True), ("sesame", False)])
def test_an_empty_hook_secret_closes_the_hook(tmp_path: Path, given: str | None, closed: bool) -> None:
    secret = None if given is None else SecretStr(given)
    context = build_context(settings(tmp_path, hook_secret=secret))
    assert (context.policy.hook_secret is None) == closed
    context.engine.dispose()


def test_a_server_puts_itself_together_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VOLCAL_DATA_DIR", str(tmp_path / "data"))
    upgrade(f"sqlite:///{tmp_path}/data/volcal.db")
    app = create_app()
    with TestClient(app) as client:
        created = client.post("/create_task").json()
        assert client.get(f"/query_task/{created['id']}").json()["status"] == "waiting"
    app.state.context.engine.dispose()


@pytest.mark.parametrize(
    ("chosen", "kind"),
    [
        ({}, "LocalLimiter"),
        ({"CELERY_BROKER_URL": "redis://:hush@127.0.0.1:1/0"}, "SharedLimiter"),
        ({"CELERY_BROKER_URL": "amqp://u:p@127.0.0.1:1//"}, "LocalLimiter"),
        (
            {"CELERY_BROKER_URL": "amqp://u:p@127.0.0.1:1//", "rate_redis_url": "rediss://127.0.0.1:1/0"},
            "SharedLimiter",
        ),
    ],
)
def test_requests_are_counted_where_all_gateways_can_if_there_is_a_redis(
    tmp_path: Path, chosen: dict[str, str], kind: str
) -> None:
    context = build_context(settings(tmp_path, **chosen))
    context.engine.dispose()
    assert type(context.limiter).__name__ == kind


def test_files_are_fetched_from_buckets_only_where_there_are_some(tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    stack = {"MINIO_ENDPOINT": "http://127.0.0.1:9", "MINIO_ACCESS_KEY": "a", "MINIO_SECRET_KEY": "b"}
    buckets = {"fetch_buckets": "surveys"}
    for values, schemes in (({}, 2), (buckets, 2), (stack, 2), (stack | buckets, 3)):
        context = build_context(settings(tmp_path, **values))
        assert len(context.sources) == schemes
        context.engine.dispose()
    assert context.sources["s3"].check("s3://surveys/a") == "s3://surveys/a"
