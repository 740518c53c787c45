"""What can go wrong with an upload by the tus protocol, beside what the domain already names."""

from typing import Any

from app.domain.errors import Conflict, Invalid, NotFound


class UploadGone(NotFound):
    """The upload has expired, or its task no longer wants it; a client stops here."""

    code = "UPLOAD_GONE"

    def __init__(self) -> None:
        super().__init__("This upload has expired, or its task was cancelled; ask the task for a fresh upload URL.")


class OffsetMismatch(Conflict):
    """The request does not continue where the upload stands."""

    code = "UPLOAD_OFFSET_MISMATCH"

    def __init__(self, offset: int) -> None:
        super().__init__(f"The upload stands at byte {offset}; ask with HEAD and continue there.")
        self.offset = offset

    def extensions(self) -> dict[str, Any]:
        """Say where the upload stands."""
        return {"offset": self.offset}


class UploadSuperseded(Conflict):
    """A newer request took the upload over, or a running one cannot be interrupted just now."""

    code = "UPLOAD_SUPERSEDED"

    def __init__(self) -> None:
        super().__init__("Another request is writing to this upload; ask with HEAD and continue there.")


class HeaderInvalid(Invalid):
    """A tus header is missing or is not what the protocol says."""

    code = "UPLOAD_HEADER_INVALID"


class VersionUnsupported(Invalid):
    """The client speaks another version of the protocol."""

    code = "UPLOAD_VERSION_UNSUPPORTED"

    def __init__(self, version: str | None) -> None:
        super().__init__(
            "The header Tus-Resumable: 1.0.0 is missing." if version is None else f"tus {version!r} is not spoken here."
        )


class ContentTypeWrong(Invalid):
    """The body is not declared as bytes of an upload."""

    code = "UPLOAD_CONTENT_TYPE"

    def __init__(self) -> None:
        super().__init__("The body's Content-Type must be application/offset+octet-stream.")


class UploadStalled(Conflict):
    """No bytes came for so long that the request was given up; what came is kept."""

    code = "UPLOAD_STALLED"

    def __init__(self) -> None:
        super().__init__("No bytes came for a while; ask with HEAD and continue there.")


class UploadsUnavailable(OSError):
    """The upload server, or the store behind it, does not answer just now."""

    code = "UPLOADS_UNAVAILABLE"
