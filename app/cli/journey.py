"""The way of a survey as a terminal shows it: upload, processing, download, each with a bar or, elsewhere, lines."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from app.client import TaskFailed, TaskStatus, VolcalClient
from app.client.sending import in_sending_order

Note = Callable[[str], None]


class Journey:
    """Moves one task along and shows how far it is, on standard error.

    Args:
        client: The server.
        quiet: Whether to show nothing.
    """

    def __init__(self, client: VolcalClient, *, quiet: bool = False) -> None:
        self._client = client
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def note(self, line: str) -> None:
        """Show a line."""
        self.console.print(line, markup=False)

    def upload(self, task: TaskStatus, files: Mapping[str, Path]) -> None:
        """Send what the server does not have yet.

        Args:
            task: The task as it stands.
            files: By label.

        Raises:
            TaskFailed: If the server refuses a file once it has looked at it.
        """
        if not files:
            return
        labels = in_sending_order(files)
        sizes = {label: files[label].stat().st_size for label in labels}
        with self._bars(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as bars:
            rows = {label: bars.add_task(files[label].name, total=sizes[label]) for label in labels}
            for label in labels:
                self._upload_one(task, label, files[label], _advance(bars, rows[label]))
                bars.update(rows[label], completed=sizes[label])
                if not self.console.is_terminal:
                    self.note(f"uploaded {files[label].name} ({sizes[label]:,} bytes)")
                self._stop_if_failed(task.id)

    def _upload_one(self, task: TaskStatus, label: str, path: Path, progress: Callable[[int, int], None]) -> None:
        known = task.uploads.get(label)
        if known is not None and known.state == "finished" and known.size == path.stat().st_size:
            return
        url = known.url if known is not None and known.state == "open" and known.filename == path.name else None
        self._client.upload(
            url or self._client.fresh_upload(task.id, label, filename=path.name), path, progress=progress
        )

    def _stop_if_failed(self, task_id: str) -> None:
        now = self._client.task(task_id)
        if now.status in {"error", "killed"}:
            raise TaskFailed(now.status, now.error or {})

    def wait(self, task_id: str) -> TaskStatus:
        """Wait until the task is done.

        Raises:
            TaskFailed: If it ends without a result.
        """
        shown = ""
        with self._bars(TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(), TimeRemainingColumn()) as bars:
            row = bars.add_task("waiting", total=1.0)

            def show(task: TaskStatus) -> None:
                nonlocal shown
                stage = _stage(task)
                bars.update(row, description=stage, completed=1.0 if task.status == "done" else task.progress)
                if stage != shown and not self.console.is_terminal:
                    self.note(f"{stage} ({task.progress:.0%})")
                shown = stage

            return self._client.wait(task_id, on_status=show)

    def fetch(self, task_id: str, folder: Path) -> list[Path]:
        """Download the result files and return them."""
        with self._bars(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as bars:
            row = bars.add_task("results", total=None)
            found = self._client.fetch(task_id, folder, progress=_advance(bars, row))
        if not self.console.is_terminal:
            self.note(f"downloaded {len(found)} files")
        return found

    @contextmanager
    def _bars(self, *columns: ProgressColumn) -> Iterator[Progress]:
        name = TextColumn("{task.description:<20}", markup=False)
        with Progress(
            name, BarColumn(), *columns, console=self.console, disable=not self.console.is_terminal, transient=False
        ) as bars:
            yield bars


def _advance(bars: Progress, row: TaskID) -> Callable[[int, int], None]:
    return lambda done, total: bars.update(row, completed=done, total=total)


def _stage(task: TaskStatus) -> str:
    if task.status == "pending":
        return "queued" if not task.queue_position else f"queued, number {task.queue_position}"
    fetched = [label for label, upload in task.uploads.items() if upload.source and upload.state == "open"]
    if task.status == "waiting" and fetched:
        return f"fetching {', '.join(fetched)}"
    if task.status == "waiting" and task.missing:
        return f"waiting for {', '.join(task.missing)}"
    return task.stage or task.status
