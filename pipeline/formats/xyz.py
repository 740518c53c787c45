"""Points of a text file, one a line, in local metres."""

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import PipelineError
from pipeline.formats.inspect_text import MAX_HEADER, TextLayout
from pipeline.formats.raw import CHUNK, Array, Collector, Frame, RawCloud, Sink
from pipeline.formats.source import CLOUD_REMEDY, Source

_LINEAR = (np.ones(3), np.zeros(3))
_MOST = 0.5
_LONGEST_LINE = 1_000_000


@dataclass(frozen=True, slots=True)
class Columns:
    """Which numbers of a line are x, y, z and, where given, the ASPRS class."""

    places: tuple[int, int, int]
    classes: int | None = None
    separator: str = ""
    decimal: str = "."


class _Body(io.RawIOBase):
    """The rest of a source from ``start`` on, as a stream for pandas."""

    def __init__(self, source: Source, start: int) -> None:
        super().__init__()
        self._source, self._at, self._line = source, start, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._source.read(self._at, len(buffer))
        newline = max(data.rfind(b"\n"), data.rfind(b"\r"))
        self._line = len(data) - newline if newline >= 0 else self._line + len(data)
        if self._line > _LONGEST_LINE:  # pandas would hold all of it
            raise self._source.invalid("has a line of more than a million characters", CLOUD_REMEDY)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def read_xyz(
    source: Source, layout: TextLayout, frame: Frame, *, max_points: int, into: Sink | None = None
) -> RawCloud:
    """Read every line of at least three numbers; others are counted as broken and left out.

    If ``into`` is given, it takes the points, and the result holds the tallies.

    Raises:
        InputInvalid: If most lines are broken.
        InputTooLarge: If there are more than ``max_points`` lines.
    """
    cloud, rows = read_lines(source, _body_at(source, layout), max_points + 1, _columns(layout), frame, into)
    if rows > max_points:
        raise source.too_large(
            f"has more than {max_points:,} points", "Cut the survey to the area of interest or thin it out."
        )
    if cloud.broken > _MOST * rows:
        raise source.invalid(f"has {cloud.broken:,} lines out of {rows:,} without usable coordinates", CLOUD_REMEDY)
    return cloud


def sample(source: Source, layout: TextLayout) -> Array:
    """Return finite points from the file's beginning, file units, shape (n, 3)."""
    plain = Frame(np.ones(3), np.zeros(3))
    return read_lines(source, _body_at(source, layout), 1000, _columns(layout), plain)[0].points


def _columns(layout: TextLayout) -> Columns:
    return Columns(layout.columns, layout.class_column, layout.separator, layout.decimal)


def _body_at(source: Source, layout: TextLayout) -> int:
    """Return the byte at which the first point's line begins."""
    head = source.read(0, MAX_HEADER)
    if layout.skip == 0:
        return 3 if head.startswith(b"\xef\xbb\xbf") else 0
    return sum(len(line) for line in head.splitlines(keepends=True)[: layout.skip])


def read_lines(
    source: Source, start: int, most: int, columns: Columns, frame: Frame, into: Sink | None = None
) -> tuple[RawCloud, int]:
    """Read up to ``most`` lines from byte ``start`` on; return the cloud and the number of lines read."""
    collector = Collector(frame, min(most, (source.size - start) // 6 + 1, CHUNK), columns.classes is not None, into)
    try:
        rows = _gather(collector, _table(source, start, most, columns, np.float64), columns)
    except PipelineError:
        raise
    except ValueError:  # some word is not a number: slowly, word by word
        collector = Collector(frame, CHUNK, columns.classes is not None, into)
        try:
            rows = _gather(collector, _table(source, start, most, columns, str), columns)
        except PipelineError:
            raise
        except (ValueError, OverflowError) as error:
            raise source.invalid("is text, but not lines of coordinates", CLOUD_REMEDY) from error
    return collector.done(), rows


def _table(source: Source, start: int, most: int, columns: Columns, dtype: Any) -> Any:
    import pandas as pd  # half a second that only surveys in text need

    wanted = [*columns.places, *([] if columns.classes is None else [columns.classes])]
    return pd.read_csv(
        io.BufferedReader(_Body(source, start), 1 << 20),
        sep=columns.separator or r"\s+",
        header=None,
        names=range(max(wanted) + 1),
        index_col=False,
        usecols=sorted(set(wanted)),
        dtype=dtype,
        comment="#",
        decimal=columns.decimal,
        skipinitialspace=True,
        quoting=csv.QUOTE_NONE,
        encoding="latin-1",
        chunksize=CHUNK,
        nrows=most,
        keep_default_na=dtype is not str,
    )


def _gather(collector: Collector, table: Any, columns: Columns) -> int:
    rows = 0
    with table:
        for part in table:
            numbers = part
            if part.dtypes.iloc[0] != np.float64:
                numbers = part.apply(_to_numbers, decimal=columns.decimal)
            xyz: list[Array] = [numbers[place].to_numpy(np.float64) for place in columns.places]
            classes = None
            if columns.classes is not None:
                found = np.nan_to_num(numbers[columns.classes].to_numpy(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
                classes = np.clip(found, 0, 255).astype(np.uint8)
            with np.errstate(invalid="ignore", over="ignore"):
                collector.add((xyz[0], xyz[1], xyz[2]), _LINEAR, classes)
            rows += len(part)
    return rows


def _to_numbers(column: Any, decimal: str) -> Any:
    import pandas as pd

    words = column.str.replace(decimal, ".", regex=False) if decimal != "." else column
    return pd.to_numeric(words, errors="coerce").astype(np.float64)
