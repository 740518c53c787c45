"""What do the errors of an S3 service mean, and what helps?"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004  (the library's name)
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)
from s3transfer.exceptions import RetriesExceededError, S3DownloadFailedError

from app.storage.errors import StoreUnavailable

ABSENT = {"404", "NoSuchKey", "NotFound"}
BROKEN_OFF = (ConnectionError, HTTPClientError, ResponseStreamingError, IncompleteReadError)
_FULL = {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded"}
_PASSING = {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "SlowDownRead", "SlowDownWrite"}
_HELP = {
    "403": "the keys of the store are wrong, or may not do that",
    "AccessDenied": "the keys of the store may not do that",
    "AuthorizationHeaderMalformed": "check VOLCAL_S3_REGION",
    "InvalidAccessKeyId": "check VOLCAL_S3_ACCESS_KEY",
    "NoSuchBucket": "run `volcal setup`, or check VOLCAL_S3_BUCKET",
    "PreconditionFailed": "it was replaced while it was read; try again",
    "RequestTimeTooSkewed": "set the clock of this machine, or the store's",
    "SignatureDoesNotMatch": "check VOLCAL_S3_SECRET_KEY",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Which bucket of which service is asked, for messages.

    Args:
        bucket: The bucket.
        server: Host and port; never a password that may stand in an endpoint.
    """

    bucket: str
    server: str

    @classmethod
    def of(cls, bucket: str, endpoint: str | None) -> "Place":
        """Describe the bucket of an endpoint; None is AWS."""
        return cls(bucket, "AWS" if endpoint is None else urlsplit(endpoint).netloc.rpartition("@")[2])

    @contextmanager
    def asking(self, operation: str, key: str = "") -> Iterator[None]:
        """Turn what boto3 raises into ``OSError``.

        Args:
            operation: What is asked for, as S3 calls it.
            key: Of which object.

        Raises:
            FileNotFoundError: If there is no such object.
            StoreUnavailable: If anything else fails.
        """
        try:
            yield
        except (BotoCoreError, ClientError, RetriesExceededError, S3DownloadFailedError) as error:
            raise self.error(_cause(error), operation, key) from error

    def error(self, cause: BaseException, operation: str, key: str = "") -> OSError:
        """Return the ``OSError`` that says what went wrong."""
        if code_of(cause) in ABSENT and key:
            return FileNotFoundError(errno.ENOENT, "there is no such object", key)
        operation = getattr(cause, "operation_name", operation)
        said, passing = _said(cause)
        failure = StoreUnavailable(
            f"{operation} at the object store {self.server}, bucket {self.bucket}: {said}", passing=passing
        )
        if code_of(cause) in _FULL:
            failure.errno = errno.ENOSPC
        return failure


def code_of(error: BaseException) -> str:
    """Return the code that the service gave; empty if it is not the service that complains."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def _said(cause: BaseException) -> tuple[str, bool]:
    """Return what went wrong, and whether it may pass."""
    if isinstance(cause, ClientError):
        code = code_of(cause)
        message = " ".join(str(cause.response.get("Error", {}).get("Message", "")).split())[:200]
        status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        told = f"{code} ({_HELP.get(code) or message})"
        return told, code in _PASSING or (status >= 500 and code not in _FULL)
    if isinstance(cause, EndpointConnectionError):
        return "nothing answers there (EndpointConnectionError)", True
    if isinstance(cause, BROKEN_OFF):
        return f"the connection broke off or stood still ({type(cause).__name__})", True
    return f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}", False


def _cause(error: BaseException) -> BaseException:
    """Return the error of the last attempt, if there were several."""
    inner = getattr(error, "last_exception", None)
    return inner if isinstance(inner, BotoCoreError | ClientError) else error
