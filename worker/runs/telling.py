"""How a run went, for operators: a line of the worker's log, and a span of the traces."""

import logging

from app.observe import tracing
from app.services.runs import Lease
from pipeline.errors import Defect
from worker.runs.stages import Stages
from worker.runs.supervisor import Ending, EndKind

log = logging.getLogger(__name__)


def tell(ending: Ending, kind: EndKind, stages: Stages) -> None:
    """Log how a run ended, where its time went, and what it wrote if it was a defect."""
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


def trace(lease: Lease, worker: str, ending: Ending, kind: EndKind, stages: Stages) -> None:
    """Record a run in the traces, if there are any."""
    if (traces := tracing.active()) is None:
        return
    about = {
        "volcal.task_id": str(lease.task_id),
        "volcal.attempt": lease.attempt,
        "volcal.worker": worker,
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
