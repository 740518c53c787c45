"""The shared pipeline: every part leaves a number and a file, which the run puts together in order."""

import json
import time
from typing import Any

from pipeline.contracts import Artifact, Job, Outcome, Part, Run
from pipeline.errors import InputInvalid
from pipeline.spread.part import spread
from pipeline.testing import SharedParams
from pipeline.testing.run import MISBEHAVIOURS

_SUM = "pipeline.testing.shared:add"


def run(run: Run, params: SharedParams) -> Outcome:
    """Sum the file up in one set of parts, then do the same in another with a file that the run made itself."""
    path = run.inputs.get("file")
    if path is None:
        raise InputInvalid("There is no file.", label="file", remedy="Give one.")
    copy = run.outdir / "copy"
    copy.write_bytes(path.read_bytes())
    sums, text = [], ""
    sources: tuple[dict[str, Any], ...] = ({"inputs": ("file",)}, {"files": {"copy": copy}})
    for number, source in enumerate(sources):
        jobs = [
            Job({"part": part, "of": params.parts, "seconds": params.seconds, "fail": params.fail}, **source)
            for part in range(params.parts)
        ]
        total = 0
        for part, done in enumerate(spread(run, _SUM, jobs)):
            total += done.result
            text += done.files["sum.txt"].read_text()
            run.report((number + (part + 1) / params.parts) / 2, f"summing part {part + 1} of {params.parts}")
        sums.append(total)
    copy.unlink()
    document = {"schema": "volcal/shared/1", "sums": sums, "text": text}
    (run.outdir / "results.json").write_text(json.dumps(document))
    return Outcome(document, (Artifact("results.json", "application/json", "Result document"),))


def add(task: Part, *, part: int, of: int, seconds: float, fail: str) -> int:
    """Sum every so many bytes up; misbehave in the last part if asked to."""
    time.sleep(seconds)
    if fail and part == of - 1:
        MISBEHAVIOURS[fail](Run(task.inputs, task.outdir))
    (path,) = (*task.inputs.values(), *task.files.values())
    total = sum(path.read_bytes()[part::of])
    (task.outdir / "sum.txt").write_text(f"{total} ")
    return total
