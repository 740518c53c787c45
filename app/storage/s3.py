"""Objects in a bucket of an S3 service, such as MinIO: the full stack's store."""

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from uuid import uuid4

from botocore.exceptions import ClientError

from app.domain.inventory import Stored
from app.domain.keys import check_key
from app.domain.media import disposition, is_active, media_type
from app.domain.ports import Progress
from app.storage.errors import StoreUnavailable
from app.storage.listing import in_bucket, unfinished_in_bucket
from app.storage.s3_bucket import prepare_bucket
from app.storage.s3_client import BULK_READ_TIMEOUT_S, make_client
from app.storage.s3_errors import ABSENT, BROKEN_OFF, Place, code_of
from app.storage.s3_stream import BLOCK, ObjectStream, Piece
from app.storage.s3_transfer import carry

_LONGEST_LINK_S = 7 * 86_400  # by the rules of S3
_BATCH = 1000


class S3Store:
    """An ObjectStore in one bucket; threads may share it, processes that were forked may not.

    Its user needs to list the bucket: else S3 does not say whether an object is missing or forbidden.

    Args:
        bucket: The bucket's name.
        endpoint: URL of the service as we reach it; None means AWS itself.
        public_endpoint: URL as clients reach it. Links are signed for it and hold for no other: whatever stands
            between must pass the Host header on unchanged. None means the same as ``endpoint``.
        access_key: The user; empty means what boto3 finds by itself.
        secret_key: The user's password.
        region: Which signatures name.
        addressing_style: ``path``, ``virtual`` or ``auto``: where the bucket's name stands in URLs.
    """

    def __init__(
        self,
        *,
        bucket: str,
        endpoint: str | None,
        public_endpoint: str | None,
        access_key: str,
        secret_key: str,
        region: str = "us-east-1",
        addressing_style: str = "path",
    ) -> None:
        self.bucket = bucket
        self._client_of = partial(
            make_client, access_key=access_key, secret_key=secret_key, region=region, addressing_style=addressing_style
        )
        self._endpoint = endpoint
        self._region = region
        self.client = self._client_of(endpoint)
        self._public = self._client_of(public_endpoint or endpoint)  # never asks anything: it only signs
        self._place = Place.of(bucket, endpoint)

    def put(self, key: str, source: Path, progress: Progress | None = None) -> None:
        """Store the file at ``source``, replacing what was there; readers see all or none.

        Args:
            key: Where to.
            source: The file; large ones go in parts of 16 MiB, four at a time.
            progress: See ``ObjectStore``.

        Raises:
            ValueError: If the key is not one.
            StoreUnavailable: If the store does not take it; the old object stays.
            OSError: If the file cannot be read.
        """
        check_key(key)
        with source.open("rb"):
            pass  # said here if it cannot be read
        more = {"ContentType": media_type(key)}

        def begin(manager: Any, subscribers: list[Any]) -> Any:
            return manager.upload(str(source), self.bucket, key, extra_args=more, subscribers=subscribers)

        with self._place.asking("PutObject"):
            carry(self.bulk, begin, progress)

    def lend(self, key: str, source: Path, progress: Progress | None = None) -> None:
        """Store a file that is needed for minutes; costs as much as any other."""
        self.put(key, source, progress)

    def adopt(self, key: str, source: Path, progress: Progress | None = None) -> None:
        """Store the file at ``source``, which is then deleted: the caller gives it up.

        After a crash it is whole in one of the two places.

        Args:
            key: Where to.
            source: The file.
            progress: See ``ObjectStore``.

        Raises:
            FileNotFoundError: If there is no file at ``source``.
            StoreUnavailable: If the store does not take it; ``source`` stays.
        """
        self.put(key, source, progress)
        source.unlink(missing_ok=True)

    def fetch(self, key: str, target: Path, progress: Progress | None = None) -> None:
        """Write the object to ``target``, replacing what was there; or leave that as it was.

        Args:
            key: Where from.
            target: The file.
            progress: See ``ObjectStore``.

        Raises:
            FileNotFoundError: If there is no such object.
            StoreUnavailable: If the store does not give it.
            OSError: If the disk is full.
        """
        check_key(key)
        partial_file = target.with_name(f".{uuid4().hex}.part")
        try:
            with partial_file.open("wb") as stream:

                def begin(manager: Any, subscribers: list[Any]) -> Any:
                    return manager.download(self.bucket, key, stream, subscribers=subscribers)

                with self._place.asking("GetObject", key):
                    size = carry(self.bulk, begin, progress)
            if (found := partial_file.stat().st_size) != size:
                raise StoreUnavailable(f"{found} bytes came of an object of {size}", passing=True)
            partial_file.replace(target)
        finally:
            partial_file.unlink(missing_ok=True)

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """Open the object as a seekable stream, which asks for blocks of 256 KiB as they are needed.

        Raises:
            FileNotFoundError: If there is no such object.
            StoreUnavailable: If the store does not give it; also while reading, such as when it was replaced.
        """
        check_key(key)
        with io.BufferedReader(ObjectStream(partial(self._read, key)), BLOCK) as stream:
            yield stream

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes; None if there is none.

        Raises:
            StoreUnavailable: If the store does not say.
        """
        check_key(key)
        with self._place.asking("HeadObject"):
            try:
                return int(self.client.head_object(Bucket=self.bucket, Key=key)["ContentLength"])
            except ClientError as error:  # which has no more than a number
                if code_of(error) not in {"403", "404"}:
                    raise
                self.check()
                if code_of(error) == "403":
                    raise
                return None

    def delete(self, key: str) -> None:
        """Delete one object; an absent one is no error.

        Raises:
            StoreUnavailable: If the store does not.
        """
        check_key(key)
        with self._place.asking("DeleteObject"):
            self.client.delete_object(Bucket=self.bucket, Key=key)

    def delete_prefix(self, prefix: str) -> None:
        """Delete every object whose key starts with ``prefix``, and what is being uploaded there.

        Absent ones are no error. Earlier versions stay if the bucket keeps versions.

        Raises:
            ValueError: If the prefix is empty or is no beginning of a key.
            StoreUnavailable: If the store does not; some may be deleted then.
        """
        check_key(prefix.removesuffix("/"))
        with self._place.asking("DeleteObjects"):
            self._abort_uploads(prefix)
            doomed: list[dict[str, str]] = []
            for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix):
                doomed += [{"Key": found["Key"]} for found in page.get("Contents", [])]
            for start in range(0, len(doomed), _BATCH):
                self._delete(doomed[start : start + _BATCH])

    def listed(self, prefix: str) -> Iterator[Stored]:
        """Yield every object whose key starts with ``prefix``, in the order of their keys.

        Raises:
            StoreUnavailable: If the store does not say; also between two objects.
        """
        with self._place.asking("ListObjectsV2"):
            yield from in_bucket(self.client, self.bucket, prefix)

    def unfinished(self, prefix: str) -> Iterator[Stored]:
        """Yield what is being uploaded in parts: below ``prefix`` if it ends with a slash, else for this key.

        Raises:
            StoreUnavailable: If the store does not say.
        """
        with self._place.asking("ListMultipartUploads"):
            yield from unfinished_in_bucket(self.client, self.bucket, prefix)

    def remove(self, found: Stored) -> None:
        """Delete one object, or end one upload in parts; an absent one is no error.

        Raises:
            StoreUnavailable: If the store does not.
        """
        if not found.unfinished:
            self.delete(found.key)
            return
        with self._place.asking("AbortMultipartUpload"):
            self._abort(found.key, found.unfinished)

    def url(self, key: str, *, expires_s: int, download_name: str | None = None) -> str:
        """Return a public link that works for ``expires_s`` seconds, at most a week; it holds for GET only.

        What a browser might run, such as a report in HTML, is saved instead of shown: S3 cannot serve it in a
        sandbox, as the gateway does with its own files.
        """
        check_key(key)
        name = download_name or PurePosixPath(key).name
        what = {
            "Bucket": self.bucket,
            "Key": key,
            # by the name, whatever who uploaded it claimed
            "ResponseContentType": media_type(name),
            "ResponseContentDisposition": disposition(
                name, inline=download_name is None and not is_active(name) and not is_active(key)
            ),
        }
        expires_s = max(1, min(expires_s, _LONGEST_LINK_S))
        with self._place.asking("GetObject"):
            url: str = self._public.generate_presigned_url("get_object", Params=what, ExpiresIn=expires_s)
            return url

    def check(self) -> None:
        """Ask for a sign of life of the bucket.

        Raises:
            StoreUnavailable: If it cannot be used, saying why.
        """
        with self._place.asking("ListObjectsV2"):
            self.client.list_objects_v2(Bucket=self.bucket, MaxKeys=1)

    def prepare(self, *, unfinished_days: int = 7) -> None:
        """Make the bucket if it is absent, private, and such that it deletes what was never finished; repeatable.

        Raises:
            StoreUnavailable: If it cannot be made or used.
        """
        with self._place.asking("CreateBucket"):
            prepare_bucket(self.client, self.bucket, region=self._region, unfinished_days=unfinished_days)

    @cached_property
    def bulk(self) -> Any:
        """The client for gigabytes: more patient, and not needed by a gateway beside a tusd."""
        return self._client_of(self._endpoint, read_timeout_s=BULK_READ_TIMEOUT_S, attempts=3)

    def _read(self, key: str, start: int, count: int, etag: str | None) -> Piece:
        """Return some bytes of an object, of the version with this ETag."""
        pinned = {} if etag is None else {"IfMatch": etag}
        asked = f"bytes={start}-{start + count - 1}"
        with self._place.asking("GetObject", key):
            for may_repeat in (True, False):
                try:
                    answer = self.client.get_object(Bucket=self.bucket, Key=key, Range=asked, **pinned)
                    with closing(answer["Body"]) as body:
                        total = int(answer["ContentRange"].rpartition("/")[2])
                        return Piece(body.read(), answer["ETag"], total)
                except ClientError as error:
                    if code_of(error) == "InvalidRange" and start == 0:
                        return Piece(b"", "", 0)
                    raise
                except BROKEN_OFF:  # within the answer, which boto3 does not ask for again
                    if not may_repeat:
                        raise
        raise AssertionError("unreachable")

    def _abort_uploads(self, prefix: str) -> None:
        # MinIO finds uploads by their whole key, or lists all that were begun since it started.
        listing = self.client.get_paginator("list_multipart_uploads")
        found = {
            (upload["Key"], upload["UploadId"])
            for asked in (prefix, "")
            for page in listing.paginate(Bucket=self.bucket, Prefix=asked)
            for upload in page.get("Uploads", [])
            if upload["Key"].startswith(prefix)
        }
        for key, upload_id in found:
            self._abort(key, upload_id)

    def _abort(self, key: str, upload_id: str) -> None:
        try:
            self.client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload_id)
        except ClientError as error:
            if code_of(error) not in ABSENT | {"NoSuchUpload"}:
                raise

    def _delete(self, batch: list[dict[str, str]]) -> None:
        answer = self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True})
        if errors := answer.get("Errors"):
            code = errors[0].get("Code", "")
            raise StoreUnavailable(
                f"DeleteObjects at the object store {self._place.server}, bucket {self.bucket}: {code}, "
                f"{len(errors)} of {len(batch)} objects stay"
            )
