"""Is what docker/s3-policy.json allows enough for all that the service does in a bucket, and no more?"""

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import httpx
import pytest

from app.domain.keys import input_key
from app.storage import s3_client
from app.storage.errors import StoreUnavailable
from app.storage.s3 import S3Store
from app.uploads.tusd import TusdUploads
from tests.servers.minio import Minio

pytestmark = pytest.mark.service

POLICY = json.loads((Path(__file__).parents[2] / "docker" / "s3-policy.json").read_text())
KEY = input_key(uuid4(), "pre", "a")


@pytest.fixture
def limited(minio: Minio, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Store]:
    """A store whose user may do what the policy says, on a bucket that somebody else made."""
    bucket = minio.bucket(f"policy-{uuid4().hex}")
    policy = json.dumps(POLICY).replace(":::uploads", f":::{bucket}")
    sts = boto3.client(
        "sts",
        endpoint_url=minio.url,
        aws_access_key_id=minio.access_key,
        aws_secret_access_key=minio.secret_key,
        region_name=minio.region,
    )
    role = {"RoleArn": "arn:aws:iam::123456789012:role/volcal", "RoleSessionName": "volcal", "Policy": policy}
    given = sts.assume_role(**role)["Credentials"]
    sts.close()
    # Without keys boto3 takes these, as on a machine of AWS that has a role.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", given["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", given["SecretAccessKey"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", given["SessionToken"])
    s3_client._session.cache_clear()  # which looks for keys once
    store = S3Store(bucket=bucket, endpoint=minio.url, public_endpoint=None, access_key="", secret_key="")
    yield store
    store.client.close()
    s3_client._session.cache_clear()


def test_files_of_any_size_go_in_and_out_and_away(limited: S3Store, tmp_path: Path) -> None:
    limited.prepare()
    limited.check()
    for size in (5, 17 << 20):  # the second in parts
        (source := tmp_path / "source").write_bytes(random.Random(size).randbytes(size))
        limited.put(KEY, source)
        limited.fetch(KEY, tmp_path / "copy")
        assert hashlib.sha256((tmp_path / "copy").read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()
    with limited.open(KEY) as stream:
        stream.seek(-5, 2)
        assert len(stream.read()) == 5
    assert limited.size(f"{KEY}x") is None
    assert len(httpx.get(limited.url(KEY, expires_s=60), trust_env=False).content) == 17 << 20
    assert [found.key for found in limited.listed("tasks/")] == [KEY]
    limited.delete_prefix(KEY)
    assert list(limited.listed("tasks/")) == []


def test_uploads_in_parts_are_looked_at_completed_and_ended(limited: S3Store) -> None:
    s3, where = limited.client, {"Bucket": limited.bucket, "Key": KEY}
    first, second = (s3.create_multipart_upload(**where)["UploadId"] for _ in range(2))
    uploads = TusdUploads(
        "http://127.0.0.1:9/files", "http://127.0.0.1:9/files", client=s3, bucket=limited.bucket, secret="s", idle_s=0
    )
    # as tusd leaves it when it dies before the very last request
    s3.upload_part(**where, UploadId=first, PartNumber=1, Body=b"x" * (5 << 20))
    s3.put_object(Bucket=limited.bucket, Key=f"{KEY}.part", Body=b"rest")
    info = {"Size": (5 << 20) + 4, "SizeIsDeferred": False}
    s3.put_object(Bucket=limited.bucket, Key=f"{KEY}.info", Body=json.dumps(info).encode())
    assert uploads.offset(f"{KEY}+{first}") == (5 << 20) + 4
    received = uploads.received(f"{KEY}+{first}", key=KEY)
    assert received is not None
    assert received.size == (5 << 20) + 4
    [left] = limited.unfinished(KEY)
    assert left.unfinished == second
    limited.remove(left)
    uploads.discard(f"{KEY}+{first}")
    assert list(limited.listed("tasks/")) == []
    assert list(limited.unfinished(KEY)) == []


def test_other_buckets_and_the_bucket_itself_are_out_of_reach(limited: S3Store, minio: Minio) -> None:
    other = minio.bucket(f"other-{uuid4().hex}")
    stranger = S3Store(bucket=other, endpoint=minio.url, public_endpoint=None, access_key="", secret_key="")
    with pytest.raises(StoreUnavailable, match="may not do that"):
        stranger.check()
    absent = S3Store(bucket=uuid4().hex, endpoint=minio.url, public_endpoint=None, access_key="", secret_key="")
    with pytest.raises(StoreUnavailable):
        absent.prepare()
    with pytest.raises(limited.client.exceptions.ClientError, match="AccessDenied"):
        limited.client.delete_bucket(Bucket=limited.bucket)
