"""The rules of tus over files, without HTTP."""

import asyncio
import errno
import fcntl
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.domain.errors import UploadClosed, UploadNotFound, UploadTooLarge
from app.storage.local import LocalStore
from app.uploads import tus, writer
from app.uploads.errors import HeaderInvalid, OffsetMismatch, UploadGone, UploadStalled, UploadSuperseded
from app.uploads.tus import TusUploads

ID = "an-unguessable_id"
KEY = f"tasks/7/in/pre-{ID}"
DATA = random.Random(3).randbytes(300_007)
MAX = 1_000_000


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "objects", base_url="http://volcal.test", secret=b"s")


@pytest.fixture
def uploads(tmp_path: Path, store: LocalStore) -> TusUploads:
    return reopened(tmp_path, store)


def reopened(tmp_path: Path, store: LocalStore, **kwargs: float) -> TusUploads:
    uploads = TusUploads(tmp_path / "uploads", store, base_url="http://volcal.test/", max_bytes=MAX, **kwargs)
    uploads.open(ID, key=KEY, filename="pre.laz", task_id=UUID(int=7), label="pre")
    return uploads


async def pieces(data: bytes, size: int = 10_000) -> AsyncIterator[list[bytes]]:
    for start in range(0, len(data), size):
        yield [data[start : start + size]]
        await asyncio.sleep(0)


async def stuck(data: bytes) -> AsyncIterator[list[bytes]]:
    """A client that sends a little and then holds the line."""
    yield [data]
    await asyncio.sleep(3600)


def patch(uploads: TusUploads, data: bytes, offset: int, **kwargs: int) -> tus.UploadStatus:
    return asyncio.run(uploads.write(ID, offset=offset, body=pieces(data), **kwargs))


def stored(store: LocalStore) -> bytes:
    with store.open(KEY) as stream:
        return stream.read()


def test_an_upload_opens_at_zero_with_its_length_unknown(uploads: TusUploads) -> None:
    status = uploads.status(ID)
    assert (status.offset, status.length, status.is_finished) == (0, None, False)
    assert uploads.url(ID) == f"http://volcal.test/files/{ID}"
    assert status.metadata.split(",")[2] == "label cHJl"


def test_progress_is_known_until_the_upload_is_gone(uploads: TusUploads) -> None:
    patch(uploads, DATA[:50], 0, length=len(DATA))
    assert uploads.offset(ID) == 50
    patch(uploads, DATA[50:], 50)
    assert uploads.offset(ID) == len(DATA)
    uploads.discard(ID)
    assert uploads.offset(ID) is None
    assert uploads.offset("unknown") is None


def test_pieces_become_the_file(uploads: TusUploads, store: LocalStore) -> None:
    assert uploads.status(ID, length=len(DATA)).length == len(DATA)
    assert patch(uploads, DATA[:100_000], 0).offset == 100_000
    assert uploads.received(ID, key=KEY) is None
    assert patch(uploads, DATA[100_000:], 100_000).is_finished
    assert stored(store) == DATA
    assert uploads.received(ID, key=KEY) == tus.ReceivedFile(KEY, len(DATA))


@pytest.mark.parametrize("declared_with", ["first piece", "last piece", "every piece", "afterwards"])
def test_the_length_may_be_declared_at_any_time(uploads: TusUploads, store: LocalStore, declared_with: str) -> None:
    say = {"length": len(DATA)}
    always = declared_with == "every piece"
    patch(uploads, DATA[:100_000], 0, **(say if always or declared_with == "first piece" else {}))
    patch(uploads, DATA[100_000:], 100_000, **(say if always or declared_with == "last piece" else {}))
    if declared_with == "afterwards":
        assert uploads.status(ID).length is None
        assert uploads.status(ID, length=len(DATA)).is_finished
    assert stored(store) == DATA


def test_an_empty_piece_after_the_last_is_welcome(uploads: TusUploads, store: LocalStore) -> None:
    patch(uploads, DATA, 0, length=len(DATA))
    status = patch(uploads, b"", len(DATA))
    assert (status.offset, status.is_finished) == (len(DATA), True)
    assert stored(store) == DATA


@pytest.mark.parametrize("how", ["by HEAD", "by PATCH"])
def test_an_empty_file_completes(uploads: TusUploads, store: LocalStore, how: str) -> None:
    status = uploads.status(ID, length=0) if how == "by HEAD" else patch(uploads, b"", 0, length=0)
    assert status.is_finished
    assert stored(store) == b""


