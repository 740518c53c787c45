"""What the store on S3 does beyond the port: few requests, whole clean-ups, buckets, clear words."""

import errno
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import botocore.auth
import laspy
import numpy as np
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from app.storage.errors import StoreUnavailable
from app.storage.s3 import S3Store
from app.storage.s3_bucket import RULE, _tidy_itself
from app.storage.s3_errors import Place
from app.storage.s3_stream import BLOCK
from pipeline.formats.inspect import inspect
from tests.servers.base import free_port

pytestmark = pytest.mark.service

KEY = "tasks/7/in/pre-abc"
Stores = Callable[..., S3Store]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"points")
    return path


def requests_of(store: S3Store) -> list[str]:
    """Return a list that fills with the methods of the requests that are sent from now on."""
    sent: list[str] = []
    store.client.meta.events.register("before-send.s3", lambda request, **_: sent.append(request.method))
    return sent


def survey(path: Path, points: int) -> Path:
    """Write a cloud of random points, as LAS or LAZ by the name."""
    cloud = laspy.create(point_format=6, file_version="1.4")
    random = np.random.default_rng(7)
    cloud.x, cloud.y, cloud.z = random.uniform(0, 100, (3, points))
    cloud.write(str(path))
    return path


@pytest.mark.parametrize("ending", ["las", "laz"])
def test_looking_into_a_survey_takes_few_requests(s3_store: S3Store, tmp_path: Path, ending: str) -> None:
    path = survey(tmp_path / f"survey.{ending}", points=200_000)
    size = path.stat().st_size
    assert size > 4 * BLOCK
    s3_store.put(KEY, path)
    sent = requests_of(s3_store)
    with s3_store.open(KEY) as stream:
        inspect("pre", stream, size, path.name)
    assert set(sent) == {"GET"}
    assert len(sent) <= 3  # the head, and what lies at the end


def test_the_rest_of_an_object_is_read_with_few_requests(s3_store: S3Store, tmp_path: Path) -> None:
    data = bytes(range(256)) * (20 << 12)
    (path := tmp_path / "large").write_bytes(data)
    s3_store.put(KEY, path)
    sent = requests_of(s3_store)
    with s3_store.open(KEY) as stream:
        assert stream.read(3) == data[:3]
        assert stream.read() == data[3:]
    assert len(sent) == 1 + 3  # 20 MiB, 8 with each request


def test_small_reads_all_over_an_object_are_right(s3_store: S3Store, tmp_path: Path) -> None:
    data = np.random.default_rng(3).bytes(3 * BLOCK + 17)
    (path := tmp_path / "data").write_bytes(data)
    s3_store.put(KEY, path)
    with s3_store.open(KEY) as stream:
        for at in (0, 5, BLOCK - 2, 3 * BLOCK, 2 * BLOCK - 1, len(data) - 1, len(data), len(data) + 9, 1):
            for count in (1, 4, BLOCK, 2 * BLOCK + 1):
                assert stream.seek(at) == at
                assert stream.read(count) == data[at : at + count]
        stream.seek(-4, 2)
        stream.seek(1, 1)
        assert (stream.read(), stream.tell()) == (data[-3:], len(data))
        with pytest.raises(ValueError, match="before the beginning"):
            stream.seek(-len(data) - 1, 2)


def test_an_object_that_is_replaced_while_it_is_read_is_never_mixed(s3_store: S3Store, tmp_path: Path) -> None:
    (path := tmp_path / "data").write_bytes(b"1" * 4 * BLOCK)
    s3_store.put(KEY, path)
    with s3_store.open(KEY) as stream:
        assert stream.read(4) == b"1111"
        path.write_bytes(b"2" * 4 * BLOCK)
        s3_store.put(KEY, path)
        with pytest.raises(StoreUnavailable, match="replaced while it was read"):
            stream.read()


def test_files_have_the_type_that_their_names_say(s3_store: S3Store, source: Path) -> None:
    for name, kind in [("hull.PNG", "image/png"), ("hulls.geojson", "application/geo+json"), ("x", "")]:
        s3_store.put(f"tasks/7/out/1/{name}", source)
        found = s3_store.client.head_object(Bucket=s3_store.bucket, Key=f"tasks/7/out/1/{name}")
        assert found["ContentType"] == (kind or "application/octet-stream")


def test_a_file_can_be_moved_into_the_store(s3_store: S3Store, source: Path) -> None:
    s3_store.adopt(KEY, source)
    assert not source.exists()
    assert s3_store.size(KEY) == 6
    with pytest.raises(FileNotFoundError):
        s3_store.adopt(KEY, source)
    s3_store.delete(KEY)
    s3_store.delete(KEY)
    assert s3_store.size(KEY) is None


def test_many_objects_are_deleted_with_few_requests(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.storage.s3._BATCH", 20)
    names = [f"tasks/7/out/1/{number:04}" for number in range(25)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3_store.client.put_object(Bucket=s3_store.bucket, Key=key, Body=b""), names))
    sent = requests_of(s3_store)
    s3_store.delete_prefix("tasks/7/")
    assert s3_store.client.list_objects_v2(Bucket=s3_store.bucket).get("KeyCount") == 0
    assert sent.count("POST") == 2


def unfinished(store: S3Store, key: str) -> list[str]:
    found = store.client.list_multipart_uploads(Bucket=store.bucket, Prefix=key)
    return [upload["Key"] for upload in found.get("Uploads", [])]


