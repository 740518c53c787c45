"""Which report of a task there is, and where."""

from typing import Any

from app.db.models import Task
from app.services.reports.errors import ReportNotFound
from app.services.reports.sheet import SCHEMA, sheet

FILES = {"geojson": "hulls.geojson", "html": "report.html", "pdf": "report.pdf"}
"""By format, the file of the result folder that is the report."""


def formats(task: Task) -> list[str]:
    """Return the formats in which a finished task has a report."""
    names = {found["name"] for found in task.artifacts or []}
    return ["json", *(["csv"] if _has_table(task) else []), *(each for each, name in FILES.items() if name in names)]


def table(task: Task) -> bytes:
    """Return the changes that a finished task found as CSV.

    Raises:
        ReportNotFound: If its pipeline finds none.
    """
    if not _has_table(task):
        raise ReportNotFound("csv", formats(task))
    return sheet(task.document or {})


def file(task: Task, kind: str) -> dict[str, Any]:
    """Return the file that is a finished task's report: name, media_type, title, key, size.

    Raises:
        ReportNotFound: If its run left none.
    """
    for found in task.artifacts or []:
        if found["name"] == FILES[kind]:
            return found
    raise ReportNotFound(kind, formats(task))


def filename(task: Task, kind: str) -> str:
    """Return under which name to save a report: the task's, or the beginning of its id.

    A name may hold anything; what no file system takes becomes a space.
    """
    plain = "".join(c if c.isalnum() or c in "-_.,()" else " " for c in task.name)
    return f"{' '.join(plain.split()).strip('. ')[:80] or f'volcal-{str(task.id)[:8]}'}.{kind}"


def _has_table(task: Task) -> bool:
    return str((task.document or {}).get("schema", "")).startswith(SCHEMA)
