"""Files behind signed links, through the front door."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.api import objects, problems
from app.storage.local import LocalStore

DATA = bytes(range(256)) * 2000


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "objects", base_url="http://volcal.test", secret=b"secret")
    (source := tmp_path / "source").write_bytes(DATA)
    for name in ("hulls/1.png", "report.html", "hulls.geojson", "results.json", "points.laz", "difference.tif", "x y"):
        store.put(f"tasks/7/out/1/{name}", source)
    return store


@pytest.fixture
def client(store: LocalStore) -> Iterator[TestClient]:
    app = FastAPI()
    problems.install(app)
    app.include_router(objects.router)
    app.state.context = SimpleNamespace(store=store)
    with TestClient(app) as client:
        yield client


def link(store: LocalStore, name: str = "hulls/1.png", download_name: str | None = None, expires_s: int = 60) -> str:
    parts = urlsplit(store.url(f"tasks/7/out/1/{name}", expires_s=expires_s, download_name=download_name))
    return f"{parts.path}?{parts.query}"


def test_a_link_works_without_any_headers(client: TestClient, store: LocalStore) -> None:
    answer = client.get(link(store))
    assert answer.status_code == 200
    assert answer.content == DATA
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["content-disposition"].startswith("inline")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["accept-ranges"] == "bytes"
    assert "private" in answer.headers["cache-control"]


def test_asking_for_the_headers_only_sends_no_body(client: TestClient, store: LocalStore) -> None:
    answer = client.head(link(store))
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-length"] == str(len(DATA))


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-9", 0, 10), ("bytes=500000-", 500_000, 512_000), ("bytes=-5", 511_995, 512_000)],
)
def test_a_part_can_be_asked_for(client: TestClient, store: LocalStore, asked: str, start: int, stop: int) -> None:
    answer = client.get(link(store), headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.content == DATA[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/512000"


def test_a_part_beyond_the_end_is_refused(client: TestClient, store: LocalStore) -> None:
    assert client.get(link(store), headers={"Range": "bytes=512000-"}).status_code == 416


def test_a_part_of_a_file_that_changed_meanwhile_is_the_whole_file(client: TestClient, store: LocalStore) -> None:
    answer = client.get(link(store), headers={"Range": "bytes=5-", "If-Range": '"another"'})
    assert (answer.status_code, answer.content) == (200, DATA)


def test_what_the_client_has_already_is_not_sent_again(client: TestClient, store: LocalStore) -> None:
    first = client.get(link(store))
    again = client.get(link(store), headers={"If-None-Match": f'"x", {first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("report.html", "text/html; charset=utf-8"),
        ("hulls.geojson", "application/geo+json"),
        ("results.json", "application/json"),
        ("points.laz", "application/vnd.laszip"),
        ("difference.tif", "image/tiff; application=geotiff"),
        ("x y", "application/octet-stream"),
    ],
)
def test_each_file_says_what_it_is(client: TestClient, store: LocalStore, name: str, media_type: str) -> None:
    answer = client.get(link(store, name))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type


def test_a_report_can_do_nothing_on_this_site(client: TestClient, store: LocalStore) -> None:
    policy = client.get(link(store, "report.html")).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.startswith("sandbox")
    assert "allow-same-origin" not in policy


def test_a_file_is_saved_under_the_name_in_the_link(client: TestClient, store: LocalStore) -> None:
    answer = client.get(link(store, download_name='Zürich "1".png'))
    assert answer.headers["content-disposition"] == "attachment; filename*=utf-8''Z%C3%BCrich%20%221%22.png"
    assert "evil" not in client.get(link(store, download_name="a.png") + "&name=evil").headers.get(
        "content-disposition", ""
    )


@pytest.mark.case(28)
@pytest.mark.parametrize("change", ["nothing signed", "no signature", "another file", "another name", "expired"])
def test_a_link_that_was_not_made_here_is_refused(client: TestClient, store: LocalStore, change: str) -> None:
    good = link(store, expires_s=-1 if change == "expired" else 60)
    bad = {
        "nothing signed": good.partition("?")[0],
        "no signature": good.partition("&sig")[0],
        "another file": good.replace("1.png", "2.png"),
        "another name": good + "&name=hull.html",
        "expired": good,
    }[change]
    answer = client.get(bad)
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "LINK_INVALID"


@pytest.mark.case(28)
@pytest.mark.parametrize("path", ["../secret", "%2e%2e/secret", "..%2fsecret", "%00", "a" * 3000])
def test_a_path_out_of_the_store_is_refused(client: TestClient, path: str) -> None:
    answer = client.get(f"/objects/{path}?expires={int(time.time()) + 60}&sig={'0' * 64}")
    assert answer.status_code in {403, 404}


def test_a_good_link_to_a_deleted_file_says_so(client: TestClient, store: LocalStore) -> None:
    good = link(store)
    store.delete_prefix("tasks/7/")
    answer = client.get(good)
    assert answer.status_code == 404
    assert answer.json()["code"] == "OBJECT_NOT_FOUND"


def test_a_store_that_serves_its_own_files_has_none_here(client: TestClient, store: LocalStore) -> None:
    client.app.state.context = SimpleNamespace(store=object())  # type: ignore[attr-defined]
    assert client.get(link(store)).status_code == 404
