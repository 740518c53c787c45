"""The parts of a run, whoever does them."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.contracts import Done, Job, Part, Run
from pipeline.registry import resolve


def do(
    function: str, arguments: Mapping[str, Any], inputs: Mapping[str, Path], files: Mapping[str, Path], outdir: Path
) -> Done:
    """Call the function of a job; what it had left before, if it was begun here already, is forgotten.

    Args:
        function: ``package.module:function``.
        arguments: For it.
        inputs: Paths by label.
        files: Paths by name.
        outdir: Where it leaves its files.

    Raises:
        ValueError: If the function is none of a pipeline's.
    """
    if not function.startswith("pipeline."):
        raise ValueError(f"{function} is no function of a pipeline")
    shutil.rmtree(outdir, ignore_errors=True)
    outdir.mkdir(parents=True)
    result = resolve(function)(Part(inputs, files, outdir), **arguments)
    return Done(result, {path.name: path for path in sorted(outdir.iterdir())})


def spread(run: Run, function: str, jobs: Sequence[Job]) -> Iterator[Done]:
    """Have jobs done by the run's helpers, or here if there are none; see ``pipeline.contracts.Helpers``."""
    return _alone(run, function, jobs) if run.helpers is None else run.helpers.spread(function, jobs)


def _alone(run: Run, function: str, jobs: Sequence[Job]) -> Iterator[Done]:
    outdir = run.outdir / ".part"
    try:
        for job in jobs:
            yield do(function, job.arguments, {label: run.inputs[label] for label in job.inputs}, job.files, outdir)
    finally:
        shutil.rmtree(outdir, ignore_errors=True)
