"""Is this LAS, LAZ or COPC file whole, and does its header tell the truth?

Follows the ASPRS LAS 1.4 R15 specification and the LASzip record layout (Isenburg 2013). Every count is held
against the size of the file before anything is allocated for it, since the readers below trust the header.
"""

import math
from dataclasses import dataclass
from struct import unpack_from

from pipeline.formats.source import CLOUD_REMEDY, Source, size_text

MAX_POINTS = 1_000_000_000
MAX_VLRS = 10_000
FORMAT_BYTES = (20, 28, 26, 34, 57, 63, 30, 36, 38, 59, 67)  # record length of point formats 0 to 10
HEADER_BYTES = {0: 227, 1: 227, 2: 227, 3: 235, 4: 375, 5: 393}  # by minor version
_VERSION_AT, _HEADER_SIZE_AT, _SCALE_AT = 24, 94, 131
_FAR = 1e9  # no map coordinate on Earth is that large, in any unit in use
_POINTS_PER_BYTE = 20  # LASzip needs some 10 bits a point for terrain; a bomb needs next to none
_BYTES_PER_BYTE = 1000
VARIABLE_CHUNKS = 2**32 - 1
_CHUNKED, _LAYERED = 2, 3
_ITEM_BYTES = {6: 20, 7: 8, 8: 6, 9: 29, 10: 30, 11: 6, 12: 8, 13: 29}  # bytes by item type; 0 and 14 vary
_REWRITE = "Write the file again, for example with `las2las` or `pdal translate`, and upload that."

_LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}  # streams by item type; type 14 has one for each of its bytes


@dataclass(frozen=True, slots=True)
class LasFacts:
    """What a LAS header says, once it has been found to fit its file.

    Args:
        point_format: 0 to 10.
        record_bytes: Bytes of one uncompressed point.
        count: Points.
        points_at: Byte at which the points begin.
        bounds: Scales, offsets, least and greatest coordinates, in file units.
        projection: Number and content of each record about the coordinate system.
        laszip: How the points are compressed; None if they are not.
    """

    point_format: int
    record_bytes: int
    count: int
    points_at: int
    bounds: "Bounds"
    projection: tuple[tuple[int, bytes], ...]
    laszip: "Laszip | None"


@dataclass(frozen=True, slots=True)
class Bounds:
    """Coordinates of a LAS header, x, y, z each, in file units."""

    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Laszip:
    """The compression of a LAZ file.

    Args:
        record: The LASzip record as it is in the file.
        layered: Whether each attribute has its own stream (point formats 6 and above).
        layers: Streams in a layered chunk.
        chunk_points: Points in a chunk; 2³² − 1 if that varies; 0 if there are no chunks.
        table_at: Byte at which the chunk table begins; 0 if there is none.
    """

    record: bytes
    layered: bool
    layers: int
    chunk_points: int
    table_at: int


