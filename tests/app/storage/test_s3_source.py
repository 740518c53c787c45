"""Files that are named by s3:// URLs, from a real store."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.domain.errors import UrlRefused
from app.domain.fetching import FetchProblem, Known
from app.storage.s3_client import make_client
from app.storage.s3_source import BucketFiles
from tests.servers.base import free_port
from tests.servers.minio import Minio

pytestmark = pytest.mark.service

CONTENT = bytes(range(256)) * 20_000


@pytest.fixture
def bucket(minio: Minio) -> str:
    return minio.bucket(f"surveys-{uuid4().hex[:8]}")


@pytest.fixture
def client(minio: Minio) -> Iterator[Any]:
    made = make_client(minio.url, minio.access_key, minio.secret_key, minio.region, "path")
    yield made
    made.close()


@pytest.fixture
def files(minio: Minio, client: Any, bucket: str) -> BucketFiles:
    client.put_object(Bucket=bucket, Key="week 14/pre.laz", Body=CONTENT)
    return BucketFiles(client, minio.url, [bucket], max_bytes=len(CONTENT))


class Interrupted(Exception):
    pass


def stop_after(size: int) -> Any:
    def look(known: Known) -> None:
        if known.received >= size:
            raise Interrupted

    return look


def test_a_file_comes_whole_and_goes_on_where_it_was(files: BucketFiles, bucket: str, tmp_path: Path) -> None:
    url, target = files.check(f"s3://{bucket}/week%2014/pre.laz"), tmp_path / "pre"
    target.write_bytes(b"")
    whole = files.fetch(url, target, Known(), lambda _: None)
    assert target.read_bytes() == CONTENT
    assert (whole.received, whole.length) == (len(CONTENT), len(CONTENT))
    target.write_bytes(CONTENT[:1_000_000])
    heard: list[int] = []
    files.fetch(url, target, replace(whole, received=1_000_000), lambda known: heard.append(known.received))
    assert target.read_bytes() == CONTENT
    assert heard[0] == 1_000_000


def test_an_object_that_was_replaced_meanwhile_is_not_mixed_with_the_old_one(
    files: BucketFiles, client: Any, bucket: str, tmp_path: Path
) -> None:
    url, target = f"s3://{bucket}/week%2014/pre.laz", tmp_path / "pre"
    old = files.fetch(url, target, Known(), lambda _: None)
    target.write_bytes(CONTENT[:1_000_000])
    client.put_object(Bucket=bucket, Key="week 14/pre.laz", Body=io.BytesIO(CONTENT[::-1]))
    with pytest.raises(FetchProblem) as caught:
        files.fetch(url, target, old, lambda _: None)
    assert (caught.value.reason, caught.value.passing) == ("changed", True)
    files.fetch(url, target, old, lambda _: None)
    assert target.read_bytes() == CONTENT[::-1]


def test_whoever_looks_may_end_it(files: BucketFiles, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        files.fetch(f"s3://{bucket}/week%2014/pre.laz", tmp_path / "pre", Known(), stop_after(0))


def test_what_cannot_be_fetched_is_told(files: BucketFiles, client: Any, bucket: str, tmp_path: Path) -> None:
    client.put_object(Bucket=bucket, Key="large", Body=CONTENT + b"x")
    for key, reason, code in (("nothing", "status", "FETCH_FAILED"), ("large", "too_large", "UPLOAD_TOO_LARGE")):
        with pytest.raises(FetchProblem) as caught:
            files.fetch(f"s3://{bucket}/{key}", tmp_path / key, Known(), lambda _: None)
        assert (caught.value.reason, caught.value.code, caught.value.passing) == (reason, code, False)


def test_a_bucket_that_is_gone_is_told_and_a_store_that_is_away_is_waited_for(minio: Minio, tmp_path: Path) -> None:
    for url, passing in ((minio.url, False), (f"http://127.0.0.1:{free_port()}", True)):
        client = make_client(url, minio.access_key, minio.secret_key, minio.region, "path", attempts=1)
        with pytest.raises(FetchProblem) as caught:
            BucketFiles(client, url, ["gone"], 9).fetch("s3://gone/a", tmp_path / "a", Known(), lambda _: None)
        assert caught.value.passing is passing
        assert "127.0.0.1" not in str(caught.value)
        client.close()


@pytest.mark.parametrize(
    "url",
    [
        "s3://uploads/tasks/7",
        "s3://{}",
        "s3://{}/",
        "s3://{}/a?versionId=1",
        "s3://{}/%ff",
        "s3://a@{}/b",
        "http://{}/a",
    ],
)
def test_what_is_not_open_is_not_read(files: BucketFiles, bucket: str, url: str) -> None:
    with pytest.raises(UrlRefused):
        files.check(url.format(bucket))
