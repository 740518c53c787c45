import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.db.models import Upload
from app.domain.tasks import TaskState, UploadState
from app.services import tasks, uploads

RECORDED = sorted((Path(__file__).parents[2] / "data/tusd_hooks").glob("*.json"))
SECRET = {"secret": "open sesame"}


@pytest.fixture
def hook(client: TestClient) -> Callable[..., Any]:
    def post(event: Any, **kwargs: Any) -> Any:
        content = event if isinstance(event, bytes) else json.dumps(event).encode()
        return client.post("/tusd_hook", content=content, **{"params": SECRET, **kwargs})

    return post


@pytest.fixture
def issued(world: Any) -> Upload:
    """An upload all of whose bytes have arrived, untold."""
    task, tickets = tasks.create_task(world.context, "four")
    world.put(tickets[0].id)
    found: Upload = world.upload(tickets[0].id)
    assert found.task_id == task.id
    return found


def event(upload: Upload, kind: str = "post-finish", **claims: Any) -> dict[str, Any]:
    said = {"ID": upload.id, "MetaData": {"label": upload.label, "task_id": str(upload.task_id)}, **claims}
    return {"Type": kind, "Event": {"Upload": said}}


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_recorded_request_about_a_strangers_upload_is_ignored(path: Path, hook: Any, issued: Upload) -> None:
    recorded = json.loads(path.read_text())
    response = hook(recorded["body"], headers=dict(recorded["http"]["headers"][3:4]))
    assert (response.status_code, response.json()) == (200, {})


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_recorded_request_about_our_upload_settles_it_if_it_says_finished(
    path: Path, hook: Any, issued: Upload, world: Any
) -> None:
    body = json.loads(path.read_text())["body"]
    said = body["Event"]["Upload"]
    with world.context.unit_of_work() as work:
        work.session.execute(update(Upload).values(handle=said["ID"] or "none").where(Upload.id == issued.id))
        work.commit()
    said["MetaData"] = {**(said["MetaData"] or {}), "task_id": str(issued.task_id), "label": issued.label}
    assert hook(body).json() == {}
    told = body["Type"] in {"pre-finish", "post-finish"}
    assert world.upload(issued.id).state == (UploadState.FINISHED if told else UploadState.OPEN)


@pytest.mark.case(3)
def test_four_finished_files_start_the_task_once_however_often_it_is_said(hook: Any, world: Any) -> None:
    task, tickets = tasks.create_task(world.context, "four")
    for ticket in tickets:
        world.put(ticket.id)
    for _ in range(3):
        for ticket in tickets:
            assert hook(event(world.upload(ticket.id))).status_code == 200
    assert world.queue.submitted == [task.id]


@pytest.mark.parametrize(
    "kwargs",
    [
        {"params": {}},
        {"params": {"secret": ""}},
        {"params": {"secret": "open sesam"}},
        {"params": {"secret": "öpen sesame"}},
        {"params": {}, "headers": {"Authorization": "Bearer open sesame"}},
        {"params": {}, "headers": {"Authorization": "Basic %%%"}},
        {"params": {}, "headers": {"Authorization": "Basic " + base64.b64encode(b"\xff:\xff").decode()}},
        {"params": {}, "headers": {"Authorization": "Basic " + base64.b64encode(b"tusd:wrong").decode()}},
    ],
)
@pytest.mark.case(6)
def test_a_hook_without_the_secret_changes_nothing(hook: Any, issued: Upload, world: Any, kwargs: Any) -> None:
    assert hook(event(issued), **kwargs).status_code == 401
    assert world.upload(issued.id).state == UploadState.OPEN


def test_the_secret_may_come_as_a_basic_password(hook: Any, issued: Upload, world: Any) -> None:
    password = base64.b64encode(b"tusd:open sesame").decode()
    assert hook(event(issued), params={}, headers={"Authorization": f"Basic {password}"}).status_code == 200
    assert world.upload(issued.id).state == UploadState.FINISHED


