"""Uploads received by a tusd beside the gateway, which keeps them in the S3 bucket that the object store uses.

The gateway opens every upload itself: it sends tusd a POST that carries a grant, a signature over the object's key.
tusd asks back (its ``pre-create`` hook) whether it may, and is told to use the key as the upload's id. So nobody
else opens uploads, and what arrives lies where the task expects it:

``<key>``         the whole file, once tusd has completed the multipart upload
``<key>.info``    what tusd knows of it
``<key>.part``    bytes too few for a part

tusd is never asked how far an upload is: a HEAD from us would interrupt the client that is sending. We look into the
bucket instead.
"""

import hashlib
import hmac
import json
import logging
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from uuid import UUID

import httpx

from app.domain.ports import ReceivedFile
from app.uploads.errors import UploadsUnavailable

log = logging.getLogger(__name__)

GRANT = "X-Volcal-Grant"
_GRANT_S = 60
_TIMEOUT = httpx.Timeout(10.0, connect=3.0)
_MISSING = {"404", "NoSuchKey", "NoSuchUpload", "NotFound"}


class TusdUploads:
    """An UploadGateway that leaves the receiving to tusd. A handle is tusd's id, ``<key>+<multipart upload's id>``.

    Args:
        endpoint: URL of tusd as the gateway reaches it, such as ``http://tusd:8080/files``.
        public_endpoint: The same as clients reach it.
        client: A boto3 client of the object store.
        bucket: Where tusd keeps files.
        secret: Signs grants.
        idle_s: tusd completes a file right after its last byte; only so many seconds later is it our turn.
    """

    def __init__(
        self,
        endpoint: str,
        public_endpoint: str,
        *,
        client: Any,
        bucket: str,
        secret: str,
        idle_s: float = 30.0,
    ) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._public = public_endpoint.rstrip("/")
        self._s3 = client
        self._bucket = bucket
        self._secret = secret.encode()
        self._http = httpx.Client(timeout=_TIMEOUT, trust_env=False)
        self._idle_s = idle_s
        self._looked: dict[str, float] = {}

    def open(
        self,
        upload_id: str,  # noqa: ARG002  (it is part of the key)
        *,
        key: str,
        filename: str,
        task_id: UUID,
        label: str,
    ) -> str:
        """Open an upload of yet unknown length; return its handle.

        Raises:
            UploadsUnavailable: If tusd does not answer, or does not let us.
        """
        names = {"filename": filename, "task_id": str(task_id), "label": label}
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Defer-Length": "1",
            "Upload-Metadata": ",".join(
                f"{name} {b64encode(value.encode()).decode()}" for name, value in names.items()
            ),
            GRANT: self._grant(key, int(time.time()) + _GRANT_S),
        }
        try:
            answer = self._http.post(f"{self._endpoint}/", headers=headers)
        except httpx.HTTPError as error:
            raise UploadsUnavailable(f"tusd at {self._endpoint} does not answer ({type(error).__name__})") from error
        handle = self._handle(answer.headers.get("Location", ""))
        if answer.status_code != httpx.codes.CREATED or handle.partition("+")[0] != key:
            raise UploadsUnavailable(
                f"tusd at {self._endpoint} opened no upload for us ({answer.status_code}: {answer.text[:200]!r}); its "
                "-hooks-http must be /tusd_hook of the gateway with the same secret, and its events include pre-create"
            )
        return handle

    def url(self, handle: str) -> str:
        """Return the public URL of an upload that was opened."""
        return f"{self._public}/{quote(handle, safe='/+=~')}"

    def received(self, handle: str, *, key: str) -> ReceivedFile | None:
        """Return what has arrived if all of it has; never disturbs an upload under way.

        Raises:
            UploadsUnavailable: If the store does not answer.
        """
        with self._store():
            size = self._size(key)
            if size is None and self._may_look(handle) and self._complete(handle):
                size = self._size(key)
        if size is None:
            return None
        self._looked.pop(handle, None)
        return ReceivedFile(key, size)

    def offset(self, handle: str) -> int | None:
        """Return how many bytes have arrived so far; None if the upload is not known, or gone."""
        key, multipart = _split(handle)
        with self._store():
            whole = self._size(key)
            return whole if whole is not None else _sum(self._pieces(key, multipart))

    def moved_at(self, handle: str) -> datetime | None:
        """Return when its last byte came; None if the upload is not known, finished or gone."""
        key, multipart = _split(handle)
        with self._store():
            if self._head(key) is not None:
                return None
            pieces = self._pieces(key, multipart)
            info = self._head(f"{key}.info")
        moments = [piece["LastModified"] for piece in [*(pieces or []), *([info] if info else [])]]
        return max(moments).astimezone(UTC) if moments else None

    def discard(self, handle: str) -> None:
        """Forget an upload and its bytes, also if it is being written or finished; absent ones are no error.

        Raises:
            UploadsUnavailable: If the store does not answer.
        """
        key, multipart = _split(handle)
        with self._store():
            # Without the note of it tusd knows the upload no more, and takes no further byte.
            self._s3.delete_object(Bucket=self._bucket, Key=f"{key}.info")
            if multipart:
                with _absent_is_fine():
                    self._s3.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=multipart)
            for name in (f"{key}.part", key):
                self._s3.delete_object(Bucket=self._bucket, Key=name)
        self._looked.pop(handle, None)

    def admits(self, event: dict[str, Any], now: float) -> str | None:
        """Return the id that tusd shall give to an upload that somebody wants to open; None if it was not us.

        Args:
            event: What tusd's ``pre-create`` hook says of the request.
            now: The time, Unix seconds.
        """
        request = event.get("HTTPRequest")
        headers = request.get("Header") if isinstance(request, dict) else None
        given = headers.get(GRANT) if isinstance(headers, dict) else None
        if not (isinstance(given, list) and len(given) == 1 and isinstance(given[0], str)):
            return None
        expires, _, rest = given[0].partition(":")
        key = rest.partition(":")[2]
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 15) or now > int(expires):
            return None
        if not given[0].isascii():
            return None
        good = self._grant(key, int(expires))
        return key if hmac.compare_digest(good, given[0]) else None

    def check(self) -> None:
        """Ask tusd whether it is there.

        Raises:
            UploadsUnavailable: If it does not answer as tusd does.
        """
        try:
            answer = self._http.options(f"{self._endpoint}/")
        except httpx.HTTPError as error:
            raise UploadsUnavailable(f"tusd at {self._endpoint} does not answer ({type(error).__name__})") from error
        if "creation-defer-length" not in answer.headers.get("Tus-Extension", ""):
            raise UploadsUnavailable(
                f"what answers at {self._endpoint} is no tusd that takes uploads of unknown length"
            )

    def _grant(self, key: str, expires: int) -> str:
        signature = hmac.new(self._secret, f"upload\0{expires}\0{key}".encode(), hashlib.sha256).hexdigest()
        return f"{expires}:{signature}:{key}"

    def _handle(self, location: str) -> str:
        """Return the id at the end of a Location: what follows the path of the endpoint."""
        base = urlsplit(self._endpoint).path.rstrip("/") + "/"
        path = unquote(urlsplit(location).path)
        return path[len(base) :] if path.startswith(base) else ""

    def _may_look(self, handle: str) -> bool:
        now = time.monotonic()
        if now - self._looked.get(handle, -self._idle_s) < self._idle_s:
            return False
        if len(self._looked) > 10_000:
            self._looked.clear()
        self._looked[handle] = now
        return True

    def _complete(self, handle: str) -> bool:
        """Complete an upload all of whose bytes are in the bucket, as when tusd or the store died at the very end.

        The client believes then that it is done, and tusd will not try again.
        """
        key, multipart = _split(handle)
        info, pieces = self._info(key), self._pieces(key, multipart)
        if info is None or pieces is None or info.get("SizeIsDeferred") or info.get("Size") != _sum(pieces):
            return False
        note = self._head(f"{key}.info")
        newest = max((piece["LastModified"] for piece in [*pieces, *([note] if note else [])]), default=None)
        if newest is None or datetime.now(UTC) - newest < timedelta(seconds=self._idle_s):
            return False
        log.warning("completing an upload that tusd left behind")
        where = {"Bucket": self._bucket, "Key": key, "UploadId": multipart}
        parts = [{"PartNumber": p["PartNumber"], "ETag": p["ETag"]} for p in pieces if "PartNumber" in p]
        number = max((p["PartNumber"] for p in parts), default=0) + 1
        if any("PartNumber" not in piece for piece in pieces):
            source = {"Bucket": self._bucket, "Key": f"{key}.part"}
            copied = self._s3.upload_part_copy(**where, PartNumber=number, CopySource=source)
            parts.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})
        elif not parts:
            parts.append({"PartNumber": 1, "ETag": self._s3.upload_part(**where, PartNumber=1, Body=b"")["ETag"]})
        with _absent_is_fine():  # somebody else was faster
            self._s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        self._s3.delete_object(Bucket=self._bucket, Key=f"{key}.part")
        return True

    def _info(self, key: str) -> dict[str, Any] | None:
        with _absent_is_fine():
            body = self._s3.get_object(Bucket=self._bucket, Key=f"{key}.info")["Body"].read()
            info = json.loads(body)
            return info if isinstance(info, dict) else None
        return None

    def _pieces(self, key: str, multipart: str) -> list[dict[str, Any]] | None:
        """Return the parts, and what is not yet one; None if there is no such multipart upload."""
        if not multipart:
            return None
        pieces: list[dict[str, Any]] = []
        with _absent_is_fine():
            pages = self._s3.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=key, UploadId=multipart)
            for page in pages:
                pieces += page.get("Parts", [])
            rest = self._head(f"{key}.part")
            if rest is not None and rest["ContentLength"]:
                pieces.append({"Size": rest["ContentLength"], "LastModified": rest["LastModified"]})
            return pieces
        return None

    def _size(self, key: str) -> int | None:
        found = self._head(key)
        return None if found is None else int(found["ContentLength"])

    def _head(self, key: str) -> dict[str, Any] | None:
        with _absent_is_fine():
            found: dict[str, Any] = self._s3.head_object(Bucket=self._bucket, Key=key)
            return found
        return None

    @contextmanager
    def _store(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise UploadsUnavailable(
                f"the object store of the uploads failed: {type(error).__name__}: {error}"
            ) from error


def _split(handle: str) -> tuple[str, str]:
    key, _, multipart = handle.partition("+")
    return key, multipart


def _sum(pieces: list[dict[str, Any]] | None) -> int | None:
    return None if pieces is None else sum(piece["Size"] for piece in pieces)


@contextmanager
def _absent_is_fine() -> Iterator[None]:
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if str(error.response.get("Error", {}).get("Code")) not in _MISSING:
            raise