@pytest.mark.parametrize("prefix", [KEY, "tasks/7/"])
def test_what_is_being_uploaded_is_deleted_too(s3_store: S3Store, prefix: str) -> None:
    for key in (KEY, "tasks/70/in/pre"):
        upload = s3_store.client.create_multipart_upload(Bucket=s3_store.bucket, Key=key)["UploadId"]
        s3_store.client.upload_part(
            Bucket=s3_store.bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"half a survey"
        )
    s3_store.delete_prefix(prefix)
    assert unfinished(s3_store, KEY) == []
    assert unfinished(s3_store, "tasks/70/in/pre") == ["tasks/70/in/pre"]


def test_a_put_that_is_ended_leaves_no_parts(s3_store: S3Store, tmp_path: Path) -> None:
    with (path := tmp_path / "huge").open("wb") as stream:
        stream.truncate(1 << 30)

    def progress(done: int) -> None:
        if done > 20 << 20:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        s3_store.put(KEY, path, progress)
    assert unfinished(s3_store, KEY) == []
    assert s3_store.size(KEY) is None


def test_a_bucket_can_be_made_by_many_at_once_and_again(s3_stores: Stores, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stores = [s3_stores(prepared=False, bucket=f"test-{uuid4().hex}")]
    stores += [s3_stores(prepared=False, bucket=stores[0].bucket) for _ in range(5)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda store: store.prepare(), stores))
    stores[0].prepare()
    stores[0].check()
    assert "unfinished uploads" in caplog.text  # MinIO has its own way with them


def test_a_bucket_is_made_in_its_region(s3_stores: Stores) -> None:
    store = s3_stores(region="eu-central-1")
    store.check()


def test_a_bucket_that_everybody_may_read_is_warned_of(s3_store: S3Store, caplog: pytest.LogCaptureFixture) -> None:
    s3_store.prepare()
    assert "everybody" not in caplog.text
    policy = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["*"]},'
        f'"Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::{s3_store.bucket}","arn:aws:s3:::{s3_store.bucket}/*"]}}]}}'
    )
    s3_store.client.put_bucket_policy(Bucket=s3_store.bucket, Policy=policy)
    s3_store.prepare()
    assert "lets everybody in" in caplog.text


def test_the_owners_own_rules_of_a_bucket_are_kept(s3_store: S3Store) -> None:
    """The exchange with AWS, played back: no server here knows the rule."""
    own = {"ID": "own", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 9}}
    ours = {
        "ID": RULE,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
    }
    with Stubber(s3_store.client) as aws:
        aws.add_response("get_bucket_lifecycle_configuration", {"Rules": [own]}, {"Bucket": "b"})
        aws.add_response(
            "put_bucket_lifecycle_configuration",
            {},
            {
                "Bucket": "b",
                "LifecycleConfiguration": {"Rules": [own, ours]},
            },
        )
        aws.add_response("get_bucket_lifecycle_configuration", {"Rules": [own, ours]}, {"Bucket": "b"})
        _tidy_itself(s3_store.client, "b", 7)
        _tidy_itself(s3_store.client, "b", 7)
        aws.assert_no_pending_responses()


def every_operation(store: S3Store, source: Path) -> list[Callable[[], Any]]:
    return [
        lambda: store.put(KEY, source),
        lambda: store.fetch(KEY, source.with_name("target")),
        lambda: store.open(KEY).__enter__(),
        lambda: store.size(KEY),
        lambda: store.delete(KEY),
        lambda: store.delete_prefix("tasks/7/"),
        store.check,
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bucket": "no-such-bucket"}, "NoSuchBucket .*volcal setup"),
        ({"access_key": "nobody"}, "InvalidAccessKeyId .*VOLCAL_S3_ACCESS_KEY"),
        ({"secret_key": "hush-wrong"}, "SignatureDoesNotMatch .*VOLCAL_S3_SECRET_KEY"),
        ({"endpoint": "http://user:hush@127.0.0.1:{port}"}, "at the object store 127.0.0.1:.* nothing answers"),
    ],
)
def test_a_store_that_cannot_be_used_says_why(
    s3_stores: Stores, source: Path, changes: dict[str, str], said: str
) -> None:
    changes = {name: value.format(port=free_port()) for name, value in changes.items()}
    store = s3_stores(prepared=False, **changes)
    for operation in every_operation(store, source):
        with pytest.raises(StoreUnavailable, match=said) as raised:
            operation()
        assert raised.value.code == "STORE_UNAVAILABLE"
        assert raised.value.passing == ("endpoint" in changes)
        assert "hush" not in str(raised.value)
        assert "\n" not in str(raised.value)
    assert not source.with_name("target").exists()


@pytest.mark.parametrize("changes", [{"access_key": "nobody"}, {"secret_key": "wrong"}])
def test_setting_up_with_wrong_keys_says_so(s3_stores: Stores, changes: dict[str, str]) -> None:
    with pytest.raises(StoreUnavailable, match=r"InvalidAccessKeyId|SignatureDoesNotMatch"):
        s3_stores(prepared=False, **changes).prepare()


def test_a_clock_that_is_wrong_is_named(s3_store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    right = botocore.auth.get_current_datetime
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: right() + timedelta(hours=1))
    with pytest.raises(StoreUnavailable, match=r"RequestTimeTooSkewed .*clock"):
        s3_store.check()
    with pytest.raises(StoreUnavailable, match=r"RequestTimeTooSkewed .*clock"):
        s3_store.size(KEY)


def test_a_store_that_is_full_is_a_full_disk() -> None:
    full = ClientError(
        {"Error": {"Code": "XMinioStorageFull", "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": 507}},
        "PutObject",
    )
    failure = Place.of("b", "http://minio:9000").error(full, "PutObject")
    assert failure.errno == errno.ENOSPC
    assert isinstance(failure, StoreUnavailable)
    assert not failure.passing
