"""Points of a PLY file, text or binary of either byte order, in local metres."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipeline.formats.inspect_text import PlyHeader
from pipeline.formats.raw import BLOCK_BYTES, CHUNK, Array, Classes, Collector, Frame, RawCloud, Sink
from pipeline.formats.source import Source
from pipeline.formats.xyz import Columns, read_lines

_LINEAR = (np.ones(3), np.zeros(3))


def read_ply(source: Source, header: PlyHeader, frame: Frame, into: Sink | None = None) -> RawCloud:
    """Read the vertices; those with a NaN or infinite coordinate are counted as broken and left out.

    If ``into`` is given, it takes the points, and the result holds the tallies.

    Raises:
        InputInvalid: If the file ends before its last vertex.
    """
    names = [name for name, _ in header.columns]
    classes_in = header.class_column
    if header.order == "a":
        places = (names.index("x"), names.index("y"), names.index("z"))
        columns = Columns(places, None if classes_in is None else names.index(classes_in))
        cloud, rows = read_lines(source, header.body_at, header.count, columns, frame, into)
        if rows < header.count:
            raise source.truncated(f"it has {rows:,} of {header.count:,} points")
        return cloud
    layout = np.dtype([(name, ("|" if code[1] == "1" else header.order) + code) for name, code in header.columns])
    collector = Collector(frame, header.count, classified=classes_in is not None, into=into)
    step = max(1, min(CHUNK, BLOCK_BYTES // layout.itemsize))
    for start in range(0, header.count, step):
        rows = min(step, header.count - start)
        data = source.read(header.body_at + start * layout.itemsize, rows * layout.itemsize)
        if len(data) < rows * layout.itemsize:
            raise source.truncated(f"it has fewer than its {header.count:,} points")
        records = np.frombuffer(data, layout)
        classes = None if classes_in is None else _as_classes(records[classes_in])
        with np.errstate(invalid="ignore", over="ignore"):
            collector.add((records["x"], records["y"], records["z"]), _LINEAR, classes)
    return collector.done()


def sample(source: Source, header: PlyHeader) -> Array:
    """Return finite points from the file's beginning, file units, shape (n, 3)."""
    rows = min(header.count, 1000)
    read = read_ply(source, replace(header, count=rows), Frame(np.ones(3), np.zeros(3)))
    return read.points


def stored_step(source: Source, header: PlyHeader) -> float:
    """Return the coarsest step between neighbouring numbers that the file can hold, file units; 0 if exact."""
    kinds = dict(header.columns)
    if header.order == "a" or all(kinds[axis] != "f4" for axis in "xyz"):
        return 0.0
    points = np.abs(sample(source, header))
    return float(np.spacing(np.float32(np.median(points, axis=0).max()))) if len(points) else 0.0


def _as_classes(column: NDArray[np.generic]) -> Classes:
    numbers = np.nan_to_num(column.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    classes: Classes = np.clip(numbers, 0, 255).astype(np.uint8)
    return classes