def inspect_las(source: Source) -> LasFacts:
    """Check the header, the variable-length records and the extent of the point data.

    Raises:
        InputInvalid: If the file is damaged, cut short, empty of points, or of an unknown version.
        InputTooLarge: If it claims more than :data:`MAX_POINTS` points.
    """
    head = source.read(0, max(HEADER_BYTES.values()))
    if len(head) < HEADER_BYTES[0]:
        raise source.truncated(f"a LAS header has {HEADER_BYTES[0]} bytes, the file has {len(head)}")
    major, minor = head[_VERSION_AT], head[_VERSION_AT + 1]
    if major != 1 or minor not in HEADER_BYTES:
        raise source.invalid(f"is LAS version {major}.{minor}, which does not exist or is not supported", _REWRITE)
    header_bytes, points_at, vlrs, form, record, count = unpack_from("<HIIBHI", head, _HEADER_SIZE_AT)
    if len(head) < HEADER_BYTES[minor]:
        raise source.truncated(f"a LAS 1.{minor} header has {HEADER_BYTES[minor]} bytes, the file has {len(head)}")
    evlrs_at, evlrs = 0, 0
    if minor >= 4:
        evlrs_at, evlrs, count = unpack_from("<QIQ", head, 235)
    if header_bytes < HEADER_BYTES[minor] or points_at < header_bytes:
        raise source.invalid("has a damaged LAS header: its own size is wrong")
    compressed, form = form >= 128, form & 0x3F
    _check_counts(source, form, record, count, points_at)
    bounds = _bounds(source, head)
    records = _walk_vlrs(source, header_bytes, points_at, vlrs) + _walk_evlrs(source, evlrs_at, evlrs)
    projection = tuple((number, data) for owner, number, data in records if owner == b"LASF_Projection")
    laszip = None
    if compressed:
        found = [data for owner, number, data in records if (owner, number) == (b"laszip encoded", 22204)]
        laszip = _check_laszip(source, found[0] if found else b"", form, record, count, points_at)
    elif points_at + count * record > source.size:
        raise source.truncated(
            f"{count:,} points of {record} bytes need {size_text(points_at + count * record)}, "
            f"the file has {size_text(source.size)}"
        )
    return LasFacts(form, record, count, points_at, bounds, projection, laszip)


def _check_counts(source: Source, form: int, record: int, count: int, points_at: int) -> None:
    if form >= len(FORMAT_BYTES):
        raise source.invalid(f"uses LAS point format {form}, which does not exist", _REWRITE)
    if record < FORMAT_BYTES[form]:
        raise source.invalid(f"has a damaged LAS header: points of format {form} take {FORMAT_BYTES[form]} bytes, "
                             f"not {record}")  # fmt: skip
    if count == 0:
        raise source.invalid("is a LAS file without any points", "Check the export: the survey is empty.")
    if count > MAX_POINTS:
        raise source.too_large(
            f"claims {count:,} points in {size_text(source.size)}; at most {MAX_POINTS:,} are accepted",
            "Cut the survey to the area of interest or thin it out. If it is not that large, the file is damaged.",
            points=count,
        )
    if points_at >= source.size:
        raise source.truncated(f"its points begin at byte {points_at:,}, the file has {size_text(source.size)}")


def _bounds(source: Source, head: bytes) -> Bounds:
    numbers = unpack_from("<12d", head, _SCALE_AT)
    scales, offsets = numbers[:3], numbers[3:6]
    high, low = (numbers[6], numbers[8], numbers[10]), (numbers[7], numbers[9], numbers[11])
    if not all(math.isfinite(value) for value in numbers):
        raise source.invalid("has a damaged LAS header: its bounds or scales are not numbers", _REWRITE)
    if not all(1e-12 <= abs(scale) <= 1e3 for scale in scales):
        raise source.invalid(f"has a damaged LAS header: its coordinate scales are {scales}", _REWRITE)
    if any(abs(value) > _FAR for value in (*offsets, *low, *high)):
        raise source.invalid("has a damaged LAS header: its bounds lie off the Earth", _REWRITE)
    if any(a > b for a, b in zip(low, high, strict=True)):
        raise source.invalid("has a damaged LAS header: its lowest coordinates exceed its highest", _REWRITE)
    return Bounds(scales, offsets, low, high)


def _walk_vlrs(source: Source, start: int, end: int, count: int) -> list[tuple[bytes, int, bytes]]:
    """Return owner, number and content of each variable-length record; all lie before the points."""
    if count > MAX_VLRS or start + count * 54 > end:
        raise source.invalid(f"has a damaged LAS header: it claims {count:,} variable-length records")
    if end > min(source.size, 64_000_000):
        raise source.invalid("has a damaged LAS header: its points begin at an impossible place")
    block, at, found = source.read(start, end - start), 0, []
    for _ in range(count):
        if at + 54 > len(block):
            raise source.invalid("has damaged variable-length records")
        owner, number, length = unpack_from("<16sHH", block, at + 2)
        at += 54 + length
        if at > len(block):
            raise source.invalid("has damaged variable-length records")
        found.append((owner.partition(b"\0")[0], number, block[at - length : at]))
    return found


