"""Points of a LAS, LAZ or COPC file, decoded in parallel by lazrs, straight into local metres."""

from struct import unpack_from
from typing import BinaryIO

import lazrs
import numpy as np

from pipeline.formats.inspect_las import VARIABLE_CHUNKS, LasFacts, Laszip
from pipeline.formats.raw import BLOCK_BYTES, CHUNK, Array, Collector, Frame, RawCloud, Sink
from pipeline.formats.source import AGAIN_REMEDY, Source

_NEEDED = (
    lazrs.SELECTIVE_DECOMPRESS_XY_RETURNS_CHANNEL
    | lazrs.SELECTIVE_DECOMPRESS_Z
    | lazrs.SELECTIVE_DECOMPRESS_CLASSIFICATION
    | lazrs.SELECTIVE_DECOMPRESS_FLAGS
)
_SLACK_M = 1.0


def read_las(
    source: Source, facts: LasFacts, frame: Frame, into: Sink | None = None, *, span: range | None = None
) -> RawCloud:
    """Read every point that is neither withheld nor noise.

    Points of overlapping flight lines stay: they are sound measurements.

    Args:
        source: The file.
        facts: What :func:`pipeline.formats.inspect_las.inspect_las` found.
        frame: File units to local metres.
        into: Where the points go instead of into the result.
        span: Numbers of the points to read; None = all.

    Raises:
        InputInvalid: If the compressed data are damaged, or decode to points outside the header's bounds.
    """
    span = range(facts.count) if span is None else span
    collector = Collector(frame, len(span), classified=True, into=into)
    linear = (np.array(facts.bounds.scales), np.array(facts.bounds.offsets))
    low, high = _limits(facts, frame)
    decode = _decoder(source, facts, span.start)
    step = min(CHUNK, len(span), BLOCK_BYTES // facts.record_bytes)
    buffer = bytearray(step * facts.record_bytes)
    done = 0
    while done < len(span):
        rows = min(step, len(span) - done)
        part = memoryview(buffer)[: rows * facts.record_bytes]
        decode(part)
        done += rows
        records = np.frombuffer(part, np.uint8).reshape(rows, facts.record_bytes)
        least, greatest = collector.add_las(records, facts.point_format >= 6, linear)
        if (least < low).any() or (greatest > high).any():
            raise source.invalid(
                "is damaged: it has points outside the bounds that its own header states",
                AGAIN_REMEDY + " If the header is wrong, `las2las` or `pdal translate` writes it anew.",
            )
    return collector.done()


def _limits(facts: LasFacts, frame: Frame) -> tuple[Array, Array]:
    """Return the header's bounds, local metres, widened for rounding; infinite if the header leaves them at 0."""
    low, high = np.array(facts.bounds.low), np.array(facts.bounds.high)
    if not low.any() and not high.any():
        return np.full(3, -np.inf), np.full(3, np.inf)
    slack = _SLACK_M + 0.01 * (high - low) * frame.scale
    return low * frame.scale - frame.origin - slack, high * frame.scale - frame.origin + slack


class _Plain:
    """Fills buffers with uncompressed points."""

    def __init__(self, source: Source, at: int) -> None:
        self._source, self._at = source, at

    def __call__(self, part: memoryview) -> None:
        data = self._source.read(self._at, len(part))
        if len(data) < len(part):
            raise self._source.truncated("its points end early")
        part[:] = data
        self._at += len(part)


class _Compressed:
    """Fills buffers with decompressed points."""

    def __init__(self, source: Source, facts: LasFacts, laszip: Laszip, first: int) -> None:
        self._source = source
        selection = lazrs.DecompressionSelection(_NEEDED)
        with _Guard(source):
            largest = _check_chunks(source, facts, laszip) if laszip.chunk_points else facts.count
            _rewind(source.stream, facts.points_at)
            if laszip.chunk_points and largest * facts.record_bytes <= BLOCK_BYTES:  # larger chunks are streamed
                self._lazrs = lazrs.ParLasZipDecompressor(source.stream, _honest(laszip, largest), selection)
            else:
                self._lazrs = lazrs.LasZipDecompressor(source.stream, laszip.record, selection)
            if first:
                self._lazrs.seek(first)

    def __call__(self, part: memoryview) -> None:
        with _Guard(self._source):
            self._lazrs.decompress_many(part)


def _decoder(source: Source, facts: LasFacts, first: int) -> _Plain | _Compressed:
    """Return what fills buffers with points, beginning with the one of this number."""
    if facts.laszip is None:
        return _Plain(source, facts.points_at + first * facts.record_bytes)
    return _Compressed(source, facts, facts.laszip, first)


class _Guard:
    """Turns whatever lazrs raises on damaged data into a refusal; its panics are not even ``Exception``s."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, lazrs.LazrsError | OSError | OverflowError) or (
            error is not None and kind is not None and kind.__name__ == "PanicException"
        ):
            raise self._source.invalid("is damaged: its compressed points cannot be decoded") from error


def _rewind(stream: BinaryIO, at: int) -> None:
    stream.seek(at)


def _honest(laszip: Laszip, largest: int) -> bytes:
    """Return the LASzip record with the chunk size that is really used, since lazrs makes room for all of it."""
    if laszip.chunk_points == VARIABLE_CHUNKS:
        return laszip.record
    return laszip.record[:12] + largest.to_bytes(4, "little") + laszip.record[16:]


def _check_chunks(source: Source, facts: LasFacts, laszip: Laszip) -> int:
    """Hold the chunk table and each chunk's own lengths against the file before lazrs allocates by them.

    Returns:
        The number of points in the largest chunk.
    """
    _rewind(source.stream, facts.points_at)
    table: list[tuple[int, int]] = lazrs.read_chunk_table(source.stream, lazrs.LazVlr(laszip.record))
    at = facts.points_at + 8
    left, largest = facts.count, 0
    for points, size in table:
        rows = points if laszip.chunk_points == VARIABLE_CHUNKS else min(laszip.chunk_points, left)
        if rows == 0 == size:  # some writers end with an empty chunk
            continue
        left -= rows
        largest = max(largest, rows)
        sound = 0 < size <= laszip.table_at - at and rows > 0 and left >= 0
        if sound and laszip.layered:
            head = source.read(at + facts.record_bytes, 4 + 4 * laszip.layers)
            if len(head) == 4 + 4 * laszip.layers:
                stated, *lengths = unpack_from(f"<{1 + laszip.layers}I", head)
                sound = stated == rows and facts.record_bytes + len(head) + sum(lengths) <= size
            else:
                sound = False
        if not sound:
            raise source.invalid("is damaged: its compressed chunks contradict their table")
        at += size
    if left != 0 or at != laszip.table_at:
        raise source.invalid("is damaged: its compressed chunks contradict their table")
    return largest
