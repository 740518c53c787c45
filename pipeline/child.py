"""One run in a process of its own: the protocol on standard output, and the promise to leave no process behind."""

import errno
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.contracts import Outcome, Run
from pipeline.errors import Defect, OutOfMemory, PipelineError, StorageFull
from pipeline.registry import CATALOGUE
from pipeline.site import Site
from pipeline.spread.commands import Commands
from pipeline.spread.lead import PARTS, Lead

DONE, DEFECT, UNUSABLE = 0, 1, 2
OUTCOME = "outcome.json"
REPORT_EVERY_S = 0.1
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
_LOW_DISK = 2**20  # native writers say "write failed" in words of their own; a full disk is told by its free space
_LONGEST = 2000


class RunSpec(BaseModel):
    """What to run: the file that ``python -m pipeline run`` reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pipeline: str
    inputs: dict[str, Path]
    outdir: Path
    params: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    step: int = 0
    before: Path | None = None
    facts: dict[str, Any] = Field(default_factory=dict)
    spread: bool = False
    site: Site = Site()


class Protocol:
    """Writes events as JSON lines to where standard output was.

    Native libraries print to file descriptor 1, so that one is pointed at standard error, and the protocol
    keeps a private copy which no program started from here inherits.
    """

    def __init__(self) -> None:
        sys.stdout.flush()
        self._fd = os.dup(1)
        os.dup2(2, 1)
        self._last: tuple[str, float] = ("", -1.0)

    @property
    def fd(self) -> int:
        """The descriptor behind it."""
        return self._fd

    def send(self, event: str, **fields: Any) -> None:
        """Write one event; a reader that has gone away is no error."""
        line = memoryview(json.dumps({"event": event, **fields}, default=str).encode() + b"\n")
        with suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._fd, line) :]

    def report(self, fraction: float, stage: str) -> None:
        """Tell progress: each stage, and within one at most ten times a second."""
        now = time.monotonic()
        if stage == self._last[0] and now - self._last[1] < REPORT_EVERY_S:
            return
        self._last = (stage, now)
        self.send("progress", fraction=_within(fraction), stage=stage[:_LONGEST])


def main(path: Path, protocol: Protocol, commands: Commands | None = None) -> int:
    """Run what the spec at ``path`` says and return the exit status; the outcome lies beside the spec.

    Args:
        path: The spec, JSON as in ``RunSpec``.
        protocol: Where events go.
        commands: The supervisor's answers, if the spec says that the run may spread its parts.

    Returns:
        0 if done, 2 if the input cannot be used or a cap was reached, 1 for a defect (its trace is on stderr).
    """
    outdir = path.parent
    try:
        spec = RunSpec.model_validate_json(path.read_bytes())
        outdir = spec.outdir
        outcome = _run(spec, protocol, commands)
        _write(path.with_name(OUTCOME), outcome)
    except KeyboardInterrupt:
        return 130
    except SystemExit as error:
        return _fail(protocol, Defect(f"The pipeline ended itself ({error.code!r}).", remedy=_REPORT_IT))
    except BaseException as error:  # noqa: BLE001  (panics of native extensions are no Exceptions)
        return _fail(protocol, translate(error, outdir))
    protocol.send("done", outcome=OUTCOME, artifacts=[artifact.name for artifact in outcome.artifacts])
    return DONE


def translate(error: BaseException, outdir: Path) -> PipelineError:
    """Return a run's failure in the words of ``pipeline.errors``.

    Args:
        error: What was raised.
        outdir: Where the run wrote; a full disk there explains failures that do not say so themselves.
    """
    for cause in _chain(error):
        if isinstance(cause, PipelineError):
            return cause
        if isinstance(cause, MemoryError):
            return OutOfMemory(
                "The run needed more memory than it may use.",
                remedy="Crop or thin the surveys, or give the worker more memory.",
            )
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return _storage(f"A file could not be written or read: {os.strerror(cause.errno)}.")
    if isinstance(error, ValidationError):
        fields = ", ".join(".".join(map(str, e["loc"])) for e in error.errors())
        return Defect(f"The run was asked for in a way that it does not understand: {fields}.", remedy=_REPORT_IT)
    with suppress(OSError):
        if shutil.disk_usage(outdir).free < _LOW_DISK:
            return _storage(f"The disk is full ({type(error).__name__}).")
    return Defect(f"The run failed unexpectedly: {type(error).__name__}: {error}"[:_LONGEST], remedy=_REPORT_IT)


_REPORT_IT = "This is a defect; please report it with the worker's log."


def _storage(message: str) -> StorageFull:
    return StorageFull(message, remedy="Free space on the worker's disk, then restart the task.")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _run(spec: RunSpec, protocol: Protocol, commands: Commands | None) -> Outcome:
    params = CATALOGUE[spec.pipeline].params.model_validate(spec.params)
    spec.outdir.mkdir(parents=True, exist_ok=True)
    protocol.report(0.0, "starting")
    runner = CATALOGUE.load(spec.pipeline, spec.step)
    parts = spec.outdir / PARTS
    helpers = Lead(protocol.send, commands, spec.inputs, parts) if spec.spread and commands is not None else None
    run = Run(spec.inputs, spec.outdir, spec.seed, protocol.report, spec.before, spec.facts, helpers, spec.site)
    try:
        return runner(run, params)
    finally:
        shutil.rmtree(parts, ignore_errors=True)


def _write(path: Path, outcome: Outcome) -> None:
    document: Mapping[str, Any] = {
        "document": outcome.document,
        "artifacts": [
            {"name": artifact.name, "media_type": artifact.media_type, "title": artifact.title}
            for artifact in outcome.artifacts
        ],
    }
    partial = path.with_name(f".{path.name}.part")
    with partial.open("w") as stream:
        json.dump(document, stream, allow_nan=False)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)


def _fail(protocol: Protocol, error: PipelineError) -> int:
    # The trace costs memory, and there may be none left: the event goes first.
    protocol.send("error", **error.document())
    if not isinstance(error, Defect):
        return UNUSABLE
    with suppress(MemoryError, OSError):
        traceback.print_exc()
    return DEFECT


def _within(fraction: float) -> float:
    return round(min(max(float(fraction), 0.0), 1.0), 4) if fraction == fraction else 0.0  # NaN is not itself


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn an interrupt that comes outside of ``main`` into a quiet end."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
