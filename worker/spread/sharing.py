"""The lead's side: it writes down parts for others, and answers its run which to do and what others have left."""

import logging
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from app.context import Context
from app.domain import keys
from app.services.runs import Lease
from app.services.spread import parts
from pipeline.spread.lead import PARTS
from worker.spread.talk import Over, Talk, is_own

log = logging.getLogger(__name__)

_POLL_S = 0.25


class Sharing(Talk):
    """Shares the parts of one run out.

    To be helped is a bonus: whatever of it fails, the run does its parts by itself.

    Args:
        context: The application's parts.
        lease: The lead's.
        outdir: The run's folder: nothing outside is lent, and what others left goes where the run looks for it.
        helpers: How many workers to call for each set of parts.
        queue: Where to call them.
    """

    def __init__(self, context: Context, lease: Lease, outdir: Path, *, helpers: int, queue: str) -> None:
        super().__init__()
        self._context = context
        self._lease = lease
        self._outdir = outdir
        self._helpers = helpers
        self._queue = queue
        self._jobs: list[dict[str, Any]] = []
        self._keys: dict[str, str] = {}  # of the run's files that are in the store
        self._shared: set[int] = set()

    def talk(self) -> None:
        """Answer until the run ends."""
        while True:
            event = self._next()
            match event.get("event"):
                case "job":
                    self._jobs.append(event)
                case "spread":
                    jobs, self._jobs = self._jobs, []
                    self._share(event["first"], event["count"], jobs)
                case "next":
                    self._say(self._answer(event["wanted"], event["last"]))

    def tidy(self) -> None:
        """Delete what was shared; failing to do so costs only space until the store is tidied."""
        if not self._shared:
            return
        with suppress(Exception), self._context.unit_of_work() as work:
            parts.forget(work, self._lease.task_id)
            work.commit()
        with suppress(Exception):
            self._context.store.delete_prefix(keys.part_key(self._lease.task_id, self._lease.fence, ""))

    def _share(self, first: int, count: int, jobs: list[dict[str, Any]]) -> None:
        if count < 2:
            return
        try:
            if len(jobs) != count:
                raise ValueError(f"{count - len(jobs)} of {count} parts are described in more words than are heard")
            told = [
                {
                    "function": job["function"],
                    "arguments": job["arguments"],
                    "inputs": job["inputs"],
                    "files": {name: self._lend(path) for name, path in job["files"].items()},
                }
                for job in jobs
            ]
            self._insist(partial(self._announce, first, told))
        except Over:
            raise
        except Exception as error:  # noqa: BLE001  (whatever the store or the database raises)
            log.warning("parts of the run cannot be shared, so it does them by itself: %s", error)
        else:
            self._shared |= set(range(first, first + count))
            log.info("shared", extra={"parts": count, "helpers": self._helpers})

    def _announce(self, first: int, jobs: list[dict[str, Any]]) -> None:
        task_id, fence = self._lease.task_id, self._lease.fence
        with self._context.unit_of_work() as work:
            parts.forget(work, task_id, but=fence)
            parts.announce(work, self._lease, first, jobs)
            calls = min(self._helpers, len(jobs) - 1)
            work.after_commit(partial(self._context.queue.call_helpers, task_id, fence, calls, self._queue))
            work.commit()

    def _lend(self, path: str) -> str:
        """Put a file of the run into the store, once; return its key."""
        if path not in self._keys:
            if not is_own(Path(path), self._outdir):
                raise ValueError(f"{path!r} is no file of the run")
            key = keys.part_key(self._lease.task_id, self._lease.fence, f"lead/{len(self._keys)}")
            self._insist(partial(self._context.store.lend, key, Path(path), self._progress))
            self._keys[path] = key
        return self._keys[path]

    def _answer(self, wanted: int, last: int) -> dict[str, Any]:
        """Wait until there is something to do, or the part that is wanted is done; the lead never waits for more."""
        if wanted not in self._shared:
            return {"do": wanted}
        while True:
            left, free = self._insist(partial(self._look, wanted, last))
            if left is not None:
                return self._fetched(wanted, left)
            if free and (mine := self._insist(partial(self._take, last))) is not None:
                return {"do": mine}
            self._wait(_POLL_S)

    def _look(self, wanted: int, last: int) -> tuple[dict[str, Any] | None, bool]:
        """Return what was left of a part, and whether there is one that nobody does."""
        with self._context.unit_of_work(read_only=True) as work:
            left = parts.left(work, self._lease, wanted)
            return left, left is None and parts.is_free(work, self._lease.task_id, self._lease.fence, work.now(), last)

    def _take(self, last: int) -> int | None:
        with self._context.unit_of_work() as work:
            number = parts.take(work, self._lease, last, work.now())
            work.commit()
            return number

    def _fetched(self, number: int, left: dict[str, Any]) -> dict[str, Any]:
        """Fetch what a helper left of a part; if that is gone, the run has to do it again."""
        outdir = self._outdir / PARTS / str(number)
        outdir.mkdir(parents=True, exist_ok=True)
        files = {}
        for name, key in left["files"].items():
            path = outdir / name
            try:
                self._insist(partial(self._context.store.fetch, key, path, self._progress))
            except FileNotFoundError:
                log.warning("what a helper left is gone, so its part is done again", extra={"part": number})
                return {"do": number}
            files[name] = str(path)
        return {"done": number, "result": left["result"], "files": files}
