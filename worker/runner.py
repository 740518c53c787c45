"""One task from lease to verdict: fetch, supervise, store, and say how it ended."""

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from app.context import Context
from app.db.session import UnitOfWork
from app.domain import failures, keys
from app.observe import logs
from app.services import runs, steps
from app.services.following import history
from app.services.runs import Lease, Verdict
from app.services.steps import Handed
from pipeline.child import RunSpec
from pipeline.contracts import Step
from pipeline.errors import Defect, StorageFull
from pipeline.site import Site
from worker.runs import telling
from worker.runs.forecast import Forecast
from worker.runs.journal import Journal
from worker.runs.lookout import Lookout, TransferEnded
from worker.runs.pulse import Pulse
from worker.runs.scratch import scratch_folder
from worker.runs.stages import Stages
from worker.runs.supervisor import Ending, EndKind, Limits, supervise
from worker.spread.sharing import Sharing
from worker.spread.talk import is_own

log = logging.getLogger(__name__)

_GONE = Step("run", "A pipeline that is no longer there", "")
_SUFFIX = re.compile(r"\.[a-z0-9]{1,8}")
_PATIENCE_S = 60.0  # for a database that is away just when a run has ended
_PAUSE_S = 1.0
_STORING_GRACE_S = 2.0  # a worker that stops lets small results be stored: hours may have gone into them

Artifact = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where and how this worker runs tasks.

    Args:
        scratch: Folder for runs under way, on the disk of the object store if that is local.
        limits: What one run may use.
        heartbeat_s: Seconds between heartbeats.
        stopping: Whether the worker was asked to stop.
        name: Who runs it, for people to read.
        helpers: How many other workers to call for help with the parts of a run; 0 = none.
        site: What the deployment gives to runs.
        gate: Opens the way out for a run that reads from the web; says at which address.
    """

    scratch: Path
    limits: Limits
    heartbeat_s: float = 2.0
    stopping: Callable[[], bool] = lambda: False
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    helpers: int = 0
    site: Site = field(default_factory=Site)
    gate: Callable[[], AbstractContextManager[str]] = lambda: nullcontext("")

    def way_out(self, step: Step) -> AbstractContextManager[str]:
        """Open the gate if a step needs it."""
        return self.gate() if step.fetches else nullcontext("")


@dataclass(frozen=True, slots=True)
class Turn:
    """One step's turn: the right to run it, and what it begins with.

    Args:
        lease: The right.
        steps: Of the pipeline, in order.
        before: What the step before left; None in the first.
        earlier: By stage, the seconds that earlier runs of the whole task spent in it.
    """

    lease: Lease
    steps: tuple[Step, ...]
    before: Handed | None = None
    earlier: Mapping[str, float] = field(default_factory=dict)

    @property
    def is_last(self) -> bool:
        """Whether the task is done after it."""
        return self.lease.step + 1 == len(self.steps)

    def whole(self, fraction: float) -> float:
        """Return how much of the task is done when this much of the step is."""
        return (self.lease.step + fraction) / len(self.steps)


def run_task(context: Context, task_id: UUID, here: Surroundings, step: int = 0) -> EndKind | None:
    """Run one step of a task if it is pending; every end is recorded, and nothing is left behind.

    Args:
        context: The application's parts.
        task_id: Which task.
        here: Where and how.
        step: Which of its pipeline's steps the doorbell was rung for.

    Returns:
        How the run ended; None if there was nothing to do, since a doorbell may ring twice.
    """
    turn = _acquire(context, task_id, here, step)
    if turn is None:
        log.info("not pending: nothing to do", extra={"task_id": str(task_id)})
        return None
    with logs.about(task_id=str(task_id), attempt=turn.lease.attempt, worker=here.name):
        return _run(context, turn, here)


def _run(context: Context, turn: Turn, here: Surroundings) -> EndKind:
    lease = turn.lease
    log.info("taken", extra={"pipeline": lease.pipeline, "step": turn.steps[lease.step].name})
    journal = Journal(lease.attempt, hidden=[here.scratch / _folder_of(lease), here.scratch])
    stages = Stages(journal.stage)
    forecast = Forecast(stages, turn.earlier)

    def beat(fraction: float, stage: str) -> Verdict:
        with journal.handing_over() as lines, context.unit_of_work() as work:
            now = work.now()
            eta = forecast.at(fraction, now) if turn.is_last else None  # nobody knows when the next step begins
            lease_s, whole = context.policy.lease_s, turn.whole(fraction)
            verdict = runs.heartbeat(work, lease, progress=whole, stage=stage, now=now, lease_s=lease_s, eta_at=eta)
            runs.tell(work, lease, lines)
            work.commit()
            return verdict

    with Pulse(beat, every_s=here.heartbeat_s) as pulse:
        ending = _attempt(context, turn, here, pulse, stages, journal)
        stages.end()
        journal.close()
        journal.say(f"{stages.seconds:.1f} s in all, with at most {ending.peak_mb:.0f} MiB of memory.")
        if ending.kind is EndKind.VANISHED:
            pulse.stop()  # one more beat would renew the lease that is to run out now
        kind = _settle(context, turn, ending, stages, journal)
    _tidy(context, turn, done=kind is EndKind.DONE)
    telling.tell(ending, kind, stages)
    telling.trace(lease, here.name, ending, kind, stages)
    return kind


def _folder_of(lease: Lease) -> str:
    return f"{lease.task_id}-{lease.fence}"


def _attempt(
    context: Context, turn: Turn, here: Surroundings, pulse: Pulse, stages: Stages, journal: Journal
) -> Ending:
    """Run in a scratch folder, which is gone before the end is recorded: a full disk may have room again."""
    lease = turn.lease
    try:
        with (
            scratch_folder(here.scratch, _folder_of(lease)) as folder,
            here.way_out(turn.steps[lease.step]) as gate,
        ):
            stages.tell("fetching")
            lookout = Lookout(pulse, here.stopping)
            inputs = _fetch(context, lease, folder / "in", lookout)
            before = None if turn.before is None else _fetch_before(context, turn.before, folder / "before", lookout)
            work = folder / "work"
            work.mkdir()
            spec = RunSpec(
                pipeline=lease.pipeline,
                inputs=inputs,
                outdir=folder / "out",
                params=lease.options,
                step=lease.step,
                before=before,
                facts={} if turn.before is None else turn.before.document,
                spread=here.helpers > 0,
                site=here.site.model_copy(update={"gate": gate}),
            )
            stages.tell("starting")
            ending = _supervised(context, turn, spec, work, here, pulse, stages, journal)
            if ending.kind is not EndKind.DONE:
                return ending
            stages.tell("storing")
            lookout = Lookout(pulse, here.stopping, reached=1.0, grace_s=_STORING_GRACE_S)
            return replace(ending, artifacts=_store(context, lease, ending, folder / "out", lookout))
    except TransferEnded as ended:
        return Ending(ended.kind)
    except _Unusable as failure:
        return Ending(EndKind.FAILED, error=failure.document)
    except Exception as error:
        log.exception("the worker could not run it")
        remedy = "Look into the worker's log, mend the storage or the disk, then restart the task."
        message = f"The worker could not read or write its files: {type(error).__name__}: {error}"
        return Ending(EndKind.FAILED, error=StorageFull(message[:2000], remedy=remedy).document())


def _supervised(
    context: Context,
    turn: Turn,
    spec: RunSpec,
    workdir: Path,
    here: Surroundings,
    pulse: Pulse,
    stages: Stages,
    journal: Journal,
) -> Ending:
    """Run, sharing parts with others where this worker may."""
    where = turn.steps[turn.lease.step].queue
    sharing = Sharing(context, turn.lease, spec.outdir, helpers=here.helpers, queue=where) if spec.spread else None
    try:
        return supervise(
            spec,
            workdir=workdir,
            limits=here.limits,
            heartbeat=pulse.tell,
            stopping=here.stopping,
            on_stage=stages.tell,
            conversation=sharing,
            on_output=journal.feed,
        )
    finally:
        if sharing is not None:
            sharing.tidy()


class _Unusable(Exception):
    """A run cannot begin or end; carries the error document."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document["message"])
        self.document = document