def test_a_finished_file_cannot_be_replaced(uploads: TusUploads, store: LocalStore) -> None:
    patch(uploads, DATA, 0, length=len(DATA))
    with pytest.raises(UploadClosed):
        patch(uploads, b"more", len(DATA))
    with pytest.raises(OffsetMismatch):
        patch(uploads, b"again", 0)
    assert stored(store) == DATA


def test_a_request_must_continue_where_the_upload_stands(uploads: TusUploads) -> None:
    patch(uploads, DATA[:50], 0)
    for wrong in (0, 49, 51, 10**18):
        with pytest.raises(OffsetMismatch) as caught:
            patch(uploads, DATA, wrong)
        assert caught.value.extensions() == {"offset": 50}
    assert uploads.status(ID).offset == 50


def test_the_length_cannot_change(uploads: TusUploads) -> None:
    patch(uploads, DATA[:50], 0, length=100)
    assert uploads.status(ID, length=100).length == 100
    with pytest.raises(HeaderInvalid, match="was 100 before and cannot become 99"):
        uploads.status(ID, length=99)
    with pytest.raises(HeaderInvalid):
        patch(uploads, b"x", 50, length=101)
    assert uploads.status(ID).offset == 50


def test_the_length_cannot_be_less_than_what_is_here(uploads: TusUploads) -> None:
    patch(uploads, DATA[:50], 0)
    with pytest.raises(HeaderInvalid, match="50 bytes have arrived already"):
        uploads.status(ID, length=49)
    assert uploads.status(ID).length is None


def test_a_file_over_the_limit_is_refused_when_it_is_announced(uploads: TusUploads) -> None:
    with pytest.raises(UploadTooLarge):
        uploads.status(ID, length=MAX + 1)
    with pytest.raises(UploadTooLarge):
        patch(uploads, b"x", 0, length=MAX + 1)
    with pytest.raises(UploadTooLarge):
        patch(uploads, b"x", 0, body_length=MAX + 1)
    assert uploads.status(ID).offset == 0


def test_of_a_body_that_runs_over_its_length_nothing_is_kept(uploads: TusUploads, store: LocalStore) -> None:
    patch(uploads, DATA[:50_000], 0, length=len(DATA))
    with pytest.raises(UploadTooLarge):
        patch(uploads, DATA[50_000:] + b"x", 50_000)
    assert uploads.status(ID).offset == 50_000
    assert uploads.received(ID, key=KEY) is None
    patch(uploads, DATA[50_000:], 50_000)
    assert stored(store) == DATA


def test_a_file_over_the_limit_is_refused_while_it_streams(uploads: TusUploads, tmp_path: Path) -> None:
    with pytest.raises(UploadTooLarge):
        patch(uploads, bytes(MAX + 1), 0)
    assert uploads.status(ID).offset == 0
    assert sum(path.stat().st_size for path in (tmp_path / "uploads").glob("*.part")) == 0


def test_what_arrived_before_the_line_broke_is_kept(uploads: TusUploads, store: LocalStore) -> None:
    assert patch(uploads, DATA[:123_456], 0, length=len(DATA), body_length=len(DATA)).offset == 123_456
    patch(uploads, DATA[123_456:], 123_456)
    assert stored(store) == DATA


def test_a_line_that_breaks_after_the_last_byte_loses_nothing(uploads: TusUploads, store: LocalStore) -> None:
    async def broken() -> AsyncIterator[list[bytes]]:
        yield [DATA]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        asyncio.run(uploads.write(ID, offset=0, length=len(DATA), body=broken()))
    patch(uploads, DATA[uploads.status(ID).offset :], uploads.status(ID).offset)
    assert stored(store) == DATA


def test_an_unknown_upload_is_not_found(uploads: TusUploads) -> None:
    for unknown in ("unknown", "../../etc/passwd", "a/b", "", "x" * 65, f"{ID}.part"):
        with pytest.raises(UploadNotFound):
            uploads.status(unknown)
        with pytest.raises(UploadNotFound):
            asyncio.run(uploads.write(unknown, offset=0, body=pieces(b"x")))
        uploads.discard(unknown)
    with pytest.raises(ValueError, match="cannot be the id"):
        uploads.open("../x", key=KEY, filename="", task_id=UUID(int=7), label="pre")


