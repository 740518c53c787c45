"""Links into the bucket: they work with nothing but a GET, for as long as they say, from where clients are."""

import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from app.storage.s3 import S3Store
from tests.servers.base import wait_for
from tests.servers.minio import Minio

pytestmark = pytest.mark.service

KEY = "tasks/7/out/1/hulls/Zürich 测量 #1?+&.png"


@pytest.fixture
def filled(s3_store: S3Store, tmp_path: Path) -> S3Store:
    fill(s3_store, tmp_path)
    return s3_store


def fill(store: S3Store, tmp_path: Path) -> None:
    (source := tmp_path / "source").write_bytes(b"pixels")
    for key in (KEY, "tasks/7/out/1/report.html"):
        store.put(key, source)


def get(url: str, method: str = "GET", **headers: str) -> HTTPResponse:
    answer = urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=10)
    assert isinstance(answer, HTTPResponse)
    return answer


def refusal(url: str, method: str = "GET", **headers: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as raised:
        get(url, method, **headers)
    with raised.value as answer:
        return answer.code


def test_a_link_needs_no_headers_and_shows_pictures(filled: S3Store) -> None:
    with get(filled.url(KEY, expires_s=60)) as answer:
        assert answer.read() == b"pixels"
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Content-Disposition"].startswith("inline;")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_part_of_a_file_can_be_asked_for(filled: S3Store) -> None:
    with get(filled.url(KEY, expires_s=60), Range="bytes=1-2") as answer:
        assert (answer.status, answer.read()) == (206, b"ix")


def test_a_download_that_stopped_goes_on_where_it_was(filled: S3Store) -> None:
    url = filled.url(KEY, expires_s=60)
    with get(url) as whole:
        tag = whole.headers["ETag"]
        assert whole.headers["Accept-Ranges"] == "bytes"
        assert whole.headers["Content-Length"] == "6"
    for name in ("If-Range", "If-Match"):
        with get(url, Range="bytes=2-", **{name: tag}) as rest:
            assert (rest.status, rest.read()) == (206, b"xels")
            assert rest.headers["Content-Range"] == "bytes 2-5/6"
    assert refusal(url, Range="bytes=2-", **{"If-Match": '"another"'}) == 412  # MinIO does not look at If-Range
    with get(url, Range="bytes=-3") as end:
        assert end.read() == b"els"
    assert refusal(url, Range="bytes=6-") == 416
    assert refusal(url, **{"If-None-Match": tag}) == 304


def test_links_are_for_get_alone_which_is_why_the_gateway_answers_head_by_itself(filled: S3Store) -> None:
    assert refusal(filled.url(KEY, expires_s=60), "HEAD") == 403


@pytest.mark.parametrize("name", ["Höhe 测量.png", 'a"b\\c%d;e\r\nX-Evil: 1.png', "plain.png"])
def test_a_file_can_be_saved_under_any_name(filled: S3Store, name: str) -> None:
    with get(filled.url(KEY, expires_s=60, download_name=name)) as answer:
        said = answer.headers["Content-Disposition"]
        assert said.startswith("attachment;")
        assert answer.headers["X-Evil"] is None
        assert (f"filename*=UTF-8''{quote(name, safe='')}" in said) or f'filename="{name}"' in said


def test_a_report_is_saved_and_not_run_by_the_browser(filled: S3Store) -> None:
    key = "tasks/7/out/1/report.html"
    with get(filled.url(key, expires_s=60)) as answer:
        assert answer.headers["Content-Disposition"] == 'attachment; filename="report.html"'
    with get(filled.url(key, expires_s=60, download_name="report.txt")) as answer:
        assert answer.headers["Content-Type"] == "text/plain"


def test_a_page_that_was_uploaded_is_not_shown_as_one(filled: S3Store) -> None:
    filled.client.put_object(Bucket=filled.bucket, Key="tasks/7/in/pre-a", Body=b"<script>", ContentType="text/html")
    with get(filled.url("tasks/7/in/pre-a", expires_s=60)) as answer:
        assert answer.headers["Content-Type"] == "application/octet-stream"


@pytest.mark.case(28)
def test_a_link_stops_working_when_it_expires(filled: S3Store) -> None:
    url = filled.url(KEY, expires_s=2)
    get(url).close()

    def is_refused() -> bool:
        try:
            get(url).close()
        except urllib.error.HTTPError as error:
            with error:
                return error.code == 403
        return False

    wait_for(is_refused, "the link to expire")


def test_a_link_never_lives_longer_than_s3_allows(filled: S3Store) -> None:
    url = filled.url(KEY, expires_s=90 * 86_400)
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["604800"]
    get(url).close()


@pytest.mark.case(28)
@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.replace("hulls/", "other/"),
        lambda url: url.replace("X-Amz-Expires=60", "X-Amz-Expires=600"),
        lambda url: url[:-1] + ("0" if url[-1] != "0" else "1"),
        lambda url: url.replace("inline", "attachment"),
        lambda url: url.replace("127.0.0.1", "localhost"),
        lambda url: url.partition("?")[0],
    ],
    ids=["key", "expiry", "signature", "disposition", "host", "nothing signed"],
)
def test_a_changed_link_is_refused(filled: S3Store, change: Callable[[str], str]) -> None:
    url = filled.url(KEY, expires_s=60)
    assert change(url) != url
    assert refusal(change(url)) == 403


@pytest.mark.case(28)
def test_a_link_is_for_get_only(filled: S3Store) -> None:
    """S3 signs the method too: a HEAD on a link is refused by every such service."""
    url = filled.url(KEY, expires_s=60)
    assert [refusal(url, method) for method in ("HEAD", "PUT", "DELETE")] == [403, 403, 403]


def test_links_lead_to_the_public_address(minio: Minio, s3_stores: Callable[..., S3Store], tmp_path: Path) -> None:
    store = s3_stores(public_endpoint=f"http://localhost:{minio.port}")
    fill(store, tmp_path)
    url = store.url(KEY, expires_s=60)
    assert urlsplit(url).netloc == f"localhost:{minio.port}"
    with get(url) as answer:
        assert answer.read() == b"pixels"


@pytest.mark.parametrize(
    ("changes", "host", "path"),
    [
        ({"addressing_style": "path"}, "files.example.org", "/test-bucket/tasks/7/pre"),
        ({"addressing_style": "virtual"}, "test-bucket.files.example.org", "/tasks/7/pre"),
    ],
)
def test_links_name_the_bucket_where_it_is_asked_for(changes: dict[str, Any], host: str, path: str) -> None:
    store = S3Store(
        bucket="test-bucket",
        endpoint="http://minio:9000",
        public_endpoint="https://files.example.org",
        access_key="key",
        secret_key="hush",
        region="eu-central-1",
        **changes,
    )
    url = urlsplit(store.url("tasks/7/pre", expires_s=60))
    assert (url.scheme, url.netloc, url.path) == ("https", host, path)
    query = parse_qs(url.query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-SignedHeaders"] == ["host"]
    assert "/eu-central-1/s3/aws4_request" in query["X-Amz-Credential"][0]
    assert "hush" not in url.query
