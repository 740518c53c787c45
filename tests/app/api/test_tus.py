"""What /files answers when something behind it fails; the protocol itself is in tests/e2e."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from uuid import UUID

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.api import problems, tus
from app.context import Policy
from app.storage.local import LocalStore
from app.uploads.tus import TusUploads

HEADERS = {
    "Tus-Resumable": "1.0.0",
    "Content-Type": "application/offset+octet-stream",
    "Upload-Offset": "0",
    "Upload-Length": "6",
}


def parts(uploads: Any) -> Any:
    """Return what stands for a Context here."""
    found = SimpleNamespace(uploads=uploads, policy=Policy())
    found.seen_by = lambda _viewer: found
    return found


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "objects", base_url="http://volcal.test", secret=b"s")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The uploads whose end the tasks were told of."""
    told: list[str] = []
    monkeypatch.setattr(tus, "finished", lambda _context, upload_id: told.append(upload_id))
    return told


@pytest.fixture
def client(store: LocalStore, tmp_path: Path, told: list[str]) -> Iterator[TestClient]:
    uploads = TusUploads(tmp_path / "uploads", store, base_url="http://volcal.test", max_bytes=1000)
    uploads.open("an-id", key="tasks/7/in/pre", filename="", task_id=UUID(int=7), label="pre")
    app = FastAPI()
    problems.install(app)
    app.include_router(tus.router)
    app.state.context = parts(uploads)
    with TestClient(app) as client:
        yield client


def test_a_finished_upload_is_told_to_its_task(client: TestClient, told: list[str]) -> None:
    assert client.patch("/files/an-id", content=b"poi", headers=HEADERS).status_code == 204
    assert told == []
    assert client.patch("/files/an-id", content=b"nts", headers={**HEADERS, "Upload-Offset": "3"}).status_code == 204
    assert told == ["an-id"]


def test_looking_at_a_finished_upload_tells_it_again_in_case_it_was_lost(client: TestClient, told: list[str]) -> None:
    client.patch("/files/an-id", content=b"points", headers=HEADERS)
    assert client.head("/files/an-id").status_code == 200
    assert told == ["an-id", "an-id"]


def test_a_client_is_done_even_if_the_task_cannot_be_told_now(
    client: TestClient, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any) -> NoReturn:
        raise RuntimeError("the database is down")

    monkeypatch.setattr(tus, "finished", down)
    assert client.patch("/files/an-id", content=b"points", headers=HEADERS).status_code == 204
    assert store.size("tasks/7/in/pre") == 6


def test_a_full_disk_is_said_and_the_upload_can_go_on_later(
    client: TestClient, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", full)
        answer = client.patch("/files/an-id", content=b"points", headers=HEADERS)
    assert answer.status_code == 507
    assert answer.json()["code"] == "STORAGE"
    assert "/" not in answer.json()["detail"]
    assert client.head("/files/an-id").headers["upload-offset"] == "0"
    assert client.patch("/files/an-id", content=b"points", headers=HEADERS).status_code == 204
    assert store.size("tasks/7/in/pre") == 6


def test_a_deployment_with_another_upload_server_has_none_here(client: TestClient) -> None:
    client.app.state.context = parts(object())  # type: ignore[attr-defined]
    assert client.patch("/files/an-id", content=b"points", headers=HEADERS).status_code == 404
