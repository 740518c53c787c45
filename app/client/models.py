"""What a server says, as far as the client needs it; members that a newer server adds do no harm."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

SETTLED = ("done", "error", "killed")


class UploadState(BaseModel, frozen=True):
    """One file of a task."""

    state: str
    offset: int | None = 0  # null if the server cannot tell just now
    size: int | None = None
    filename: str = ""
    url: str | None = None
    source: str | None = None  # host from which the server fetches it
    length: int | None = None  # as that host says
    error: dict[str, Any] | None = None


class TaskStatus(BaseModel, frozen=True):
    """Where a task stands."""

    id: str
    pipeline: str = ""
    name: str = ""
    status: str
    stage: str = ""
    progress: float = 0.0
    attempts: int = 0
    queue_position: int | None = None
    missing: list[str] = []
    uploads: dict[str, UploadState] = {}
    error: dict[str, Any] | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def is_settled(self) -> bool:
        """Whether nothing follows unless somebody acts."""
        return self.status in SETTLED


class Artifact(BaseModel, frozen=True):
    """One file of a result."""

    name: str
    media_type: str = "application/octet-stream"
    title: str = ""
    size: int
    url: str