@pytest.mark.parametrize("secret", [None, ""])
@pytest.mark.case(6)
def test_without_a_configured_secret_nobody_gets_in(world: Any, issued: Upload, secret: str | None) -> None:
    from app.main import create_app

    closed = world.with_policy(hook_secret=secret)
    client = TestClient(create_app(closed.context))
    for params in ({}, {"secret": ""}, {"secret": "None"}):
        assert client.post("/tusd_hook", params=params, json=event(issued)).status_code == 401


@pytest.mark.parametrize(
    "label", ["status", "__class__", "pre_key", "état", "x" * 10_000, "\ud800", "\x00", None, 3, ["pre"], {}]
)
@pytest.mark.case(8)
def test_a_hostile_label_is_ignored(hook: Any, issued: Upload, world: Any, label: Any) -> None:
    body = event(issued, MetaData={"label": label, "task_id": str(issued.task_id)})
    response = hook(body)
    assert (response.status_code, response.json()) == (200, {})
    assert world.upload(issued.id).state == UploadState.OPEN


@pytest.mark.parametrize("said", ["", "forged", "x" * 100, "a\x00b", "\ud800", "../x", None, 7, ["a"]])
@pytest.mark.case(7)
def test_an_id_that_was_not_issued_is_ignored(hook: Any, issued: Upload, world: Any, said: Any) -> None:
    assert hook(event(issued, ID=said)).json() == {}
    assert world.upload(issued.id).state == UploadState.OPEN


@pytest.mark.case(7)
def test_another_tasks_name_on_our_upload_is_ignored(hook: Any, issued: Upload, world: Any) -> None:
    other, _ = tasks.create_task(world.context, "four")
    hook(event(issued, MetaData={"label": issued.label, "task_id": str(other.id)}))
    assert world.upload(issued.id).state == UploadState.OPEN


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b'"x"', b"[" * 100_000, b"\xff\xfe", b'{"Event": 3}', b'{"Type": {}, "Event": {}}'],
)
def test_nonsense_is_ignored_since_a_retry_would_not_help(hook: Any, body: bytes) -> None:
    response = hook(body)
    assert (response.status_code, response.json()) == (200, {})


def test_a_hook_that_comes_before_the_bytes_is_only_a_hint(hook: Any, world: Any) -> None:
    _, tickets = tasks.create_task(world.context, "four")
    assert hook(event(world.upload(tickets[0].id))).status_code == 200
    assert world.upload(tickets[0].id).state == UploadState.OPEN


@pytest.mark.case(9)
def test_who_still_sends_for_a_cancelled_task_is_told_to_stop(hook: Any, issued: Upload, world: Any) -> None:
    assert hook(event(issued, "post-receive")).json() == {}
    with world.context.unit_of_work() as work:
        tasks.cancel_task(work, issued.task_id)
        work.commit()
    assert hook(event(issued, "post-receive")).json() == {"StopUpload": True}
    assert hook(event(issued, "post-finish")).json() == {}
    assert world.task(issued.task_id).state is TaskState.KILLED


@pytest.mark.case(9)
def test_who_still_sends_a_replaced_file_is_told_to_stop(hook: Any, issued: Upload, world: Any) -> None:
    uploads.open_upload(world.context, issued.task_id, issued.label)
    assert hook(event(issued, "post-receive")).json() == {"StopUpload": True}


def test_a_store_that_fails_just_now_makes_the_sender_try_again(
    world: Any, issued: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.main import create_app

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(world.context.uploads, "received", broken)
    client = TestClient(create_app(world.context), raise_server_exceptions=False)
    assert client.post("/tusd_hook", params=SECRET, json=event(issued)).status_code == 500


def test_the_documentation_does_not_show_the_hook(client: TestClient) -> None:
    assert "/tusd_hook" not in client.get("/openapi.json").json()["paths"]
