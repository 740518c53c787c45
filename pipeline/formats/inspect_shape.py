"""Is this .shp, .shx, .dbf or .prj whole, and does it hold polygons?

Follows the ESRI Shapefile Technical Description (July 1998). Lengths in these files count 16-bit words.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import unpack_from
from typing import BinaryIO

from pipeline.formats.source import Source, size_text

HEADER_BYTES = 100
MAX_BYTES = 64_000_000
MAX_RECORDS = 100_000
MAX_PARTS = 20_000
MAX_VERTICES = 1_000_000
POLYGON_TYPES = (5, 15, 25)  # Polygon, PolygonZ, PolygonM
_TYPES = {
    0: "nothing", 1: "points", 3: "lines", 5: "polygons", 8: "point sets", 11: "points", 13: "lines", 15: "polygons",
    18: "point sets", 21: "points", 23: "lines", 25: "polygons", 28: "point sets", 31: "surfaces (MultiPatch)",
}  # fmt: skip
_FILE_CODE = 9994
_POLYGON_REMEDY = "Upload the .shp of polygons around ground that did not move."
_SIMPLER = "Keep only the polygons of the stable ground, simplified to what a person would draw."


@dataclass(frozen=True, slots=True)
class Record:
    """One polygon record: where its parts and its vertices are in the file."""

    at: int  # byte of the record's content, which begins with its type
    parts: int
    vertices: int


def looks_like_shape(head: bytes) -> str | None:
    """Return ``shp`` or ``shx`` by the header and the first record; None if it is neither.

    The first word after the header is the record's number (1) in a .shp, and its offset (50 words) in a .shx.
    """
    if len(head) < HEADER_BYTES or unpack_from(">i", head)[0] != _FILE_CODE or unpack_from("<i", head, 28)[0] != 1000:
        return None
    if len(head) >= 108 and unpack_from(">i", head, 100)[0] == 50 and not _is_record(head):
        return "shx"
    return "shp"


def _is_record(head: bytes) -> bool:
    words = unpack_from(">i", head, 104)[0]
    return len(head) >= 112 and words >= 2 and unpack_from("<i", head, 108)[0] in _TYPES


def inspect_shp(source: Source) -> list[Record]:
    """Walk the records of a .shp; return those that hold polygons.

    Raises:
        InputInvalid: If a record leaves the file, is not a polygon, or there is none.
        InputTooLarge: If there are more records, parts or vertices than stable ground can need.
    """
    _check_header(source, ".shp")
    data = source.read(0, source.size)
    return polygon_records(source, data, walk(source, data))


def walk(source: Source, data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (place of the record's header, bytes of its content) from the first record to the last."""
    at = HEADER_BYTES
    while at < len(data):
        if at + 12 > len(data):
            raise source.truncated(f"a record begins at byte {at:,} and the file ends at {len(data):,}")
        content = 2 * unpack_from(">i", data, at + 4)[0]
        yield at, content
        at += 8 + content


def polygon_records(source: Source, data: bytes, records: Iterator[tuple[int, int]]) -> list[Record]:
    """Check each record against the file and the limits; return the polygons.

    Args:
        source: Names the file in refusals.
        data: The whole file.
        records: Place of each record's header, and bytes of its content.
    """
    found, parts, vertices = [], 0, 0
    for number, (at, content) in enumerate(records):
        if content < 4 or at + 8 + content > len(data):
            raise source.invalid(
                f"is damaged: record {number + 1} claims {size_text(max(content, 0))} at byte {at:,}, "
                f"the file has {size_text(len(data))}"
            )
        if number >= MAX_RECORDS:
            raise source.too_large(f"has more than {MAX_RECORDS:,} records", _SIMPLER)
        kind = unpack_from("<i", data, at + 8)[0]
        if kind == 0:
            continue
        if kind not in POLYGON_TYPES:
            known = _TYPES.get(kind)
            raise source.invalid(f"holds {known}, not polygons" if known else f"is damaged: record {number + 1} is of "
                                 f"type {kind}, which does not exist", _POLYGON_REMEDY)  # fmt: skip
        record = _polygon(source, data, at + 8, content, number)
        parts, vertices = parts + record.parts, vertices + record.vertices
        if parts > MAX_PARTS or vertices > MAX_VERTICES:
            raise source.too_large(f"has more than {MAX_PARTS:,} parts or {MAX_VERTICES:,} vertices", _SIMPLER)
        found.append(record)
    if not found:
        raise source.invalid("holds no polygon", _POLYGON_REMEDY)
    return found


def _polygon(source: Source, data: bytes, at: int, content: int, number: int) -> Record:
    damaged = f"is damaged: record {number + 1} "
    if content < 44:
        raise source.invalid(damaged + f"has {content} bytes, too few for a polygon")
    parts, vertices = unpack_from("<ii", data, at + 36)
    if parts > MAX_PARTS or vertices > MAX_VERTICES:
        raise source.too_large(
            f"has a polygon of {parts:,} parts and {vertices:,} vertices; "
            f"at most {MAX_PARTS:,} and {MAX_VERTICES:,} are accepted",
            _SIMPLER,
        )
    if parts < 0 or vertices < 0 or 44 + 4 * parts + 16 * vertices > content:
        raise source.invalid(damaged + f"claims {parts:,} parts and {vertices:,} vertices in {content:,} bytes")
    starts = unpack_from(f"<{parts}i", data, at + 44)
    if any(a > b for a, b in zip(starts, (*starts[1:], vertices), strict=False)) or any(s < 0 for s in starts[:1]):
        raise source.invalid(damaged + "has parts that begin outside it")
    return Record(at, parts, vertices)


