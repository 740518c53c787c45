"""What every object store does, whatever keeps the bytes; a new store is one line in STORES."""

import hashlib
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from app.domain.ports import ObjectStore
from app.storage.local import LocalStore

STORES: dict[str, Callable[[pytest.FixtureRequest], ObjectStore]] = {
    "local": lambda request: LocalStore(
        request.getfixturevalue("tmp_path") / "objects", base_url="http://volcal.test", secret=b"s"
    ),
    "s3": lambda request: request.getfixturevalue("s3_store"),
}
KEY = "tasks/00000000-0000-0000-0000-000000000007/in/pre-abc"


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.service)])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    return STORES[request.param](request)


class EnoughError(Exception):
    """What a test raises to end a transfer."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(b"\x00points")
    return path


def test_what_goes_in_comes_out(store: ObjectStore, source: Path, tmp_path: Path) -> None:
    store.put(KEY, source)
    store.fetch(KEY, tmp_path / "copy.bin")
    assert (tmp_path / "copy.bin").read_bytes() == b"\x00points"
    assert store.size(KEY) == 7


def test_a_large_object_comes_out_unchanged(store: ObjectStore, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_017)
    (tmp_path / "large").write_bytes(data)
    store.put(KEY, tmp_path / "large")
    store.fetch(KEY, tmp_path / "copy")
    assert hashlib.sha256((tmp_path / "copy").read_bytes()).digest() == hashlib.sha256(data).digest()


def test_an_empty_object_is_an_object(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    store.put(KEY, tmp_path / "empty")
    assert store.size(KEY) == 0
    with store.open(KEY) as stream:
        assert stream.read() == b""


def test_a_missing_object_says_so(store: ObjectStore, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"before")
    with pytest.raises(FileNotFoundError):
        store.fetch(KEY, target)
    with pytest.raises(FileNotFoundError), store.open(KEY):
        pass
    assert store.size(KEY) is None
    assert target.read_bytes() == b"before"


def test_a_folder_of_objects_is_not_an_object(store: ObjectStore, source: Path) -> None:
    store.put(KEY, source)
    folder = KEY.rpartition("/")[0]
    assert store.size(folder) is None
    assert store.size(f"{KEY}/below") is None
    with pytest.raises(FileNotFoundError), store.open(folder):
        pass


def test_an_object_can_be_read_from_the_middle(store: ObjectStore, source: Path) -> None:
    store.put(KEY, source)
    with store.open(KEY) as stream:
        stream.seek(-3, 2)
        assert stream.read() == b"nts"


def test_putting_again_replaces(store: ObjectStore, source: Path) -> None:
    store.put(KEY, source)
    source.write_bytes(b"longer than before")
    store.put(KEY, source)
    assert store.size(KEY) == 18


def test_changing_the_source_later_does_not_change_the_object(store: ObjectStore, source: Path) -> None:
    store.put(KEY, source)
    with source.open("r+b") as stream:
        stream.write(b"spoiled")
    with store.open(KEY) as stream:
        assert stream.read() == b"\x00points"


def test_fetching_replaces_what_was_at_the_target(store: ObjectStore, source: Path, tmp_path: Path) -> None:
    store.put(KEY, source)
    target = tmp_path / "target"
    target.write_bytes(b"an older and longer file")
    store.fetch(KEY, target)
    assert target.read_bytes() == b"\x00points"


def test_a_fetched_file_outlives_the_object(store: ObjectStore, source: Path, tmp_path: Path) -> None:
    store.put(KEY, source)
    store.fetch(KEY, tmp_path / "copy")
    store.delete_prefix(KEY)
    assert (tmp_path / "copy").read_bytes() == b"\x00points"
    assert store.size(KEY) is None


def test_readers_see_all_of_an_object_or_the_one_before(store: ObjectStore, tmp_path: Path) -> None:
    versions = [bytes([n]) * 200_000 for n in (1, 2)]
    for number, data in enumerate(versions):
        (tmp_path / str(number)).write_bytes(data)
    store.put(KEY, tmp_path / "0")
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            store.put(KEY, tmp_path / str(number % 2))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    while not done.is_set():
        with store.open(KEY) as stream:
            seen.append(stream.read())
    writer.join()
    assert set(seen) <= set(versions)


def test_a_prefix_is_deleted_and_its_neighbours_are_not(store: ObjectStore, source: Path) -> None:
    kept = ["tasks/10/in/pre", "tasks/2/out/hulls.json", "tasks/1x"]
    for key in ["tasks/1/in/pre", "tasks/1/out/0/hulls/1.png", *kept]:
        store.put(key, source)
    store.delete_prefix("tasks/1/")
    assert store.size("tasks/1/in/pre") is None
    assert store.size("tasks/1/out/0/hulls/1.png") is None
    assert [store.size(key) for key in kept] == [7, 7, 7]


def test_a_prefix_need_not_end_at_a_slash(store: ObjectStore, source: Path) -> None:
    for key in ["tasks/1/in/pre-a", "tasks/1/in/pre-b", "tasks/1/in/post-a"]:
        store.put(key, source)
    store.delete_prefix("tasks/1/in/pre-")
    assert store.size("tasks/1/in/pre-a") is None
    assert store.size("tasks/1/in/pre-b") is None
    assert store.size("tasks/1/in/post-a") == 7


def test_deleting_what_is_not_there_is_no_error(store: ObjectStore, source: Path) -> None:
    store.put("tasks/2/in/pre", source)
    store.delete_prefix("tasks/1/")
    store.delete_prefix("no/such/place")
    assert store.size("tasks/2/in/pre") == 7


def test_deleting_everything_at_once_is_refused(store: ObjectStore, source: Path) -> None:
    store.put(KEY, source)
    for prefix in ("", "/"):
        with pytest.raises(ValueError, match="not a key"):
            store.delete_prefix(prefix)
    assert store.size(KEY) == 7


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "../secret",
        "tasks/../../secret",
        "/etc/passwd",
        "tasks//pre",
        "tasks/./pre",
        "tasks/pre/",
        "tasks/\0pre",
        "tasks/\npre",
        "tasks/\ud800",
        "a" * 256,
        "/".join(["a" * 200] * 6),
        "tasks/" + "é" * 128,
    ],
)
def test_a_key_cannot_leave_the_store(store: ObjectStore, source: Path, tmp_path: Path, key: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(ValueError, match="key"):
        store.put(key, source)
    with pytest.raises(ValueError, match="key"):
        store.fetch(key, tmp_path / "stolen")
    with pytest.raises(ValueError, match="key"):
        store.size(key)
    assert not (tmp_path / "stolen").exists()


def test_a_name_in_any_script_is_a_key(store: ObjectStore, source: Path) -> None:
    store.put("tasks/1/out/Zürich 测量 #1?.png", source)
    assert store.size("tasks/1/out/Zürich 测量 #1?.png") == 7


def large(tmp_path: Path, mib: int = 40) -> Path:
    """Write a file that goes in several pieces: of no pattern that a disk or a line could make small."""
    path = tmp_path / "large"
    with path.open("wb") as stream:
        for seed in range(mib):
            stream.write(random.Random(seed).randbytes(1 << 20))
    return path


def test_who_moves_a_file_is_told_how_far_it_is(store: ObjectStore, tmp_path: Path) -> None:
    path = large(tmp_path)
    told: list[int] = []
    threads = set()

    def progress(done: int) -> None:
        told.append(done)
        threads.add(threading.get_ident())

    store.put(KEY, path, progress)
    assert told[0] == 0
    assert told == sorted(told)
    assert told[-1] <= 40 << 20
    told.clear()
    store.fetch(KEY, tmp_path / "copy", progress)
    assert told[0] == 0
    assert told == sorted(told)
    assert threads == {threading.get_ident()}
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("begun", [False, True])
def test_a_put_that_is_ended_leaves_the_old_object(
    store: ObjectStore, source: Path, tmp_path: Path, begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.storage.s3_transfer.LOOK_S", 0.01)
    store.put(KEY, source)

    def progress(done: int) -> None:
        if done or not begun:
            raise EnoughError

    with pytest.raises(EnoughError):
        store.put(KEY, large(tmp_path, mib=100), progress)
    assert store.size(KEY) == 7


@pytest.mark.parametrize("content", [None, b"before"])
def test_a_fetch_that_is_ended_leaves_the_target_as_it_was(
    store: ObjectStore, tmp_path: Path, content: bytes | None
) -> None:
    store.put(KEY, large(tmp_path, mib=64))
    (folder := tmp_path / "folder").mkdir()
    target = folder / "target"
    if content is not None:
        target.write_bytes(content)

    def progress(done: int) -> None:
        raise EnoughError

    with pytest.raises(EnoughError):
        store.fetch(KEY, target, progress)
    assert (target.read_bytes() if target.exists() else None) == content
    assert [path.name for path in folder.iterdir()] == (["target"] if content is not None else [])
    store.fetch(KEY, target)
    assert target.stat().st_size == 64 << 20
