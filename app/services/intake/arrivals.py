"""What has come of a file that is still open, whoever brings it."""

from datetime import datetime
from typing import TYPE_CHECKING

from app.db.models import Upload
from app.domain.ports import ReceivedFile

if TYPE_CHECKING:
    from app.context import Context


def arrived(context: "Context", upload: Upload) -> ReceivedFile | None:
    """Return what is there of an open upload if it is whole."""
    if not upload.source:
        return context.uploads.received(upload.handle, key=upload.key)
    if upload.received < (upload.length or 0):
        return None
    size = context.store.size(upload.key)
    return None if size is None else ReceivedFile(upload.key, size)


def moved_at(context: "Context", upload: Upload) -> datetime | None:
    """Return when the last byte of an open upload came, if that is known."""
    return upload.moved_at if upload.source else context.uploads.moved_at(upload.handle)