def _acquire(context: Context, task_id: UUID, here: Surroundings, step: int) -> Turn | None:
    with context.unit_of_work() as work:
        now = work.now()
        lease = runs.acquire(work, task_id, worker=here.name, now=now, lease_s=context.policy.lease_s, step=step)
        if lease is None:
            return None
        spec = context.catalogue.get(lease.pipeline)
        known = (_GONE,) if spec is None else spec.steps
        before = steps.begin(work, lease, now) if len(known) > 1 else None
        earlier = history.stage_seconds(work, lease.pipeline) if len(known) == 1 else {}
        work.commit()
        return Turn(lease, known, before, earlier)


def _fetch(context: Context, lease: Lease, folder: Path, lookout: Lookout) -> dict[str, Path]:
    folder.mkdir()
    formats = {slot.label: slot.formats for slot in context.catalogue[lease.pipeline].inputs}
    inputs: dict[str, Path] = {}
    for label, (key, filename) in lease.inputs.items():
        path = folder / f"{label}{_suffix(filename, formats.get(label, ()))}"
        doing = f"fetching {label}"
        lookout.tell(doing)
        try:
            size = lookout.insist(partial(context.store.size, key)) or 0
            lookout.insist(partial(context.store.fetch, key, path, lookout.progress(doing, of=size)))
        except FileNotFoundError:
            message = f"The file for {label!r} is no longer in the store."
            remedy = "Upload it again."
            raise _Unusable(StorageFull(message, label=label, remedy=remedy).document()) from None
        inputs[label] = path
    return inputs


