"""The client: create a task, send its files, wait, fetch what came out."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx

from app.client.errors import Refused, TaskFailed, WaitedTooLong
from app.client.fetching import fetch_all
from app.client.following import Event, LogPage, follow
from app.client.models import Artifact, TaskStatus
from app.client.sending import Progress, in_sending_order, send
from app.client.transport import Patience, Transport

_POLL_S = 0.5
_LONGEST_POLL_S = 5.0
_GONE = 404


def _silent(_done: int, _total: int) -> None:
    """Report to nobody."""


class VolcalClient:
    """Talks to one server; use it in a ``with`` block.

    All methods but ``upload`` and ``fetch`` raise ``Refused`` and ``Unreachable``; those say what else.

    Args:
        server: The server's base URL.
        key: Sent as a bearer token, to this server only: ``volcal keys create`` made it.
        token: The same, by its former name.
        patience_s: Seconds that the server, or the line to it, may be away at a stretch.
        transport: Instead of the network, for tests.
    """

    def __init__(
        self,
        server: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        token: str | None = None,
        patience_s: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = Transport(server, key=key or token, patience_s=patience_s, transport=transport)

    @property
    def server(self) -> str:
        """The server's base URL."""
        return self._http.server

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close all connections."""
        self._http.close()

    def create(
        self,
        pipeline: str = "volume_change",
        *,
        options: Mapping[str, Any] | None = None,
        name: str = "",
        inputs: Mapping[str, str] | None = None,
    ) -> TaskStatus:
        """Create a task; ``uploads`` of the answer has an upload URL for each required file.

        However often the line breaks, it is one task.

        Args:
            pipeline: What to run.
            options: Options of the pipeline.
            name: For people.
            inputs: By label, URLs of files that the server is to fetch.
        """
        body: dict[str, Any] = {"pipeline": pipeline, "options": dict(options or {}), "name": name}
        if inputs:
            body["inputs"] = dict(inputs)
        return TaskStatus.model_validate(self._http.call("POST", "/api/v1/tasks", json=body, key=str(uuid4())))

    def submit(
        self,
        files: Mapping[str, Path],
        pipeline: str = "volume_change",
        *,
        options: Mapping[str, Any] | None = None,
        name: str = "",
        on_progress: Callable[[str, int, int], None] = lambda *_: None,
    ) -> TaskStatus:
        """Create a task and send its files, one after another; it starts once it has what it needs.

        Args:
            files: By label; optional ones (``dbf``, ``prj``) are sent first, so that the run has them.
            pipeline: What to run.
            options: Of the pipeline.
            name: For people.
            on_progress: Told a label, the bytes of its file that are sent, and those in all.

        Raises:
            TransferFailed: If a file changes while it is sent.
            TaskFailed: If the server refuses a file once it has looked at it.
        """
        task = self.create(pipeline, options=options, name=name)
        for label in in_sending_order(files):
            path = files[label]
            url = self.fresh_upload(task.id, label, filename=path.name)
            self.upload(url, path, progress=partial(on_progress, label))
            task = self.task(task.id)
            if task.is_settled and task.status != "done":
                raise TaskFailed(task.status, task.error or {})
        return task

    def task(self, task_id: str) -> TaskStatus:
        """Look at a task."""
        return TaskStatus.model_validate(self._http.call("GET", f"/api/v1/tasks/{task_id}"))

    def tasks(self, *, status: str | None = None, pipeline: str | None = None) -> Iterator[TaskStatus]:
        """Yield tasks, newest first: all that the key sees, or those in one state or of one pipeline."""
        asked = {"status": status, "pipeline": pipeline, "limit": 200, "cursor": None}
        while True:
            query = httpx.QueryParams({name: value for name, value in asked.items() if value is not None})
            page = self._http.call("GET", f"/api/v1/tasks?{query}")
            yield from (TaskStatus.model_validate(item) for item in page["tasks"])
            if page["next"] is None:
                return
            asked["cursor"] = page["next"]

    def query(self, task_id: str) -> dict[str, Any]:
        """Return status and results as the mobile client sees them."""
        answer: dict[str, Any] = self._http.call("GET", f"/query_task/{task_id}")
        return answer

    def fresh_upload(self, task_id: str, label: str, *, filename: str = "") -> str:
        """Return a new upload URL for a file; what was sent for it before no longer counts."""
        path = f"/api/v1/tasks/{task_id}/uploads/{label}"
        answer: dict[str, Any] = self._http.call("POST", path, json={"filename": filename})
        return str(answer["url"])

    def upload(self, url: str, path: Path, *, progress: Progress = _silent) -> None:
        """Send a file to an upload URL; continues what was begun, also by another process before.

        Args:
            url: The upload.
            path: The file.
            progress: Told the bytes sent and the bytes in all.

        Raises:
            Refused: If the server says no for good.
            Unreachable: If nothing arrives for ``patience_s`` seconds.
            TransferFailed: If the upload belongs to another file, or the file changes meanwhile.
        """
        send(self._http.uploads, url, path, patience=Patience(self._http.patience_s), progress=progress)

    def start(self, task_id: str) -> TaskStatus:
        """Start a task whose files are all there; usually it has started by itself."""
        return TaskStatus.model_validate(self._http.call("POST", f"/api/v1/tasks/{task_id}/start"))

    def cancel(self, task_id: str) -> TaskStatus:
        """Stop a task; a run ends within seconds."""
        return TaskStatus.model_validate(self._http.call("POST", f"/api/v1/tasks/{task_id}/cancel"))

    def restart(self, task_id: str, *, options: Mapping[str, Any] | None = None) -> TaskStatus:
        """Run a task again that failed or was stopped, with other options if some are given."""
        body = {"options": None if options is None else dict(options)}
        return TaskStatus.model_validate(self._http.call("POST", f"/api/v1/tasks/{task_id}/restart", json=body))

    def delete(self, task_id: str) -> None:
        """Stop a task if it runs, and delete it with all of its files; one that is gone already is no error."""
        try:
            self._http.call("DELETE", f"/api/v1/tasks/{task_id}")
        except Refused as error:
            if error.status != _GONE:
                raise

    def wait(
        self,
        task_id: str,
        *,
        on_status: Callable[[TaskStatus], None] = lambda _: None,
        timeout_s: float | None = None,
    ) -> TaskStatus:
        """Wait until a task is done; outages shorter than ``patience_s`` pass unnoticed.

        Args:
            task_id: The task.
            on_status: Told after each look.
            timeout_s: How long to wait at most; None waits for ever.

        Raises:
            TaskFailed: If it ends without a result.
            WaitedTooLong: If it is not over in time.
            Refused: If there is no such task.
            Unreachable: If the server stays away.
        """
        begin, pause = time.monotonic(), _POLL_S
        while True:
            task = self.task(task_id)
            on_status(task)
            if task.status == "done":
                return task
            if task.is_settled:
                raise TaskFailed(task.status, task.error or {})
            if timeout_s is not None and time.monotonic() - begin + pause > timeout_s:
                raise WaitedTooLong(task_id, timeout_s)
            time.sleep(pause)
            pause = min(pause * 1.2, _LONGEST_POLL_S)

    def events(self, task_id: str) -> Iterator[Event]:
        """Yield what happens to a task until it has ended; a line that breaks is taken up where it broke.

        Where there is no stream, as behind some proxies, the server is asked now and then instead.
        """
        return follow(self._http, task_id)

    def logs(self, task_id: str, *, line: int = 0, limit: int = 500) -> LogPage:
        """Return lines of a task's log; ``next`` of the page is the line to go on with."""
        page = self._http.call("GET", f"/api/v1/tasks/{task_id}/logs?line={line}&limit={limit}")
        return LogPage.model_validate(page)

    def results(self, task_id: str) -> dict[str, Any]:
        """Return the result document of a task that is done."""
        document: dict[str, Any] = self._http.call("GET", f"/api/v1/tasks/{task_id}/results")
        return document

    def artifacts(self, task_id: str) -> list[Artifact]:
        """List the files of a result, with a fresh link each."""
        listing = self._http.call("GET", f"/api/v1/tasks/{task_id}/artifacts")
        return [Artifact.model_validate(item) for item in listing["artifacts"]]

    def fetch(self, task_id: str, folder: Path, *, parallel: int = 4, progress: Progress = _silent) -> list[Path]:
        """Fetch every file of a result; what is there already is not fetched again.

        Args:
            task_id: The task.
            folder: Where to put the files.
            parallel: How many requests at once; with more than one, a file of 32 MiB or more comes in ranges.
            progress: Told the bytes that are here and the bytes in all; called by several threads in turn.

        Raises:
            Refused: If the task is not done.
            Unreachable: If no byte comes for ``patience_s`` seconds.
            TransferFailed: If a file is not what the server says, or changes meanwhile.
        """
        return fetch_all(
            self._http.files,
            lambda: self.artifacts(task_id),
            folder,
            parallel=parallel,
            patience_s=self._http.patience_s,
            progress=progress,
        )
