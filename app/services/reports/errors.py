"""What can go wrong with a report."""

from collections.abc import Iterable
from typing import Any

from app.domain.errors import NotFound


class ReportNotFound(NotFound):
    """The task's run left no such report."""

    code = "REPORT_NOT_FOUND"

    def __init__(self, wanted: str, available: Iterable[str]) -> None:
        self.available = list(available)
        super().__init__(
            f"This run left no {wanted} report: its pipeline makes none, its pictures were switched off (images), or "
            f"it is older than that report. There is: {', '.join(self.available)}."
        )

    def extensions(self) -> dict[str, Any]:
        """List the formats that there are."""
        return {"available": self.available}