def _fetch_before(context: Context, before: Handed, folder: Path, lookout: Lookout) -> Path:
    """Fetch what the step before left, under the names that it gave."""
    folder.mkdir()
    done, total = 0, sum(artifact["size"] for artifact in before.artifacts)
    for artifact in before.artifacts:
        path = folder / artifact["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            progress = lookout.progress("fetching results", done, of=total)
            lookout.insist(partial(context.store.fetch, artifact["key"], path, progress))
        except FileNotFoundError:
            message = f"What the step before left is no longer in the store: {artifact['name']}."
            remedy = "Restart the task with its options, so that it begins anew."
            raise _Unusable(StorageFull(message, remedy=remedy).document()) from None
        done += artifact["size"]
    return folder


def _suffix(filename: str, formats: tuple[str, ...]) -> str:
    """Return the ending that readers expect: the user's own, or the only one that there is."""
    own = Path(filename).suffix.lower()
    if _SUFFIX.fullmatch(own):
        return own
    return formats[0] if len(formats) == 1 else ""


def _store(context: Context, lease: Lease, ending: Ending, outdir: Path, lookout: Lookout) -> tuple[Artifact, ...]:
    lookout.tell("storing")
    paths = [outdir / artifact["name"] for artifact in ending.artifacts]
    for artifact, path in zip(ending.artifacts, paths, strict=True):
        if not is_own(path, outdir):
            message = f"The run named a result file that it did not write: {artifact['name']!r}."
            raise _Unusable(Defect(message, remedy="This is a defect; please report it.").document())
    stored, done, total = [], 0, sum(path.stat().st_size for path in paths)
    for artifact, path in zip(ending.artifacts, paths, strict=True):
        key = keys.output_key(lease.task_id, lease.fence, artifact["name"])
        progress = lookout.progress("storing", done, of=total)
        lookout.insist(partial(context.store.put, key, path, progress))
        size = path.stat().st_size
        stored.append({**artifact, "key": key, "size": size})
        done += size
    return tuple(stored)


def _settle(context: Context, turn: Turn, ending: Ending, stages: Stages, journal: Journal) -> EndKind:
    """Record how the run ended, patiently; what cannot be recorded ends as a lost run, which is tried again."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with journal.handing_over() as lines, context.unit_of_work() as work:
                runs.tell(work, turn.lease, lines)
                kind = _record(context, work, turn, ending)
                _count(work, turn.lease, ending, kind, stages)
                work.commit()
                return kind
        except ValueError as error:  # the document is no JSON: waiting will not mend it
            defect = Defect(f"The result cannot be recorded: {error}", remedy="This is a defect; please report it.")
            ending = replace(ending, kind=EndKind.FAILED, error=defect.document())
        except Exception as error:  # noqa: BLE001  (whatever the database raises)
            if time.monotonic() > deadline:
                log.error("the end of the run could not be recorded: %s", error)
                return EndKind.LOST
            time.sleep(_PAUSE_S)


def _record(context: Context, work: UnitOfWork, turn: Turn, ending: Ending) -> EndKind:
    lease, now = turn.lease, work.now()
    match ending.kind:
        case EndKind.DONE:
            left: dict[str, Any] = {"document": ending.document, "artifacts": list(ending.artifacts), "now": now}
            if turn.is_last:
                kept = runs.finish(work, lease, **left)
                steps.end(work, lease, now)
            else:
                kept = steps.hand_on(work, lease, turn.steps, queue=context.queue, **left)
            return EndKind.DONE if kept else EndKind.LOST
        case EndKind.FAILED:
            kept = runs.fail(work, lease, error=ending.error, now=now)
            steps.end(work, lease, now, error=ending.error)
        case EndKind.CANCELLED:
            kept = runs.kill(work, lease, error=failures.cancelled(), now=now)
        case EndKind.STOPPED:
            kept = runs.release(work, lease, now)
        case EndKind.VANISHED:
            # The lease runs out now, so the janitor decides at its next look: another attempt, or enough.
            verdict = runs.heartbeat(work, lease, progress=0.0, stage="lost", now=now, lease_s=0.0)
            kept = verdict is not Verdict.LOST
        case EndKind.LOST:
            kept = False
    return ending.kind if kept else EndKind.LOST


def _count(work: UnitOfWork, lease: Lease, ending: Ending, kind: EndKind, stages: Stages) -> None:
    work.observe("run_seconds", stages.seconds, pipeline=lease.pipeline, outcome=kind)
    if ending.peak_mb:
        work.observe("run_peak_mib", ending.peak_mb, pipeline=lease.pipeline)
    for stage, seconds in stages.timings.items():
        work.observe("run_stage_seconds", seconds, pipeline=lease.pipeline, stage=stage)


def _tidy(context: Context, turn: Turn, *, done: bool) -> None:
    """Delete what attempts that did not count have stored; failing to do so costs only space.

    What a step hands on stays until the last one is done.
    """
    useless = (turn.lease.fence,) if not done else range(1, turn.lease.fence) if turn.is_last else ()
    for fence in useless:
        with suppress(Exception):
            context.store.delete_prefix(keys.output_key(turn.lease.task_id, fence, ""))
