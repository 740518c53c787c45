"""A store that dies, stands still or comes back: errors are clear, nothing is half done, and it goes on."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.api.problems import install
from app.storage import s3_transfer
from app.storage.errors import StoreUnavailable
from app.storage.s3 import S3Store
from tests.app.storage.conftest import store_on
from tests.servers.base import wait_for
from tests.servers.minio import Minio

pytestmark = pytest.mark.service

KEY = "tasks/7/in/pre-abc"


@pytest.fixture(scope="module")
def mortal() -> Iterator[Minio]:
    """A MinIO that may be killed; each test leaves it running."""
    with Minio() as server:
        yield server


@pytest.fixture
def store(mortal: Minio, tmp_path: Path) -> S3Store:
    store = store_on(mortal)
    (tmp_path / "small").write_bytes(b"before")
    store.put(KEY, tmp_path / "small")
    return store


def huge(tmp_path: Path, mib: int = 1024) -> Path:
    with (path := tmp_path / "huge").open("wb") as stream:
        stream.truncate(mib << 20)
    return path


def once_moving(act: Callable[[], None]) -> Callable[[int], None]:
    acted: list[int] = []

    def progress(done: int) -> None:
        if done and not acted:
            acted.append(done)
            act()

    return progress


@contextmanager
def frozen(server: Minio) -> Iterator[None]:
    """Let the server stand still: on a busy machine its threads stop some time after the signal."""
    assert server.process is not None
    threads = Path(f"/proc/{server.process.pid}/task")

    def all_stopped() -> bool:
        return all(path.read_text().rpartition(")")[2].split()[0] == "T" for path in threads.glob("*/stat"))

    server.freeze()
    try:
        wait_for(all_stopped, "the server to stand still")
        yield
    finally:
        server.thaw()


def no_transfer_is_left() -> bool:
    return not any(thread.name == "s3-transfer" for thread in threading.enumerate())


def test_a_store_that_dies_in_the_middle_of_a_put(mortal: Minio, store: S3Store, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"at the object store 127\.0\.0\.1:") as raised:
        store.put(KEY, huge(tmp_path), once_moving(mortal.kill))
    assert raised.value.passing
    mortal.start()
    assert store.size(KEY) == 6
    store.put(KEY, huge(tmp_path, mib=20))
    assert store.size(KEY) == 20 << 20
    store.delete_prefix(KEY)
    assert store.client.list_multipart_uploads(Bucket=store.bucket, Prefix=KEY).get("Uploads", []) == []


def test_a_store_that_dies_in_the_middle_of_a_fetch(
    mortal: Minio, store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_transfer, "LOOK_S", 0.01)
    store.put(KEY, huge(tmp_path, mib=300))
    (folder := tmp_path / "folder").mkdir()
    (target := folder / "target").write_bytes(b"before")
    with pytest.raises(StoreUnavailable) as raised:
        store.fetch(KEY, target, once_moving(mortal.kill))
    assert raised.value.passing
    assert target.read_bytes() == b"before"
    assert list(folder.iterdir()) == [target]
    mortal.start()
    store.fetch(KEY, target)
    assert target.stat().st_size == 300 << 20


@pytest.mark.parametrize("step", ["put", "fetch"])
def test_a_transfer_can_be_ended_while_the_store_stands_still(
    mortal: Minio, store: S3Store, tmp_path: Path, step: str
) -> None:
    """The server is thawed only afterwards: nobody waited for it."""
    (folder := tmp_path / "folder").mkdir()

    looks = itertools.count()

    def progress(done: int) -> None:
        if next(looks) == 2:
            raise InterruptedError

    path = huge(tmp_path, mib=100) if step == "put" else folder / "target"
    with frozen(mortal), pytest.raises(InterruptedError):
        getattr(store, step)(KEY, path, progress)
    assert list(folder.iterdir()) == []
    wait_for(no_transfer_is_left, "what was given up to end")
    assert store.size(KEY) == 6
    assert store.client.list_multipart_uploads(Bucket=store.bucket, Prefix=KEY).get("Uploads", []) == []


def test_a_store_that_stands_still_for_long_is_given_up(
    mortal: Minio, store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_transfer, "STALL_S", 0.5)
    with frozen(mortal), pytest.raises(StoreUnavailable, match="stood still") as raised:
        store.fetch(KEY, tmp_path / "target")
    assert raised.value.passing
    wait_for(no_transfer_is_left, "what was given up to end")
    assert not (tmp_path / "target").exists()


def test_a_connection_that_went_stale_is_replaced(mortal: Minio, store: S3Store) -> None:
    assert store.size(KEY) == 6
    mortal.kill()
    mortal.start()
    assert store.size(KEY) == 6
    with store.open(KEY) as stream:
        assert stream.read() == b"before"


def test_a_request_is_told_that_the_store_is_away_and_when_to_come_again(mortal: Minio, store: S3Store) -> None:
    app = FastAPI()
    install(app)
    app.get("/api/v1/size")(lambda: store.size(KEY))
    mortal.kill()
    try:
        with TestClient(app, raise_server_exceptions=False) as client:
            answer = client.get("/api/v1/size")
    finally:
        mortal.start()
    assert (answer.status_code, answer.json()["code"]) == (503, "STORE_UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) > 0
    assert "127.0.0.1" not in answer.text
