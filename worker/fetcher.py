"""Fetches the files that are named by URLs, beside the reaper, which alone reaches the outside.

What has come of a file lies in a folder of this machine, and its size is how far it is: whoever is killed goes on from
there. On another machine the fetch begins anew.
"""

import fcntl
import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from app.context import Context
from app.domain.errors import NotFound, VolcalError
from app.domain.fetching import FetchProblem, Known, as_problem
from app.observe import logs
from app.services import quotas, uploads
from app.services.intake import fetches, inputs
from app.services.intake.fetches import Claim, Due
from app.services.runs import Verdict
from worker.errands import keep_at, last_words
from worker.runs.pulse import Pulse

log = logging.getLogger(__name__)

_HANDS = 8  # files at a time
_PER_HOST = 4  # a survey's files often lie together
_PER_OWNER = 6
_BEAT_S = 2.0
_SWEEP_S = 3600.0


class _Unwanted(Exception):
    """Nobody wants the file any more, or somebody else has the claim."""


class _Stopped(Exception):
    """The process is to stop."""


def fetch_file(context: Context, upload_id: str, folder: Path, stopping: Callable[[], bool] = lambda: False) -> None:
    """Fetch one file if it is due: all of it, or as much as comes; every end is recorded.

    Args:
        context: The application's parts.
        upload_id: Which.
        folder: Where what has come of it lies.
        stopping: Whether to stop; what has come is kept then.
    """
    claim = fetches.claim(context, upload_id)
    if claim is None:
        return
    path = folder / claim.upload_id
    with logs.about(task_id=str(claim.task_id)), _alone(path) as is_ours:
        if is_ours:  # else one whose claim ran out is still at it, on this machine
            _Fetch(context, claim, path, stopping).run()


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class _Fetch:
    """One file, from claim to verdict."""

    def __init__(self, context: Context, claim: Claim, path: Path, stopping: Callable[[], bool]) -> None:
        self._context = context
        self._claim = claim
        self._path = path
        self._stopping = stopping
        self._known = claim.known
        self._checked = -1
        self._pulse = Pulse(self._beat, every_s=min(_BEAT_S, context.policy.lease_s / 4))

    def run(self) -> None:
        """Fetch, and record how it ended."""
        context, claim = self._context, self._claim
        log.info("fetching", extra={"label": claim.label, "host": claim.host, "bytes": self._path.stat().st_size})
        again = True
        try:
            with self._pulse:
                self._fetch()
            again = False
        except _Stopped:
            fetches.hand_back(context, claim, self._here())
        except (_Unwanted, NotFound):
            again = False
        except FetchProblem as problem:
            again = fetches.put_off(context, claim, problem, self._here())
        except VolcalError as error:  # ours: the URL, the quota
            again = fetches.put_off(context, claim, as_problem(error), self._here())
        except OSError as error:
            log.warning("a fetched file cannot be kept now: %s", error)
            full = FetchProblem("storage", "The server could not keep the file just now.", passing=True)
            again = fetches.put_off(context, claim, full, self._here())
        except Exception:
            log.exception("a fetch failed in a way that it should not", extra={"host": claim.host})
            defect = FetchProblem("defect", "The server's log has more.", passing=True)
            again = fetches.put_off(context, claim, defect, self._here())
        if not again:
            self._path.unlink(missing_ok=True)

    def _fetch(self) -> None:
        context, claim = self._context, self._claim
        self._known = inputs.source_of(context, claim.url).fetch(claim.url, self._path, claim.known, self._look)
        self._checked = -1  # other files of its owner have come meanwhile
        self._check_room(self._known.received)
        if not fetches.hold(context, claim, self._known):
            raise _Unwanted
        context.store.adopt(claim.key, self._path, lambda _: self._look(self._known))
        self._pulse.stop()
        if not fetches.hold(context, claim, self._known):  # replaced while it was put away
            context.store.delete_prefix(claim.key)
            raise _Unwanted
        uploads.finished(context, claim.upload_id)

    def _here(self) -> Known:
        """Return what is known, with the bytes that came since the last look."""
        return replace(self._known, received=self._path.stat().st_size)

    def _look(self, known: Known) -> None:
        self._known = known
        if self._stopping():
            raise _Stopped
        if self._pulse.verdict is not Verdict.CONTINUE:
            raise _Unwanted
        self._check_room(max(known.length or 0, known.received))

    def _check_room(self, size: int) -> None:
        """Refuse a file for which its owner, or the disk, has no room; asked anew as it turns out to be larger."""
        if size <= self._checked:
            return
        context, claim = self._context, self._claim
        quotas.check_file(context, claim.owner, claim.upload_id, size)
        free = shutil.disk_usage(self._path.parent).free
        lacking = max(0, size - self._known.received)
        if free - lacking < context.policy.min_free_bytes:
            raise FetchProblem("storage", "The server's disk has no room for the file just now.", passing=True)
        self._checked = size + (64 << 20 if self._known.length is None else 0)

    def _beat(self, _fraction: float, _stage: str) -> Verdict:
        return Verdict.CONTINUE if fetches.hold(self._context, self._claim, self._known) else Verdict.LOST


