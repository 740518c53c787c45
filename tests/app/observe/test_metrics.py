"""/metrics: figures that are right whichever process is asked, with the database and without it."""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.db import vitals
from app.db.session import make_engine
from app.domain.tasks import TaskState
from app.main import create_app
from app.observe import figures, shared
from app.services import runs, tasks

Figures = Callable[..., float]


def read(page: bytes | str) -> Figures:
    """Return a function that gives the value of a sample; no such sample is None."""
    text = page if isinstance(page, str) else page.decode()
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return lambda sample, /, **labels: samples.get((sample, tuple(sorted(labels.items()))))  # type: ignore[return-value]


def test_tasks_and_uploads_are_told_by_state(any_world: Any) -> None:
    now = datetime.now(UTC)
    any_world.add(TaskState.PENDING, queued_at=now - timedelta(seconds=100))
    any_world.add(TaskState.PENDING, queued_at=now)
    any_world.add(TaskState.RUNNING, lease_until=now + timedelta(seconds=5))
    tasks.create_task(any_world.context, "constant")
    told = read(figures.page(any_world.context))
    assert told("volcal_tasks", state="pending", pipeline="constant") == 2
    assert told("volcal_tasks", state="waiting", pipeline="constant") == 1
    assert told("volcal_tasks", state="done", pipeline="four") == 0
    assert told("volcal_upload_slots", state="open") == 1
    assert told("volcal_uploads_opened_lately") == 1
    assert told("volcal_oldest_pending_seconds") == pytest.approx(100, abs=30)
    # a lease of 15 s that runs out in 5 s was renewed 10 s ago
    assert told("volcal_oldest_lease_seconds") == pytest.approx(10, abs=5)
    assert told("volcal_tasks_created_total", pipeline="constant") == 1


def finish(world: Any, task_id: UUID, **ends: Any) -> None:
    """Run a task without running it."""
    now = datetime.now(UTC)
    with world.context.unit_of_work() as work:
        lease = runs.acquire(work, task_id, worker="w", now=now, lease_s=15)
        assert lease is not None
        if ends:
            runs.fail(work, lease, error=ends, now=now)
        else:
            runs.finish(work, lease, document={}, artifacts=[], now=now)
        for seconds in (0.2, 2.0, 20.0):
            work.observe("run_stage_seconds", seconds, pipeline="constant", stage="working")
        work.commit()


def test_counters_never_fall_though_tasks_are_deleted(any_world: Any) -> None:
    done = any_world.add(queued_at=datetime.now(UTC) - timedelta(seconds=5))
    failed = any_world.add()
    finish(any_world, done)
    finish(any_world, failed, code="INPUT_INVALID", message="no")
    for task_id in (done, failed):
        tasks.delete_task(any_world.context, task_id)
    told = read(figures.page(any_world.context))
    assert told("volcal_tasks", state="done", pipeline="constant") == 0
    moves = {"pipeline": "constant", "before": "running"}
    assert told("volcal_task_transitions_total", after="done", **moves) == 1
    assert told("volcal_task_transitions_total", after="error", **moves) == 1
    assert told("volcal_task_transitions_total", after="killed", **moves) == 0
    assert told("volcal_task_failures_total", pipeline="constant", code="INPUT_INVALID") == 1
    assert told("volcal_queue_seconds_count", pipeline="constant") == 1
    assert told("volcal_queue_seconds_sum", pipeline="constant") == pytest.approx(5, abs=5)


def test_histograms_are_cumulative(any_world: Any) -> None:
    finish(any_world, any_world.add())
    told = read(figures.page(any_world.context))
    stage = {"pipeline": "constant", "stage": "working"}
    fell = [told("volcal_run_stage_seconds_bucket", le=le, **stage) for le in ("0.1", "0.3", "3.0", "30.0", "+Inf")]
    assert fell == [0, 1, 2, 3, 3]
    assert told("volcal_run_stage_seconds_count", **stage) == 3
    assert told("volcal_run_stage_seconds_sum", **stage) == pytest.approx(22.2)