def test_opening_again_keeps_what_has_arrived(uploads: TusUploads) -> None:
    patch(uploads, DATA[:50], 0)
    uploads.open(ID, key=KEY, filename="pre.laz", task_id=UUID(int=7), label="pre")
    assert uploads.status(ID).offset == 50


@pytest.mark.parametrize("when", ["before", "halfway", "finished"])
def test_a_discarded_upload_is_gone_with_its_bytes(
    uploads: TusUploads, store: LocalStore, tmp_path: Path, when: str
) -> None:
    if when != "before":
        patch(uploads, DATA if when == "finished" else DATA[:50], 0, length=len(DATA))
    uploads.discard(ID)
    uploads.discard(ID)
    with pytest.raises(UploadGone):
        uploads.status(ID)
    with pytest.raises(UploadGone):
        patch(uploads, b"x", 0)
    assert uploads.received(ID, key=KEY) is None
    assert store.size(KEY) is None
    assert [path.name for path in (tmp_path / "uploads").iterdir()] == [f"{ID}.json"]


def test_an_upload_that_nobody_continues_expires(uploads: TusUploads, store: LocalStore, tmp_path: Path) -> None:
    patch(uploads, DATA[:50], 0, length=100)
    impatient = reopened(tmp_path, store, ttl_s=0.0)
    time.sleep(0.01)
    with pytest.raises(UploadGone):
        impatient.status(ID)
    assert uploads.status(ID).expires_at == pytest.approx(time.time() + 86_400, abs=60)


def test_files_of_uploads_long_past_are_swept(uploads: TusUploads, store: LocalStore, tmp_path: Path) -> None:
    for path in (tmp_path / "uploads").iterdir():
        os.utime(path, (0, 0))
    (tmp_path / "uploads" / "fresh.json").touch()
    TusUploads(tmp_path / "uploads", store, base_url="", max_bytes=MAX)
    assert [path.name for path in (tmp_path / "uploads").iterdir()] == ["fresh.json"]


# The moments at which a process may die, and the next one must carry on.


def test_bytes_that_came_before_a_crash_are_the_offset(uploads: TusUploads, store: LocalStore, tmp_path: Path) -> None:
    uploads.status(ID, length=len(DATA))
    (tmp_path / "uploads" / f"{ID}.part").write_bytes(DATA[:777])  # a write torn by kill -9 is a shorter file
    after = reopened(tmp_path, store)
    assert after.status(ID).offset == 777
    patch(after, DATA[777:], 777)
    assert stored(store) == DATA


@pytest.mark.parametrize("who", ["the janitor", "HEAD", "PATCH"])
def test_a_crash_between_the_last_byte_and_the_move_is_repaired(
    uploads: TusUploads, store: LocalStore, tmp_path: Path, who: str
) -> None:
    uploads.status(ID, length=len(DATA))
    (tmp_path / "uploads" / f"{ID}.part").write_bytes(DATA)
    after = reopened(tmp_path, store)
    if who == "the janitor":
        assert after.received(ID, key=KEY) == tus.ReceivedFile(KEY, len(DATA))
    elif who == "HEAD":
        assert after.status(ID).is_finished
    else:
        assert patch(after, b"", len(DATA)).is_finished
    assert stored(store) == DATA


def test_a_crash_after_the_move_is_repaired(uploads: TusUploads, store: LocalStore, tmp_path: Path) -> None:
    uploads.status(ID, length=len(DATA))
    (tmp_path / "uploads" / f"{ID}.part").write_bytes(DATA)
    store.adopt(KEY, tmp_path / "uploads" / f"{ID}.part")
    after = TusUploads(tmp_path / "uploads", store, base_url="http://volcal.test", max_bytes=MAX)
    assert after.received(ID, key=KEY) == tus.ReceivedFile(KEY, len(DATA))
    assert after.status(ID).offset == len(DATA)
    assert patch(after, b"", len(DATA)).is_finished


# Two requests for one upload.