class Fetcher:
    """Looks for files that are to be fetched, and fetches each in a thread of its own.

    Several may run at once, on any machine: each file is claimed first. No host and no owner takes all places.

    Args:
        context: The application's parts.
        folder: Where what has come of files lies; made if absent.
        every_s: Seconds between looks.
    """

    def __init__(self, context: Context, folder: Path, *, every_s: float = 1.0) -> None:
        self._context = context
        self._folder = folder
        self._every_s = every_s
        self._lock = threading.Lock()
        self._under_way: dict[str, tuple[Due, threading.Thread]] = {}
        self._swept: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Work until asked to stop; what is under way then goes on at the next start."""

        def look() -> None:
            self._sweep()
            self._send_out(stop)

        keep_at(look, every_s=self._every_s, stop=stop, log=log, failed="nothing is fetched now")
        last_words([thread for _, thread in list(self._under_way.values())])

    def _send_out(self, stop: threading.Event) -> None:
        """Start what is due and has a free hand."""
        with self._lock:
            busy = [due for due, _ in self._under_way.values()]
        if len(busy) >= _HANDS:
            return
        hosts, owners = Counter(due.host for due in busy), Counter(due.owner for due in busy)
        found = fetches.due(
            self._context,
            datetime.now(UTC),
            limit=_HANDS - len(busy),
            but_not=[host for host, count in hosts.items() if count >= _PER_HOST],
            not_for=[owner for owner, count in owners.items() if count >= _PER_OWNER],
            under_way=[due.upload_id for due in busy],
        )
        for due in found:
            if hosts[due.host] < _PER_HOST and owners[due.owner] < _PER_OWNER:
                hosts[due.host] += 1
                owners[due.owner] += 1
                self._start(due, stop)

    def _start(self, due: Due, stop: threading.Event) -> None:
        thread = threading.Thread(target=self._fetch, args=(due, stop), name="fetch", daemon=True)
        with self._lock:
            thread.start()
            self._under_way[due.upload_id] = (due, thread)

    def _fetch(self, due: Due, stop: threading.Event) -> None:
        try:
            fetch_file(self._context, due.upload_id, self._folder, stop.is_set)
        except Exception:
            log.exception("a file was not fetched", extra={"host": due.host})
            time.sleep(self._every_s)  # the database may be away: not at once again
        finally:
            with self._lock:
                del self._under_way[due.upload_id]

    def _sweep(self) -> None:
        """Delete, now and then, what has come of files that nobody wants any more."""
        now = time.monotonic()
        if self._swept is not None and now - self._swept < _SWEEP_S:
            return
        self._swept = now
        self._folder.mkdir(parents=True, exist_ok=True)
        found = {path.name: path for path in self._folder.iterdir()}
        for name in found.keys() - fetches.wanted(self._context, found.keys()):
            with self._lock:
                if name not in self._under_way:
                    found[name].unlink(missing_ok=True)