def test_files_are_counted_with_their_bytes_once(
    client: TestClient, world: Any, send: Callable[[str, bytes], None]
) -> None:
    created = client.post("/api/v1/tasks", json={"pipeline": "constant"}).json()
    send(created["uploads"]["file"]["url"], b"x" * 1234)
    client.post(f"/start_task/{created['id']}")
    told = read(client.get("/metrics").text)
    assert told("volcal_upload_bytes_total") == 1234
    assert told("volcal_uploads_total", outcome="finished") == 1
    assert told("volcal_task_transitions_total", pipeline="constant", before="waiting", after="pending") == 1


def test_workers_are_told_by_when_they_were_seen(any_world: Any) -> None:
    now = datetime.now(UTC)
    with any_world.context.unit_of_work() as work:
        for name, ago in (("new", 5), ("late", 300), ("forgotten", 8000)):
            then = now - timedelta(seconds=ago)
            vitals.show(work.session, "worker", name, version="1", details={}, now=then)
        vitals.show(work.session, "beat", "b", version="1", details={}, now=now - timedelta(hours=30))
        vitals.show(work.session, "beat", "b", version="2", details={"a": 1}, now=now)
        work.commit()
    told = read(figures.page(any_world.context))
    assert told("volcal_workers") == 1
    assert told("volcal_sign_seconds", kind="worker", name="late", version="1") == pytest.approx(300, abs=30)
    assert told("volcal_sign_seconds", kind="worker", name="forgotten", version="1") is None
    assert told("volcal_sign_seconds", kind="beat", name="b", version="2") == pytest.approx(0, abs=30)
    with any_world.context.unit_of_work() as work:
        vitals.forget(work.session, "beat", "b")
        vitals.forget_old(work.session, before=now - timedelta(seconds=60))
        work.commit()
        assert [sign.name for sign in vitals.signs(work.session, since=now - timedelta(days=9))] == ["new"]


def test_requests_are_told_by_the_template_of_their_route(client: TestClient) -> None:
    labels = {"route": "/query_task/{task_id}", "method": "GET", "status": "404"}
    before = read(client.get("/metrics").text)("volcal_http_request_seconds_count", **labels) or 0
    for name in ("one", "two"):
        client.get(f"/query_task/{name}")
    client.request("BREW", "/no/such/route")
    page = client.get("/metrics").text
    told = read(page)
    assert told("volcal_http_request_seconds_count", **labels) == before + 2
    assert told("volcal_http_request_seconds_count", route="none", method="OTHER", status="404") >= 1
    assert told("volcal_http_requests_under_way") == 1  # this one
    assert told("volcal_gateway_processes") == 1
    assert told("volcal_gateway_resident_bytes") > 1e6
    assert "/query_task/one" not in page


def test_without_the_database_the_rest_is_told(world: Any) -> None:
    away = replace(world.context, engine=make_engine("postgresql://nobody@127.0.0.1:1/volcal"))
    answer = TestClient(create_app(away)).get("/metrics")
    told = read(answer.text)
    assert answer.status_code == 200
    assert told("volcal_up", part="database") == 0
    assert told("volcal_up", part="store") == 1
    assert told("volcal_ready") == 0
    assert told("volcal_disk_free_bytes") > 0
    assert told("volcal_tasks", state="pending", pipeline="constant") is None


def test_a_deployment_may_ask_for_a_token(world: Any) -> None:
    client = TestClient(create_app(world.with_policy(metrics_token="much-secret").context))
    refused = client.get("/metrics")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert client.get("/metrics", headers={"Authorization": "Bearer much-secret2"}).status_code == 401
    assert client.get("/metrics", headers={"Authorization": b"Bearer \xff"}).status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer much-secret"}).status_code == 200


def test_processes_that_cannot_count_together_count_each_for_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared.tempfile, "tempdir", "/no/such/folder")
    with shared.figures_together():
        assert shared.FOLDER not in os.environ
    assert "each for itself" in caplog.text
    monkeypatch.setattr(shared.tempfile, "tempdir", None)
    with shared.figures_together():
        folder = Path(os.environ[shared.FOLDER])
        assert folder.is_dir()
    assert not folder.exists()
    assert shared.FOLDER not in os.environ