def _walk_evlrs(source: Source, at: int, count: int) -> list[tuple[bytes, int, bytes]]:
    """Return the extended records about the coordinate system; the others are only walked."""
    if count > MAX_VLRS:
        raise source.invalid(f"has a damaged LAS header: it claims {count:,} extended records")
    found = []
    for _ in range(count):
        head = source.read(at, 60)
        if len(head) < 60:
            raise source.truncated("its extended records lie beyond its end")
        owner, number, length = unpack_from("<16sHQ", head, 2)
        at += 60 + length
        if at > source.size:
            raise source.truncated("its extended records lie beyond its end")
        if owner.startswith(b"LASF_Projection\0") and length <= 1_000_000:
            found.append((owner.partition(b"\0")[0], number, source.read(at - length, length)))
    return found


def _check_laszip(source: Source, laszip: bytes, form: int, record: int, count: int, points_at: int) -> Laszip:
    if len(laszip) < 34:
        raise source.invalid("is marked as compressed but lacks the LASzip record", _REWRITE)
    compressor, coder = unpack_from("<HH", laszip, 0)
    chunk = unpack_from("<I", laszip, 12)[0]
    items = unpack_from("<H", laszip, 32)[0]
    if compressor not in (1, _CHUNKED, _LAYERED) or coder != 0 or len(laszip) < 34 + 6 * items or not 0 < items < 12:
        raise source.invalid("has a damaged LASzip record", _REWRITE)
    layout = [unpack_from("<HHH", laszip, 34 + 6 * i) for i in range(items)]
    if sum(size for _, size, _ in layout) != record or any(size != _ITEM_BYTES.get(t, size) for t, size, _ in layout):
        raise source.invalid("has a damaged LASzip record: its parts do not add up to one point", _REWRITE)
    if layout[0][0] != (10 if form >= 6 else 6) or (compressor == _LAYERED) != (form >= 6):
        raise source.invalid("has a damaged LASzip record: it does not fit the point format", _REWRITE)
    if count > _POINTS_PER_BYTE * source.size or count * record > _BYTES_PER_BYTE * source.size:
        raise source.invalid(
            f"claims {count:,} points in {size_text(source.size)}, which no compression achieves",
            "The header is damaged or made up. " + CLOUD_REMEDY,
            points=count,
        )
    if compressor == 1:
        return Laszip(laszip, False, 0, 0, 0)
    layers = sum(_LAYERS.get(kind, size) for kind, size, _ in layout)
    table_at = _check_table(source, chunk, count, points_at)
    return Laszip(laszip, compressor == _LAYERED, layers, chunk, table_at)


def _check_table(source: Source, chunk: int, count: int, points_at: int) -> int:
    """Return where the chunk table is; it is written last, so a cut file has lost it."""
    if chunk == 0:
        raise source.invalid("has a damaged LASzip record: chunks of no points", _REWRITE)
    at = int.from_bytes(source.read(points_at, 8), "little", signed=True)
    if at == -1:  # a writer that could not seek puts the offset at the very end
        at = int.from_bytes(source.read(source.size - 8, 8), "little", signed=True)
    if at < points_at + 8:
        raise source.invalid("is damaged: the table of its compressed chunks is lost")
    table = source.read(at, 8)
    if len(table) < 8:
        raise source.truncated(
            f"the table of its compressed chunks should be at byte {at:,}, the file has {size_text(source.size)}"
        )
    version, chunks = unpack_from("<II", table)
    fits = 0 < chunks <= count + 1 if chunk == VARIABLE_CHUNKS else chunks == -(-count // chunk)
    if version != 0 or not fits or chunks > (at - points_at - 8):
        raise source.invalid("is damaged: the table of its compressed chunks contradicts its header")
    return at
