"""The helper's side: it takes parts of a task that another worker runs, one after the other."""

import logging
import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from app.context import Context
from app.domain import keys
from app.observe import logs
from app.services.runs import Verdict
from app.services.spread import parts
from app.services.spread.parts import Hold
from worker.runner import Surroundings
from worker.runs.pulse import Pulse
from worker.runs.scratch import scratch_folder
from worker.runs.supervisor import Ending, EndKind, supervise
from worker.spread.talk import Talk, is_own

log = logging.getLogger(__name__)

LINGER_S = 120.0  # between two sets of parts a process that has loaded the science waits so long, if nobody else waits
_POLL_S = 0.25


def help_task(context: Context, task_id: UUID, fence: int, here: Surroundings, *, linger_s: float = LINGER_S) -> int:
    """Help with a task for as long as it has parts to do; return how many were done.

    Args:
        context: The application's parts.
        task_id: Which task.
        fence: Of the lease under which it is run.
        here: Where and how.
        linger_s: How long to wait for further parts, seconds, while no task waits for a worker.
    """
    with logs.about(task_id=str(task_id), worker=here.name):
        helping = Helping(context, task_id, fence, here, linger_s)
        if not helping.claim():
            log.info("no help is needed")
            return 0
        with Pulse(helping.beat, every_s=here.heartbeat_s) as pulse:
            ending = _supervised(helping, here, pulse, f"{task_id}-{fence}-help-{os.getpid()}")
            helping.leave(ending)
        log.info("helped", extra={"parts": helping.count, "seconds": round(ending.seconds, 3), "end": str(ending.kind)})
        if ending.kind is EndKind.FAILED:
            log.warning("a helping process has failed: %s\n%s", ending.error.get("message", ""), ending.log)
        return helping.count


def _supervised(helping: "Helping", here: Surroundings, pulse: Pulse, name: str) -> Ending:
    try:
        with scratch_folder(here.scratch, name) as folder:
            helping.folder = folder
            (folder / "work").mkdir()
            return supervise(
                None,
                workdir=folder / "work",
                limits=here.limits,
                heartbeat=pulse.tell,
                stopping=here.stopping,
                conversation=helping,
            )
    except OSError as error:
        log.warning("the worker cannot help: %s", error)
        return Ending(EndKind.VANISHED)


class Helping(Talk):
    """Gives a process parts to do, and stores what it leaves.

    Args:
        context: The application's parts.
        task_id: Which task.
        fence: Of the lease under which it is run.
        here: Where and how.
        linger_s: How long to wait for further parts, seconds.
    """

    def __init__(self, context: Context, task_id: UUID, fence: int, here: Surroundings, linger_s: float) -> None:
        super().__init__()
        self._context = context
        self._task_id = task_id
        self._fence = fence
        self._here = here
        self._linger_s = linger_s
        self._hold: Hold | None = None
        self._fetched: dict[str, Path] = {}
        self.folder = Path()
        self.count = 0

    def claim(self) -> bool:
        """Take a part, if there is one that nobody does."""
        policy = self._context.policy
        with self._context.unit_of_work() as work:
            self._hold = parts.claim(
                work,
                self._task_id,
                self._fence,
                worker=self._here.name,
                now=work.now(),
                lease_s=policy.lease_s,
                attempts=policy.max_attempts,
            )
            work.commit()
        return self._hold is not None

    def beat(self, _fraction: float, _stage: str) -> Verdict:
        """Renew the lease of the part that is held, and learn whether the task still wants help."""
        hold = self._hold
        with self._context.unit_of_work() as work:
            kept = hold is not None and parts.beat(work, hold, now=work.now(), lease_s=self._context.policy.lease_s)
            if not kept and self._hold is not hold:  # it was done meanwhile
                kept = True
            elif hold is None:
                kept = parts.is_wanted(work, self._task_id, self._fence)
            work.commit()
        return Verdict.CONTINUE if kept else Verdict.LOST

    def talk(self) -> None:
        """Have parts done until there are no more for a while."""
        while (hold := self._hold) is not None:
            self._say(self._command(hold))
            event = self._next()
            while event.get("number") != hold.number:
                event = self._next()
            if event.get("event") == "part":
                self._finish(hold, event)
            else:
                log.warning("a part failed here; the run itself will do it", extra={"said": event.get("error")})
                self._hold = None
                self._insist(partial(self._give_back, hold, only_lead=True))
            self._await_more()
        self._say(None)

    def leave(self, ending: Ending) -> None:
        """Give back what is still held: unharmed, or to the lead alone if it was too much for this worker."""
        hold, self._hold = self._hold, None
        if hold is None:
            return
        with suppress(Exception):  # the lease runs out
            self._give_back(hold, only_lead=ending.kind is EndKind.FAILED)

    def _await_more(self) -> None:
        """Take the next part, waiting for it a while."""
        deadline = time.monotonic() + self._linger_s
        while not (self._insist(self._is_free) and self._insist(self.claim)):
            if time.monotonic() > deadline or self._insist(self._is_needed):
                return
            self._wait(_POLL_S)

    def _is_free(self) -> bool:
        """Return whether there is a part that nobody does; does not make writers wait."""
        with self._context.unit_of_work(read_only=True) as work:
            return parts.is_free(work, self._task_id, self._fence, work.now())

    def _is_needed(self) -> bool:
        """Return whether some task waits for a worker, which goes before waiting for this one."""
        with self._context.unit_of_work(read_only=True) as work:
            return parts.is_anybody_waiting(work)

    def _command(self, hold: Hold) -> dict[str, Any]:
        """Fetch what a part needs; return what to say to the process."""
        inputs = {label: self._fetch(hold.inputs[label]) for label in hold.job["inputs"]}
        files = {name: self._fetch(key) for name, key in hold.job["files"].items()}
        outdir = str(self.folder / "out" / str(hold.number))
        about = {"function": hold.job["function"], "arguments": hold.job["arguments"]}
        return {"number": hold.number, **about, "inputs": inputs, "files": files, "outdir": outdir}

    def _fetch(self, key: str) -> str:
        if key not in self._fetched:
            path = self.folder / "in" / str(len(self._fetched))
            path.parent.mkdir(exist_ok=True)
            self._insist(partial(self._context.store.fetch, key, path, self._progress))
            self._fetched[key] = path
        return str(self._fetched[key])

    def _finish(self, hold: Hold, event: dict[str, Any]) -> None:
        """Store what the process left of a part, and say that it is done."""
        files = {}
        folder = self.folder / "out" / str(hold.number)
        for name in event["files"]:
            if not is_own(path := folder / name, folder):
                raise ValueError(f"{name!r} is no file that the part left")
            key = keys.part_key(hold.task_id, hold.fence, f"{hold.number}/{hold.attempt}/{name}")
            self._insist(partial(self._context.store.lend, key, path, self._progress))
            files[name] = key
            path.unlink()
        self._hold = None  # a beat that comes now must not find its lease lost
        self._insist(partial(self._record, hold, event["result"], files))
        self.count += 1

    def _record(self, hold: Hold, result: Any, files: dict[str, str]) -> None:
        with self._context.unit_of_work() as work:
            parts.finish(work, hold, result, files)
            work.commit()

    def _give_back(self, hold: Hold, *, only_lead: bool) -> None:
        attempts = self._context.policy.max_attempts if only_lead else None
        with self._context.unit_of_work() as work:
            parts.give_back(work, hold, attempts=attempts)
            work.commit()
