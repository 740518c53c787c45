"""Files in other buckets of the object store, as ``s3://bucket/key``, where the operator has opened them."""

import re
import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from botocore.exceptions import ClientError

from app.domain.errors import UrlRefused
from app.domain.fetching import FetchProblem, Known, Look
from app.storage.errors import StoreUnavailable
from app.storage.s3_errors import BROKEN_OFF, Place, code_of

_LONGEST = 2048
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_CHANGED = {"PreconditionFailed", "InvalidRange", "412", "416"}
_FORBIDDEN = {"AccessDenied", "403"}
_BLOCK = 1 << 20
_LOOK_S = 0.25


class BucketFiles:
    """A FileSource of ``s3://``: what the store's own user may read in buckets that are named here, and nowhere else.

    Args:
        client: A client of boto3, patient enough for gigabytes.
        endpoint: Its URL, for messages; None is AWS.
        buckets: Those that anybody who may create tasks may read. The service's own bucket must not be one of them:
            the files of all owners are there.
        max_bytes: The largest file.
    """

    def __init__(self, client: Any, endpoint: str | None, buckets: Collection[str], max_bytes: int) -> None:
        self._client = client
        self._endpoint = endpoint
        self._buckets = frozenset(buckets)
        self._max_bytes = max_bytes

    def check(self, url: str) -> str:
        """Return the URL in its one form.

        Raises:
            UrlRefused: If its bucket is not open, or it names no object.
        """
        bucket, key = _read(url)
        if bucket not in self._buckets:
            raise UrlRefused("bucket")
        plain = f"s3://{bucket}/{quote(key)}"
        if len(plain) > _LONGEST:
            raise UrlRefused("form")
        return plain

    def fetch(self, url: str, target: Path, known: Known, look: Look) -> Known:
        """Fetch what is lacking: see ``FileSource``."""
        bucket, key = _read(self.check(url))
        place = Place.of(bucket, self._endpoint)
        with target.open("ab") as stream:
            here = stream.tell()
            if known.length is not None and here == known.length:
                return replace(known, received=here)
            if not (here and known.validator):
                stream.truncate(0)
                here = 0
            more = {"Range": f"bytes={here}-", "IfMatch": known.validator} if here else {}
            try:
                with place.asking("GetObject", key):
                    answer = self._get(bucket, key, more)
                    length = here + int(answer["ContentLength"])
                    if length > self._max_bytes:
                        message = f"The file has {length} bytes; {self._max_bytes} are allowed."
                        raise FetchProblem("too_large", message, code="UPLOAD_TOO_LARGE")
                    known = replace(known, received=here, length=length, validator=answer["ETag"])
                    look(known)
                    with closing(answer["Body"]) as body:
                        return _copy(body, stream, known, look)
            except FileNotFoundError:
                raise FetchProblem("status", "There is no such object.") from None
            except _Changed:
                stream.truncate(0)
                raise FetchProblem("changed", "The object was replaced while it was fetched.", passing=True) from None
            except StoreUnavailable as error:
                raise FetchProblem("connect", "The object store does not answer.", passing=error.passing) from error

    def _get(self, bucket: str, key: str, more: dict[str, str]) -> Any:
        try:
            return self._client.get_object(Bucket=bucket, Key=key, **more)
        except ClientError as error:
            if code_of(error) in _CHANGED:
                raise _Changed from None
            if code_of(error) in _FORBIDDEN:
                raise FetchProblem("status", "The object store's user may not read it.") from None
            if code_of(error) == "NoSuchBucket":
                raise FetchProblem("status", "There is no such bucket.") from None
            raise


class _Changed(Exception):
    """The object is another one by now."""


def _copy(body: Any, stream: Any, known: Known, look: Look) -> Known:
    here, looked = known.received, time.monotonic()
    try:
        while block := body.read(_BLOCK):
            stream.write(block)
            here += len(block)
            if (now := time.monotonic()) - looked >= _LOOK_S:
                stream.flush()
                look(replace(known, received=here))
                looked = now
    except BROKEN_OFF:
        raise FetchProblem("protocol", "The connection to the object store broke off.", passing=True) from None
    stream.flush()
    if here != known.length:
        raise FetchProblem("protocol", f"{here} bytes came of {known.length}.", passing=True)
    known = replace(known, received=here)
    look(known)
    return known


def _read(url: str) -> tuple[str, str]:
    """Return bucket and key.

    >>> _read("s3://surveys/week%2014/pre.laz")
    ('surveys', 'week 14/pre.laz')
    """
    try:
        parts = urlsplit(url)
        key = unquote(parts.path.removeprefix("/"), errors="strict")
    except ValueError:
        raise UrlRefused("form") from None
    plain = parts.scheme == "s3" and not parts.query and not parts.fragment and key.isprintable()
    if len(url) > _LONGEST or not plain or not key or not _BUCKET.fullmatch(parts.netloc):
        raise UrlRefused("form")
    return parts.netloc, key
