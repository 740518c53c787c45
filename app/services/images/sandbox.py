"""Starts the process that decodes images, ends it in time, and reads what it says with suspicion."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.services.images.parts import Until
from pipeline import guard

log = logging.getLogger(__name__)

_KEPT = {"PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH"}
_KEPT_PREFIXES = ("PYTHON", "COVERAGE")
_TAIL = 4000
_CPU_MARGIN_S = 5
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a job.

    Args:
        found: What was found, image by image.
        at: Number of the image at which it ended badly; None if it did not begin any.
        error: What the process says of its end; None if it said nothing.
        how: How the process ended, if not well: ``timeout``, or its exit status. None if well.
    """

    found: tuple[list[dict[str, Any]], ...]
    at: int | None = None
    error: Mapping[str, Any] | None = None
    how: str | None = None


def run(job: Mapping[str, Any], folder: Path, until: Until) -> Report:
    """Run ``pipeline.images`` on a job; no process of it is left afterwards.

    Args:
        job: As ``pipeline.images.child`` reads it.
        folder: An empty folder of this job's own.
        until: When it must be done.

    Raises:
        Stopped: If the request is to be given up.
    """
    path, out, err = (folder / name for name in ("job.json", "events", "log"))
    path.write_text(json.dumps({**job, "cpu_s": int(until.left_s()) + _CPU_MARGIN_S}))
    with out.open("wb") as events, err.open("wb") as told:
        process = subprocess.Popen(
            # -P: the working folder holds strangers' files, none of which may be imported
            [sys.executable, "-P", "-m", "pipeline.images", str(path)],
            cwd=folder,
            env=_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=events,
            stderr=told,
            start_new_session=True,
        )
        try:
            how = _wait(process, until)
        finally:
            process.kill()  # no harm if it has ended
            process.wait()
            guard.kill_session(process.pid)
    if how is not None and (tail := err.read_text(errors="replace")[-_TAIL:]):
        log.error("an image pipeline ended by %s:\n%s", how, tail)
    return _report(_events(out), how)


def _wait(process: subprocess.Popen[bytes], until: Until) -> str | None:
    """Return how a process ended, None if well; ``timeout`` if it has not."""
    while left_s := until.left_s():
        with suppress(subprocess.TimeoutExpired):
            status = process.wait(timeout=min(left_s, _LOOK_EVERY_S))
            return None if status == 0 else f"exit status {status}" if status > 0 else f"signal {-status}"
    return "timeout"


def _environment(outer: Mapping[str, str]) -> dict[str, str]:
    """Return the process' environment: what Python needs to start, and no secret of the service."""
    kept = {name: value for name, value in outer.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _events(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:  # broken off
                return
            if not isinstance(event, dict):
                return
            yield event


def _report(events: Iterator[dict[str, Any]], how: str | None) -> Report:
    found: list[list[dict[str, Any]]] = []
    at: int | None = None
    error: dict[str, Any] | None = None
    for event in events:
        match event:
            case {"event": "begin", "number": int(number)}:
                at = number
            case {"event": "found", "detections": list(detections)}:
                found.append(detections)
            case {"event": "error"}:
                error = event
    return Report(tuple(found), at, error, how)
