"""What is this upload, by its content alone, and can it be used as what it is meant to be?

Standard library only: the gateway calls it the moment an upload ends. Phones send no file names worth
trusting, so the format is told by the first bytes. Work and memory are bounded whatever the file holds.
"""

import re
from typing import BinaryIO

from pipeline.formats.inspect_las import inspect_las
from pipeline.formats.inspect_shape import (
    check_shape_pair,
    inspect_dbf,
    inspect_prj,
    inspect_shp,
    inspect_shx,
    looks_like_shape,
)
from pipeline.formats.inspect_text import expected_lines, ply_header, text_layout
from pipeline.formats.source import AGAIN_REMEDY, CLOUD_REMEDY, Source

__all__ = ["check_shape_pair", "cloud_kind", "inspect"]

_UNPACK = "Unpack it and upload the file inside."
_MAGIC: tuple[tuple[int, bytes, str, str | None], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture", None),
    (0, b"\xff\xd8\xff", "a JPEG picture", None),
    (0, b"GIF8", "a GIF picture", None),
    (0, b"BM", "a BMP picture", None),
    (0, b"II*\0", "a TIFF picture", None),
    (0, b"MM\0*", "a TIFF picture", None),
    (0, b"II+\0", "a TIFF picture", None),
    (8, b"WEBP", "a WebP picture", None),
    (4, b"ftyp", "a video or a HEIC picture", None),
    (0, b"%PDF", "a PDF document", None),
    (0, b"PK\x03\x04", "a ZIP archive", _UNPACK),
    (0, b"PK\x05\x06", "an empty ZIP archive", _UNPACK),
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"ASTM-E57", "an E57 file", "Convert it to LAZ (CloudCompare and `pdal translate` can) and upload that."),
    (0, b"SQLite format 3", "a GeoPackage or another SQLite database", None),
    (0, b"\x89HDF", "an HDF5 file", None),
    (0, b"PAR1", "a Parquet file", None),
    (0, b"AC10", "a DWG drawing", None),
    (0, b"\x7fELF", "a program", None),
    (0, b"MZ", "a program", None),
)
_TEXTS: tuple[tuple[str, str, str | None], ...] = (
    (r"<!doctype html|<html", "an HTML page", "A download may have ended on an error or login page; fetch it again."),
    (r"<\?xml|<kml|<gpx", "an XML document", None),
    (r"[{\[]", "a JSON document", None),
    (r"# ?\.PCD|VERSION \.7", "a PCD file", "Convert it to LAZ or PLY (CloudCompare can) and upload that."),
    (r"solid ", "an STL mesh", None),
    (r"(#[^\n]*\n|mtllib [^\n]*\n|o [^\n]*\n|\s)*v -?\d", "an OBJ mesh", None),
    (r"(PROJCS|GEOGCS|COMPD_CS|PROJCRS|GEOGCRS)\[", "a coordinate system (.prj)", None),
)
_WHAT = {
    "shp": ("the .shp of a shapefile", "Upload the .shp file of the stable area's shapefile."),
    "shx": ("the .shx of a shapefile", "Upload the .shx file that belongs to the .shp."),
    "dbf": ("the .dbf of a shapefile", "Upload the .dbf file of the shapefile, or leave it out."),
    "prj": ("the .prj of a shapefile", "Upload the .prj file of the shapefile, or leave it out."),
}
_SHAPE_CHECKS = {"shp": inspect_shp, "shx": inspect_shx, "dbf": inspect_dbf, "prj": inspect_prj}


def inspect(label: str, stream: BinaryIO, size: int, name: str = "") -> int | None:
    """Check one finished upload; returns if it can be used, as far as can be told at once.

    Returns:
        The points of a cloud, as its head says or its first lines let expect; None for other files.

    Args:
        label: ``pre``, ``post`` (point clouds), ``shp``, ``shx``, ``dbf`` or ``prj``; others are not checked
            beyond being there.
        stream: Seekable; its position is not kept.
        size: Bytes in the file.
        name: The file's name for messages; it decides nothing.

    Raises:
        InputInvalid: If it is not what the label says, is cut short or damaged.
        InputTooLarge: If it claims more than the limits allow.
    """
    source = Source(label, stream, size, name)
    if size <= 0:
        raise source.invalid("is empty (0 bytes)", _WHAT[label][1] if label in _WHAT else AGAIN_REMEDY)
    if label in ("pre", "post"):
        return check_cloud(source)
    if label in _SHAPE_CHECKS:
        if label not in ("shp", "shx") or looks_like_shape(source.read(0, 112)) is None:
            _refuse_foreign(source, *_WHAT[label])
        _SHAPE_CHECKS[label](source)
    return None


def check_cloud(source: Source) -> int:
    """Check a point cloud; return how many points it has, of a text about how many."""
    kind = cloud_kind(source)
    if kind == "las":
        return inspect_las(source).count
    if kind == "ply":
        return ply_header(source).count
    text_layout(source)
    return expected_lines(source)


def cloud_kind(source: Source) -> str:
    """Return ``las`` (LAZ and COPC too), ``ply`` or ``text``.

    Raises:
        InputInvalid: If the file is known to be something else, which the message names.
    """
    head = source.read(0, 16)
    if head.startswith(b"LASF"):
        return "las"
    if re.match(rb"ply\s", head):
        return "ply"
    _refuse_foreign(source, "a point cloud", CLOUD_REMEDY)
    return "text"


def _refuse_foreign(source: Source, wanted: str, remedy: str) -> None:
    """Raise if the file is of a known kind other than the wanted one."""
    head = source.read(0, 1024)
    found = foreign_kind(head, source)
    if found is not None:
        what, hint = found
        raise source.invalid(f"is {what}, not {wanted}", f"{hint} {remedy}" if hint else remedy, found=what)


def foreign_kind(head: bytes, source: Source) -> tuple[str, str | None] | None:
    """Return what a file is that no input asks for, and what helps; None if it is not known.

    ``head`` is its first kilobyte.
    """
    is_cloud = source.label in ("pre", "post")
    if not is_cloud and head.startswith((b"LASF", b"ply\n", b"ply\r")):
        return "a point cloud", None
    shape = looks_like_shape(head)
    if shape is not None and shape != source.label:
        return f"a .{shape} (part of a shapefile)", None
    if not head.strip(b"\0"):
        return "a file of nothing but zeros", "The upload or the disk lost its content; send it again."
    for at, magic, what, hint in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return what, hint
    text = head.decode("latin-1").removeprefix("\xef\xbb\xbf").lstrip()
    for pattern, what, hint in _TEXTS if source.label != "prj" else ():
        if re.match(pattern, text, re.IGNORECASE):
            return what, hint
    return _dbf_kind(head, source)


def _dbf_kind(head: bytes, source: Source) -> tuple[str, str | None] | None:
    if source.label != "dbf" and len(head) >= 32 and head[0] in (0x03, 0x83, 0xF5) and 1 <= head[2] <= 12:
        header = int.from_bytes(head[8:10], "little")
        if 1 <= head[3] <= 31 and header % 32 == 1 and header <= source.size:
            return "a .dbf (part of a shapefile)", None
    return None
