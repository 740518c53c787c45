"""What the local store does beyond the port: signed links, moving files in, crash leftovers."""

import os
import time
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from app.domain.errors import LinkInvalid
from app.storage.local import LocalStore

KEY = "tasks/7/out/1/hulls/a b.png"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "objects", base_url="http://volcal.test/", secret=b"secret")
    (source := tmp_path / "source").write_bytes(b"pixels")
    store.put(KEY, source)
    return store


def parts(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_a_link_leads_to_its_object(store: LocalStore) -> None:
    before = int(time.time())
    url = store.url(KEY, expires_s=60)
    assert url.startswith("http://volcal.test/objects/")
    assert unquote(urlsplit(url).path) == f"/objects/{KEY}"
    given = parts(url)
    assert 60 <= int(given["expires"]) - before <= 62
    store.verify(KEY, given["expires"], given["sig"], None, now=before)


@pytest.mark.case(28)
def test_a_link_stops_working_when_it_expires(store: LocalStore) -> None:
    given = parts(store.url(KEY, expires_s=60))
    store.verify(KEY, given["expires"], given["sig"], None, now=int(given["expires"]))
    with pytest.raises(LinkInvalid):
        store.verify(KEY, given["expires"], given["sig"], None, now=int(given["expires"]) + 1)


@pytest.mark.case(28)
@pytest.mark.parametrize("change", ["key", "expires", "sig", "name", "script", "words", "huge"])
def test_a_changed_link_is_refused(store: LocalStore, change: str) -> None:
    given = parts(store.url(KEY, expires_s=60, download_name="hull.png"))
    key, name = KEY, given["name"]
    store.verify(key, given["expires"], given["sig"], name, now=0)
    if change == "key":
        key = "tasks/7/out/1/hulls/b.png"
    elif change == "expires":
        given["expires"] = str(int(given["expires"]) + 1)
    elif change == "sig":
        given["sig"] = "0" * 64
    elif change == "script":
        given["sig"] = "é\ud800"
    elif change == "words":
        given["expires"] = "٣"
    elif change == "huge":
        given["expires"] = "9" * 5000
    else:
        name = "hull.html"
    with pytest.raises(LinkInvalid):
        store.verify(key, given["expires"], given["sig"], name, now=0)


def test_a_link_of_another_deployment_is_refused(store: LocalStore, tmp_path: Path) -> None:
    other = LocalStore(tmp_path / "objects", base_url="http://volcal.test", secret=b"another")
    given = parts(store.url(KEY, expires_s=60))
    with pytest.raises(LinkInvalid):
        other.verify(KEY, given["expires"], given["sig"], None, now=0)


def test_links_are_never_signed_with_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty secret"):
        LocalStore(tmp_path, base_url="http://volcal.test", secret=b"")


def test_a_symbolic_link_cannot_lead_out_of_the_store(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    (tmp_path / "objects" / "way").symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match="leaves the store"), store.open("way/secret"):
        pass
    with pytest.raises(ValueError, match="leaves the store"):
        store.delete_prefix("way/")
    assert (tmp_path / "outside" / "secret").exists()


def test_what_is_half_written_cannot_be_asked_for(store: LocalStore) -> None:
    with pytest.raises(ValueError, match="key"):
        store.size(".staging/abc")


def test_a_moved_file_is_the_same_file(store: LocalStore, tmp_path: Path) -> None:
    (source := tmp_path / "upload").write_bytes(b"points")
    inode = source.stat().st_ino
    store.adopt("tasks/7/in/pre", source)
    assert not source.exists()
    assert store.path("tasks/7/in/pre").stat().st_ino == inode


def test_moving_a_file_that_is_not_there_says_so(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.adopt("tasks/7/in/pre", tmp_path / "nothing")
    assert store.size("tasks/7/in/pre") is None


def test_a_file_is_moved_across_file_systems(store: LocalStore) -> None:
    shm = Path("/dev/shm")  # noqa: S108  (most machines have this second file system)
    if not shm.is_dir() or shm.stat().st_dev == store.path(KEY).stat().st_dev:
        pytest.skip("there is no second file system")
    source = shm / f"volcal-test-{os.getpid()}"
    try:
        source.write_bytes(b"points")
        store.adopt("tasks/7/in/pre", source)
        assert not source.exists()
        store.fetch("tasks/7/in/pre", source)
        assert source.read_bytes() == b"points"
    finally:
        source.unlink(missing_ok=True)


def test_fetching_takes_no_space_on_one_file_system(store: LocalStore, tmp_path: Path) -> None:
    store.fetch(KEY, tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_ino == store.path(KEY).stat().st_ino
    assert (tmp_path / "copy").stat().st_mode & 0o222 == 0


def test_a_put_that_fails_leaves_the_old_object_and_no_litter(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.put(KEY, tmp_path / "nothing")
    assert store.size(KEY) == 6
    assert list((tmp_path / "objects" / ".staging").iterdir()) == []


def test_what_an_old_crash_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    staging = tmp_path / "objects" / ".staging"
    (staging / "tree").mkdir(parents=True)
    for name in ("old", "new", "tree/file"):
        (staging / name).write_bytes(b"half")
    two_days_ago = time.time() - 2 * 86_400
    for name in ("old", "tree"):
        os.utime(staging / name, (two_days_ago, two_days_ago))
    LocalStore(tmp_path / "objects", base_url="http://volcal.test", secret=b"s")
    assert [path.name for path in staging.iterdir()] == ["new"]
