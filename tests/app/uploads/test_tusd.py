"""Uploads by tusd, as far as the bucket tells: a real MinIO, in which the tests leave what tusd leaves."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.uploads.errors import UploadsUnavailable
from app.uploads.tusd import GRANT, TusdUploads
from tests.servers.base import free_port
from tests.servers.minio import Minio

pytestmark = pytest.mark.service

MIB = 2**20
TASK = UUID(int=7)


class Left:
    """What tusd has left in the bucket for one upload."""

    def __init__(self, client: Any, bucket: str, *, size: int | None) -> None:
        self.client, self.bucket = client, bucket
        self.key = f"tasks/{TASK}/in/pre-{uuid4().hex}"
        self.multipart = client.create_multipart_upload(Bucket=bucket, Key=self.key)["UploadId"]
        self.handle = f"{self.key}+{self.multipart}"
        self._parts: list[dict[str, Any]] = []
        self.note(size)

    def note(self, size: int | None) -> None:
        info = {"ID": self.handle, "Size": size or 0, "SizeIsDeferred": size is None, "Offset": 0, "MetaData": {}}
        self.client.put_object(Bucket=self.bucket, Key=f"{self.key}.info", Body=json.dumps(info).encode())

    def part(self, content: bytes) -> None:
        number = len(self._parts) + 1
        where = {"Bucket": self.bucket, "Key": self.key, "UploadId": self.multipart, "PartNumber": number}
        self._parts.append({"PartNumber": number, "ETag": self.client.upload_part(**where, Body=content)["ETag"]})

    def rest(self, content: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=f"{self.key}.part", Body=content)

    def complete(self) -> None:
        where = {"Bucket": self.bucket, "Key": self.key, "UploadId": self.multipart}
        self.client.complete_multipart_upload(**where, MultipartUpload={"Parts": self._parts})

    def read(self) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.bucket, Key=self.key)["Body"].read()
        return content

    def all(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.bucket, Prefix=self.key).get("Contents", [])
        return [each["Key"].removeprefix(self.key) for each in found]


@pytest.fixture(scope="module")
def client(minio: Minio) -> Iterator[Any]:
    client = minio.client()
    yield client
    client.close()


@pytest.fixture(scope="module")
def bucket(minio: Minio) -> str:
    return minio.bucket(f"tusd-{uuid4().hex[:8]}")


@pytest.fixture
def uploads(client: Any, bucket: str) -> TusdUploads:
    return gateway(client, bucket, idle_s=0.0)


def gateway(client: Any, bucket: str, **more: Any) -> TusdUploads:
    nowhere = f"http://127.0.0.1:{free_port()}/files"
    return TusdUploads(nowhere, "https://volcal.test/files/", client=client, bucket=bucket, secret="sesame", **more)


def test_a_finished_file_lies_at_the_tasks_key(uploads: TusdUploads, client: Any, bucket: str) -> None:
    left = Left(client, bucket, size=6)
    left.part(b"points")
    left.complete()
    found = uploads.received(left.handle, key=left.key)
    assert found is not None
    assert (found.key, found.size) == (left.key, 6)
    assert uploads.offset(left.handle) == 6
    assert uploads.moved_at(left.handle) is None


def test_what_has_arrived_is_counted_in_parts_and_rest(uploads: TusdUploads, client: Any, bucket: str) -> None:
    before = datetime.now(UTC).timestamp() - 2
    left = Left(client, bucket, size=None)
    assert uploads.offset(left.handle) == 0
    left.part(b"p" * 5 * MIB)
    left.rest(b"r" * 17)
    assert uploads.offset(left.handle) == 5 * MIB + 17
    assert uploads.received(left.handle, key=left.key) is None
    moved = uploads.moved_at(left.handle)
    assert moved is not None
    assert before < moved.timestamp() < time.time() + 2


@pytest.mark.case(5)
def test_a_file_whose_bytes_are_all_there_is_completed_if_tusd_did_not(
    uploads: TusdUploads, client: Any, bucket: str
) -> None:
    left = Left(client, bucket, size=5 * MIB + 3)
    left.part(b"p" * 5 * MIB)
    left.rest(b"end")
    found = uploads.received(left.handle, key=left.key)
    assert found is not None
    assert found.size == 5 * MIB + 3
    assert left.read() == b"p" * 5 * MIB + b"end"
    assert left.all() == ["", ".info"]


def test_an_empty_file_is_completed_as_well(uploads: TusdUploads, client: Any, bucket: str) -> None:
    left = Left(client, bucket, size=0)
    found = uploads.received(left.handle, key=left.key)
    assert found is not None
    assert found.size == 0
    assert left.read() == b""


@pytest.mark.parametrize("size", [None, 5 * MIB + 1, 5 * MIB - 1])
def test_a_file_that_is_not_whole_is_never_completed(
    uploads: TusdUploads, client: Any, bucket: str, size: int | None
) -> None:
    left = Left(client, bucket, size=size)
    left.part(b"p" * 5 * MIB)
    assert uploads.received(left.handle, key=left.key) is None
    assert uploads.offset(left.handle) == 5 * MIB


def test_a_file_that_still_moves_is_left_to_tusd(client: Any, bucket: str) -> None:
    left = Left(client, bucket, size=6)
    left.part(b"points")
    assert gateway(client, bucket).received(left.handle, key=left.key) is None
    left.complete()  # by tusd, undisturbed
    assert left.read() == b"points"


def test_many_looks_at_one_waiting_file_cost_one_look_into_its_parts(client: Any, bucket: str) -> None:
    asked: list[str] = []
    client.meta.events.register("before-call.s3", lambda model, **_: asked.append(model.name), unique_id="count")
    left = Left(client, bucket, size=6)
    watching = gateway(client, bucket, idle_s=60.0)
    asked.clear()
    for _ in range(5):
        assert watching.received(left.handle, key=left.key) is None
    client.meta.events.unregister("before-call.s3", unique_id="count")
    assert asked.count("ListParts") == 1
    assert asked.count("HeadObject") <= 5 + 3


def test_discarding_leaves_nothing_of_an_upload_under_way(uploads: TusdUploads, client: Any, bucket: str) -> None:
    left = Left(client, bucket, size=None)
    left.part(b"p" * 5 * MIB)
    left.rest(b"end")
    uploads.discard(left.handle)
    assert left.all() == []
    with pytest.raises(client.exceptions.ClientError, match="NoSuchUpload"):
        left.part(b"more")
    assert uploads.offset(left.handle) is None
    assert uploads.received(left.handle, key=left.key) is None
    uploads.discard(left.handle)


def test_discarding_leaves_nothing_of_a_finished_upload(uploads: TusdUploads, client: Any, bucket: str) -> None:
    left = Left(client, bucket, size=6)
    left.part(b"points")
    left.complete()
    uploads.discard(left.handle)
    assert left.all() == []


def test_what_was_opened_by_another_endpoint_is_unknown_here(uploads: TusdUploads) -> None:
    assert uploads.offset("an-id-of-the-built-in-endpoint") is None
    assert uploads.moved_at("an-id-of-the-built-in-endpoint") is None
    uploads.discard("an-id-of-the-built-in-endpoint")


def test_a_store_that_is_away_is_said_so(uploads: TusdUploads, bucket: str) -> None:
    with Minio() as away:
        client = away.client()
        lost = gateway(client, bucket)
    try:
        for ask in (lost.offset, lost.moved_at, lost.discard):
            with pytest.raises(UploadsUnavailable, match="store of the uploads"):
                ask("tasks/7/in/pre-x+y")
    finally:
        client.close()


def test_a_tusd_that_is_away_is_said_so(uploads: TusdUploads) -> None:
    with pytest.raises(UploadsUnavailable, match="does not answer"):
        uploads.open("x", key="tasks/7/in/pre-x", filename="", task_id=TASK, label="pre")
    with pytest.raises(UploadsUnavailable, match="does not answer"):
        uploads.check()


def test_links_lead_to_the_public_endpoint(uploads: TusdUploads) -> None:
    assert uploads.url("tasks/7/in/pre-x+ab.c=~") == "https://volcal.test/files/tasks/7/in/pre-x+ab.c=~"


class TestGrants:
    KEY = "tasks/7/in/pre-x"

    def event(self, *grants: Any) -> dict[str, Any]:
        return {"Upload": {"ID": ""}, "HTTPRequest": {"Header": {GRANT: list(grants)}}}

    def test_what_we_open_is_admitted_under_its_key(self, uploads: TusdUploads) -> None:
        now = int(time.time())
        assert uploads.admits(self.event(uploads._grant(self.KEY, now + 60)), now) == self.KEY

    @pytest.mark.parametrize("change", ["key", "time", "signature", "late", "none", "two", "number", "words", "script"])
    def test_anything_else_is_not(self, uploads: TusdUploads, change: str) -> None:
        now = int(time.time())
        expires, signature, key = uploads._grant(self.KEY, now + 60).split(":")
        grants: dict[str, list[Any]] = {
            "key": [f"{expires}:{signature}:tasks/8/in/pre-x"],
            "time": [f"{int(expires) + 1}:{signature}:{key}"],
            "signature": [f"{expires}:{'0' * 64}:{key}"],
            "late": [uploads._grant(self.KEY, now - 1)],
            "none": [],
            "two": [uploads._grant(self.KEY, now + 60)] * 2,
            "number": [7],
            "words": ["soon"],
            "script": [f"{expires}:{signature}:\ud800é"],
        }
        assert uploads.admits(self.event(*grants[change]), now) is None

    @pytest.mark.parametrize("event", [{}, {"HTTPRequest": 7}, {"HTTPRequest": {"Header": []}}])
    def test_an_event_of_another_shape_is_not(self, uploads: TusdUploads, event: dict[str, Any]) -> None:
        assert uploads.admits(event, 0) is None

    def test_a_grant_of_another_deployment_is_not(self, uploads: TusdUploads, client: Any, bucket: str) -> None:
        other = TusdUploads("http://x/files", "http://x/files", client=client, bucket=bucket, secret="other")
        now = int(time.time())
        assert uploads.admits(self.event(other._grant(self.KEY, now + 60)), now) is None
