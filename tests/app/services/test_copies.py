"""Every object comes out of a store and into another one, and nothing is copied twice."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from app.domain.ports import ObjectStore
from app.services import copies
from app.services.copies import Copied
from app.storage.local import LocalStore
from tests.app.storage.conftest import store_on

KEYS = ["tasks/1/in/pre-a", "tasks/1/out/1/hulls/Zürich #1?.png", "tasks/2/in/pre-b.info"]


def local(folder: Path) -> LocalStore:
    return LocalStore(folder, base_url="http://volcal.test", secret=b"s")


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.service)])
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], ObjectStore]:
    if request.param == "local":
        return lambda name: local(tmp_path / name)
    minio = request.getfixturevalue("minio")
    return lambda _name: store_on(minio)


def fill(store: ObjectStore, folder: Path) -> None:
    for number, key in enumerate(KEYS):
        (folder / "source").write_bytes(key.encode() * (number + 1))
        store.put(key, folder / "source")


def test_what_was_saved_comes_back_into_an_empty_store(new_store: Callable[[str], ObjectStore], tmp_path: Path) -> None:
    store, other, folder = new_store("one"), new_store("other"), tmp_path / "saved"
    fill(store, tmp_path)
    size = sum(len(key.encode()) * (number + 1) for number, key in enumerate(KEYS))
    assert copies.save(store, folder) == Copied(objects=3, size=size)
    assert copies.load(other, folder) == Copied(objects=3, size=size)
    for number, key in enumerate(KEYS):
        with other.open(key) as stream:
            assert stream.read() == key.encode() * (number + 1)
    assert {found.key for found in other.listed("")} == set(KEYS)


def test_only_what_is_new_is_copied(new_store: Callable[[str], ObjectStore], tmp_path: Path) -> None:
    store, folder = new_store("one"), tmp_path / "saved"
    fill(store, tmp_path)
    copies.save(store, folder)
    assert copies.save(store, folder) == Copied(there=3)
    assert copies.load(store, folder) == Copied(there=3)
    (tmp_path / "source").write_bytes(b"12345")
    store.put("tasks/3/in/pre-c", tmp_path / "source")
    assert copies.save(store, folder) == Copied(objects=1, size=5, there=3)


def test_what_the_store_has_no_more_stays_saved_unless_a_mirror_is_wanted(
    new_store: Callable[[str], ObjectStore], tmp_path: Path
) -> None:
    store, folder = new_store("one"), tmp_path / "saved"
    fill(store, tmp_path)
    copies.save(store, folder)
    store.delete_prefix("tasks/1/")
    assert copies.save(store, folder) == Copied(there=1)
    assert (folder / KEYS[0]).is_file()
    assert copies.save(store, folder, mirror=True) == Copied(there=1, dropped=2)
    assert not (folder / KEYS[0]).exists()
    assert (folder / KEYS[2]).is_file()


def test_an_object_that_was_replaced_by_one_as_long_is_saved_again(
    new_store: Callable[[str], ObjectStore], tmp_path: Path
) -> None:
    """So are tusd's notes of uploads under way."""
    store, folder = new_store("one"), tmp_path / "saved"
    fill(store, tmp_path)
    copies.save(store, folder)
    saved = folder / KEYS[2]
    saved.unlink()
    saved.write_bytes(b"x" * store.size(KEYS[2]))  # type: ignore[operator]
    os.utime(saved, (1e9, 1e9))
    assert copies.save(store, folder).objects == 1
    assert saved.read_bytes() == KEYS[2].encode() * 3


@pytest.mark.service
def test_a_name_that_leaves_the_folder_is_not_saved(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    store = store_on(request.getfixturevalue("minio"))
    store.client.put_object(Bucket=store.bucket, Key="tasks/..x/pre", Body=b"1")
    store.client.put_object(Bucket=store.bucket, Key="tasks/7\x7f/pre", Body=b"2")  # no key in our sense
    store.client.put_object(Bucket=store.bucket, Key="elsewhere/pre", Body=b"3")
    assert copies.save(store, tmp_path / "saved").objects == 1
    assert [path.read_bytes() for path in (tmp_path / "saved").rglob("*") if path.is_file()] == [b"1"]