def inspect_shx(source: Source) -> list[tuple[int, int]]:
    """Return (place of the record's header, bytes of its content) for each record that the index names.

    Raises:
        InputInvalid: If the index is not one, is cut short, or its records overlap.
    """
    _check_header(source, ".shx")
    entries = (source.size - HEADER_BYTES) // 8
    if entries == 0:
        raise source.invalid("is an index without any records", _POLYGON_REMEDY)
    if entries > MAX_RECORDS:
        raise source.too_large(f"names {entries:,} records; at most {MAX_RECORDS:,} are accepted", _SIMPLER)
    words = unpack_from(f">{2 * entries}i", source.read(HEADER_BYTES, 8 * entries))
    found, end = [], HEADER_BYTES
    for at, content in zip(words[::2], words[1::2], strict=True):
        if content < 2 or 2 * at < end:
            raise source.invalid("is damaged: its records overlap or run backwards",
                                 "Upload the .shx that belongs to the .shp.")  # fmt: skip
        end = 2 * at + 8 + 2 * content
        found.append((2 * at, 2 * content))
    return found


def check_shape_pair(shp: BinaryIO, shp_size: int, shx: BinaryIO, shx_size: int) -> None:
    """Check that an index belongs to its shapefile: as many records, all inside it, each of its length.

    Raises:
        InputInvalid: Labelled ``shx``, if it does not; or if either file is damaged by itself.
    """
    shape, index = Source("shp", shp, shp_size), Source("shx", shx, shx_size)
    entries = inspect_shx(index)
    _check_header(shape, ".shp")
    data = shape.read(0, shp_size)
    pair_records(index, entries, data)
    polygon_records(shape, data, iter(entries))


def pair_records(index: Source, entries: list[tuple[int, int]], data: bytes) -> None:
    """Check the entries of an index against the bytes of its .shp."""
    remedy = "Upload the .shp and the .shx of one and the same shapefile."
    for number, (at, content) in enumerate(entries):
        if at + 8 + content > len(data):
            raise index.invalid(
                f"names record {number + 1} at byte {at:,} of a .shp of {size_text(len(data))}: it lies outside", remedy
            )
        if 2 * unpack_from(">i", data, at + 4)[0] != content:
            raise index.invalid(f"does not belong to the .shp: record {number + 1} differs in length", remedy)
    used = sum(8 + content for _, content in entries) + HEADER_BYTES
    last = max(at + 8 + content for at, content in entries)
    if last < len(data) and used == last:
        raise index.invalid(f"names {len(entries):,} records, the .shp has more", remedy)


def inspect_dbf(source: Source) -> None:
    """Check the lengths in the header of an attribute table (dBASE III and later)."""
    head = source.read(0, 32)
    records, header, record = unpack_from("<IHH", head, 4) if len(head) == 32 else (0, 0, 0)
    if header < 33 or record < 1 or head[0] & 0x07 not in (3, 4, 5):
        raise source.invalid("is not a .dbf attribute table", "Upload the .dbf of the shapefile, or leave it out.")
    if header + records * record > source.size + 1:
        raise source.truncated(f"{records:,} rows of {record} bytes do not fit in {size_text(source.size)}")


def inspect_prj(source: Source) -> None:
    """Check that a .prj is a short text that begins like a coordinate system in WKT."""
    text = source.read(0, 65_536).decode("utf-8-sig", errors="replace").lstrip().upper()
    begins = ("PROJCS", "GEOGCS", "GEOCCS", "COMPD_CS", "LOCAL_CS", "PROJCRS", "GEOGCRS", "GEODCRS", "COMPOUNDCRS",
              "BOUNDCRS", "ENGCRS", "PROJECTEDCRS", "GEOGRAPHICCRS", "GEODETICCRS")  # fmt: skip
    if source.size > 65_536 or not text.startswith(begins):
        raise source.invalid("is not a .prj coordinate system", "Upload the .prj of the shapefile, or leave it out.")


def _check_header(source: Source, kind: str) -> None:
    head = source.read(0, 112)
    found = looks_like_shape(head)
    if found is None:
        if source.size < HEADER_BYTES:
            raise source.truncated(f"a {kind} begins with {HEADER_BYTES} bytes, the file has {source.size}")
        raise source.invalid(f"is not a {kind} file", f"Upload the {kind} of the shapefile.")
    if found != kind[1:] and source.size > HEADER_BYTES:
        raise source.invalid(f"is a .{found}, not a {kind}", f"Upload the {kind} of the shapefile here.")
    if source.size > MAX_BYTES:
        raise source.too_large(f"has {size_text(source.size)}; at most {size_text(MAX_BYTES)} are accepted", _SIMPLER)
    claimed = 2 * unpack_from(">i", head, 24)[0]
    if claimed > source.size:
        raise source.truncated(f"its header says {size_text(claimed)}, the file has {size_text(source.size)}")
    if claimed < HEADER_BYTES:
        raise source.invalid(f"has a damaged header: it claims {claimed} bytes")
    shape_type = unpack_from("<i", head, 32)[0]
    if shape_type not in (*POLYGON_TYPES, 0):
        what = _TYPES.get(shape_type, "shapes of an unknown type")
        raise source.invalid(f"holds {what}, not polygons", _POLYGON_REMEDY)
