"""Decoding: ranges of a LAS or LAZ file are read by different workers, and dealt out to tiles by the run itself."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline.contracts import Done, Helpers, Job, Part, Report
from pipeline.formats.inspect_las import LasFacts, inspect_las
from pipeline.formats.las import read_las
from pipeline.formats.raw import CHUNK, Array, Classes, Frame, RawCloud
from pipeline.formats.source import Source
from pipeline.tiled.store import TileStore

ROUND = 50_000  # points of a chunk as most writers make them: a range that begins within one decodes it twice
FUNCTION = "pipeline.volume_change.parts.reading:decode"

Survey = tuple[Source, LasFacts, Frame, TileStore]


def read_together(helpers: Helpers, surveys: tuple[Survey, Survey], most: int, report: Report) -> list[RawCloud]:
    """Read two files into tiles, range by range, in the order in which one worker reads them.

    Args:
        helpers: Who may decode.
        surveys: The files, what their first bytes say, where the local zero is, and who takes the points.
        most: Points of a tile; a range has twice as many.
        report: Told how far it is.

    Returns:
        What is to be said of each file; its points are in the tiles.
    """
    rows = max(ROUND, 2 * most // ROUND * ROUND)
    jobs = []
    for source, facts, frame, _ in surveys:
        for first in range(0, facts.count, rows):
            span = {"first": first, "count": min(rows, facts.count - first)}
            axes = {"scale": frame.scale.tolist(), "origin": frame.origin.tolist()}
            jobs.append(Job({"label": source.label, **span, **axes}, inputs=(source.label,)))
    ranges = _told(helpers.spread(FUNCTION, jobs), len(jobs), report)
    found = []
    for _, facts, _, store in surveys:
        store.restart()
        whole = RawCloud(np.zeros((0, 3)), None)
        for _ in range(0, facts.count, rows):
            done = next(ranges)
            points = _mapped(done.files["points"], np.float64).reshape(-1, 3)
            classes = _mapped(done.files["classes"], np.uint8)
            for start in range(0, len(points), CHUNK):
                store.take(points[start : start + CHUNK], classes[start : start + CHUNK])
            flagged, broken, told = done.result
            whole = replace(
                whole, flagged=whole.flagged + flagged, broken=whole.broken + broken, told=whole.told or told
            )
        found.append(whole)
    return found


def decode(part: Part, *, label: str, first: int, count: int, scale: list[float], origin: list[float]) -> list[int]:
    """Decode a range of points into local metres; return how many were flagged and broken, and whether any has a class.

    Args:
        part: Holds the file, and takes ``points`` (float64 triples) and ``classes`` (a byte each).
        label: Of the file.
        first: Number of the first point.
        count: How many.
        scale: Of the frame.
        origin: Of the frame.
    """
    path = part.inputs[label]
    with path.open("rb", buffering=1 << 20) as stream:
        source = Source(label, stream, path.stat().st_size)
        facts = inspect_las(source)
        frame = Frame(np.array(scale), np.array(origin))
        with (part.outdir / "points").open("wb") as points, (part.outdir / "classes").open("wb") as classes:
            raw = read_las(source, facts, frame, _Files(points, classes), span=range(first, first + count))
    return [raw.flagged, raw.broken, int(raw.told)]


@dataclass(frozen=True, slots=True)
class _Files:
    """Takes points into two files."""

    points: BinaryIO
    classes: BinaryIO

    def take(self, points: Array, classes: Classes | None) -> None:
        self.points.write(np.ascontiguousarray(points).data)
        self.classes.write(bytes(len(points)) if classes is None else np.ascontiguousarray(classes).data)

    def restart(self) -> None:
        self.points.truncate(0)
        self.classes.truncate(0)


def _mapped(path: Path, kind: type[np.generic]) -> NDArray[Any]:
    """Return what is in a file without a copy of it."""
    return np.asarray(np.memmap(path, kind, "r")) if path.stat().st_size else np.zeros(0, kind)


def _told(ranges: Iterator[Done], count: int, report: Report) -> Iterator[Done]:
    for number, done in enumerate(ranges):
        report(number / count, f"reading part {number + 1} of {count}")
        yield done