def together(first: Coroutine[Any, Any, Any], then: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
    async def both() -> list[Any]:
        running = asyncio.create_task(first)
        await asyncio.sleep(0.3)
        return await asyncio.gather(running, then(), return_exceptions=True)

    return asyncio.run(both())


def test_the_newest_request_wins_over_a_stalled_one(uploads: TusUploads, store: LocalStore) -> None:
    stalled = uploads.write(ID, offset=0, length=len(DATA), body=stuck(DATA[:1000]))
    old, new = together(stalled, lambda: uploads.write(ID, offset=1000, body=pieces(DATA[1000:])))
    assert isinstance(old, UploadSuperseded)
    assert new.is_finished
    assert stored(store) == DATA


def test_the_newest_request_wins_over_another_process(uploads: TusUploads, store: LocalStore, tmp_path: Path) -> None:
    other = reopened(tmp_path, store)  # its own descriptors and locks: as good as another process
    stalled = uploads.write(ID, offset=0, length=len(DATA), body=stuck(DATA[:1000]))
    old, new = together(stalled, lambda: other.write(ID, offset=1000, body=pieces(DATA[1000:])))
    assert isinstance(old, UploadSuperseded)
    assert new.is_finished
    assert stored(store) == DATA


def test_of_many_requests_at_once_the_file_comes_out_right(uploads: TusUploads, store: LocalStore) -> None:
    async def client(number: int) -> None:
        shuffle = random.Random(number)
        while True:
            await asyncio.sleep(shuffle.random() * 0.02)
            offset = uploads.status(ID, length=len(DATA)).offset
            if offset == len(DATA):
                return
            cut = offset + shuffle.randrange(1, 40_000)
            try:
                await uploads.write(ID, offset=offset, body=pieces(DATA[offset:cut], 1000))
            except (OffsetMismatch, UploadSuperseded):
                continue

    async def crowd() -> None:
        await asyncio.gather(*(client(number) for number in range(4)))

    asyncio.run(crowd())
    assert stored(store) == DATA


def test_looking_does_not_disturb_an_upload_under_way(uploads: TusUploads, store: LocalStore) -> None:
    async def looking() -> AsyncIterator[list[bytes]]:
        for start in range(0, len(DATA), 50_000):
            assert uploads.received(ID, key=KEY) is None
            assert uploads.status(ID).length == len(DATA)
            yield [DATA[start : start + 50_000]]
            await asyncio.sleep(0.02)

    assert asyncio.run(uploads.write(ID, offset=0, length=len(DATA), body=looking())).is_finished
    assert stored(store) == DATA


def test_discarding_stops_a_request_under_way(uploads: TusUploads, store: LocalStore) -> None:
    async def discard() -> None:
        await asyncio.to_thread(uploads.discard, ID)

    old, _ = together(uploads.write(ID, offset=0, length=100, body=stuck(b"x" * 50)), discard)
    assert isinstance(old, UploadGone)
    assert store.size(KEY) is None


def test_a_silent_client_is_given_up_and_its_bytes_are_kept(store: LocalStore, tmp_path: Path) -> None:
    uploads = reopened(tmp_path, store, idle_s=0.1)
    with pytest.raises(UploadStalled):
        asyncio.run(uploads.write(ID, offset=0, body=stuck(DATA[:1000])))
    assert uploads.status(ID).offset == 1000


def test_a_holder_that_cannot_yield_is_waited_for_only_so_long(
    uploads: TusUploads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_PATIENCE_S", 0.1)
    with (tmp_path / "uploads" / f"{ID}.part").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UploadSuperseded):
            patch(uploads, b"x", 0)
        assert uploads.status(ID).offset == 0


def test_a_full_disk_says_so_and_keeps_what_fits(
    uploads: TusUploads, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 25_000
    write = os.pwritev

    def small_disk(file: int, parts: list[memoryview], offset: int) -> int:
        if offset >= room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, [b"".join(parts)[: room - offset]], offset)

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", small_disk)
        with pytest.raises(OSError, match="No space"):
            patch(uploads, DATA, 0, length=len(DATA))
    assert uploads.status(ID).offset == room
    patch(uploads, DATA[room:], room)
    assert stored(store) == DATA


def test_a_slow_disk_does_not_hold_up_the_loop_or_lose_bytes(
    uploads: TusUploads, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, threads = os.pwritev, set()

    def slow_disk(file: int, parts: list[memoryview], offset: int) -> int:
        threads.add(threading.current_thread().name)
        time.sleep(0.01)
        return write(file, [parts[0][:7_001]], offset)  # and one that writes less than it was given

    monkeypatch.setattr(os, "pwritev", slow_disk)
    assert patch(uploads, DATA, 0, length=len(DATA)).is_finished
    assert stored(store) == DATA
    assert all(name.startswith("tus") for name in threads)
