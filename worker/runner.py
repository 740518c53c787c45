"""One task from lease to verdict: fetch, supervise, store, and say how it ended."""

import logging
import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from app.context import Context
from app.db.session import UnitOfWork
from app.domain import failures, keys
from app.observe import logs, tracing
from app.services import runs
from app.services.runs import Lease, Verdict
from pipeline.child import RunSpec
from pipeline.errors import Defect, StorageFull
from worker.runs.lookout import Lookout, TransferEnded
from worker.runs.pulse import Pulse
from worker.runs.scratch import scratch_folder
from worker.runs.stages import Stages
from worker.runs.supervisor import Ending, EndKind, Limits, supervise

log = logging.getLogger(__name__)

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
    """

    scratch: Path
    limits: Limits
    heartbeat_s: float = 2.0
    stopping: Callable[[], bool] = lambda: False
    name: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")


def run_task(context: Context, task_id: UUID, here: Surroundings) -> EndKind | None:
    """Run one task if it is pending; every end is recorded, and nothing is left behind.

    Args:
        context: The application's parts.
        task_id: Which task.
        here: Where and how.

    Returns:
        How the run ended; None if there was nothing to do, since a doorbell may ring twice.
    """
    lease = _acquire(context, task_id, here)
    if lease is None:
        log.info("not pending: nothing to do", extra={"task_id": str(task_id)})
        return None
    with logs.about(task_id=str(task_id), attempt=lease.attempt, worker=here.name):
        return _run(context, lease, here)


def _run(context: Context, lease: Lease, here: Surroundings) -> EndKind:
    log.info("taken", extra={"pipeline": lease.pipeline})
    stages = Stages()

    def beat(fraction: float, stage: str) -> Verdict:
        with context.unit_of_work() as work:
            verdict = runs.heartbeat(
                work, lease, progress=fraction, stage=stage, now=work.now(), lease_s=context.policy.lease_s
            )
            work.commit()
            return verdict

    with Pulse(beat, every_s=here.heartbeat_s) as pulse:
        ending = _attempt(context, lease, here, pulse, stages)
        stages.end()
        if ending.kind is EndKind.VANISHED:
            pulse.stop()  # one more beat would renew the lease that is to run out now
        kind = _settle(context, lease, ending, stages)
    _tidy(context, lease, done=kind is EndKind.DONE)
    _tell(ending, kind, stages)
    _trace(lease, here, ending, kind, stages)
    return kind


def _tell(ending: Ending, kind: EndKind, stages: Stages) -> None:
    said = ending.error.get("message", "") or (ending.log[-2000:] if kind is not EndKind.DONE else "")
    about = {
        "code": ending.error.get("code", ""),
        "said": said,
        "seconds": round(stages.seconds, 3),
        "peak_mib": round(ending.peak_mb),
        "stages": {name: round(seconds, 3) for name, seconds in stages.timings.items()},
    }
    log.log(logging.INFO if kind is EndKind.DONE else logging.WARNING, str(kind), extra=about)
    if about["code"] == Defect.code:
        log.error("what the run wrote last:\n%s", ending.log)


def _trace(lease: Lease, here: Surroundings, ending: Ending, kind: EndKind, stages: Stages) -> None:
    if (traces := tracing.active()) is None:
        return
    about = {
        "volcal.task_id": str(lease.task_id),
        "volcal.attempt": lease.attempt,
        "volcal.worker": here.name,
        "volcal.outcome": str(kind),
        "volcal.code": str(ending.error.get("code", "")),
        "volcal.peak_mib": round(ending.peak_mb),
    }
    traces.run(
        f"run {lease.pipeline}",
        (stages.began, stages.began + stages.seconds),
        about,
        task=str(lease.task_id),
        stages=[(stage.name, stage.began, stage.ended) for stage in stages.past],
        failed=kind is not EndKind.DONE,
    )


def _attempt(context: Context, lease: Lease, here: Surroundings, pulse: Pulse, stages: Stages) -> Ending:
    """Run in a scratch folder, which is gone before the end is recorded: a full disk may have room again."""
    try:
        with scratch_folder(here.scratch, f"{lease.task_id}-{lease.fence}") as folder:
            stages.tell("fetching")
            inputs = _fetch(context, lease, folder / "in", Lookout(pulse, here.stopping))
            work = folder / "work"
            work.mkdir()
            spec = RunSpec(pipeline=lease.pipeline, inputs=inputs, outdir=folder / "out", params=lease.options)
            stages.tell("starting")
            ending = supervise(
                spec,
                workdir=work,
                limits=here.limits,
                heartbeat=pulse.tell,
                stopping=here.stopping,
                on_stage=stages.tell,
            )
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


class _Unusable(Exception):
    """A run cannot begin or end; carries the error document."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document["message"])
        self.document = document


def _acquire(context: Context, task_id: UUID, here: Surroundings) -> Lease | None:
    with context.unit_of_work() as work:
        lease = runs.acquire(work, task_id, worker=here.name, now=work.now(), lease_s=context.policy.lease_s)
        work.commit()
        return lease


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
        if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(outdir.resolve()):
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


def _settle(context: Context, lease: Lease, ending: Ending, stages: Stages) -> EndKind:
    """Record how the run ended, patiently; what cannot be recorded ends as a lost run, which is tried again."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with context.unit_of_work() as work:
                kind = _record(work, lease, ending)
                _count(work, lease, ending, kind, stages)
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


def _record(work: UnitOfWork, lease: Lease, ending: Ending) -> EndKind:
    now = work.now()
    match ending.kind:
        case EndKind.DONE:
            kept = runs.finish(work, lease, document=ending.document, artifacts=list(ending.artifacts), now=now)
            return EndKind.DONE if kept else EndKind.LOST
        case EndKind.FAILED:
            kept = runs.fail(work, lease, error=ending.error, now=now)
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


def _tidy(context: Context, lease: Lease, *, done: bool) -> None:
    """Delete what attempts that did not count have stored; failing to do so costs only space."""
    useless = range(1, lease.fence) if done else (lease.fence,)
    for fence in useless:
        with suppress(Exception):
            context.store.delete_prefix(keys.output_key(lease.task_id, fence, ""))
