"""Which small files claim, hide or mix up more than they are?"""

import io
import struct
import zipfile
import zlib
from functools import cache

import numpy as np
from pyproj import CRS

from tests.pipeline.formats.files import las_bytes, stable_bytes, terrain

UTM = CRS.from_epsg(26917)
GOOD = {
    "pre": las_bytes(terrain(8000, 1), crs=UTM),
    "post": las_bytes(terrain(8000, 2), crs=UTM),
    **dict(zip(("shp", "shx"), stable_bytes(), strict=True)),
}
MIB = 2**20


def patched(content: bytes, at: int, form: str, *values: int) -> bytes:
    changed = bytearray(content)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


@cache
def megabyte() -> bytes:
    """A sound LAZ file of about 1 MB."""
    return las_bytes(terrain(100_000, 1), crs=UTM)


def claiming(count: int) -> bytes:
    """The same file, whose header says that it has so many points."""
    return patched(megabyte(), 247, "<Q", count)


def scribbled() -> bytes:
    """A survey whose header and length are sound, with noise where its compressed points were."""
    whole = GOOD["post"]
    start, end = len(whole) * 4 // 10, len(whole) * 6 // 10
    return whole[:start] + np.random.default_rng(0).bytes(end - start) + whole[end:]


def in_parts(count: int) -> bytes:
    """A .shp of one polygon of so many parts, none of which has a vertex of its own."""
    content = struct.pack("<i4dii", 5, 0.0, 0.0, 1.0, 1.0, count, 4) + bytes(4 * count + 64)
    head = patched(GOOD["shp"][:100], 24, ">i", (108 + len(content)) // 2)
    return head + struct.pack(">ii", 1, len(content) // 2) + content


def picture(side: int) -> bytes:
    """A PNG of so many pixels a side, as far as its header says; its first 64 MiB unpack from some 64 KB."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(64 * MIB)))]
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def polyglot() -> bytes:
    """A file that is a JPEG to those who read its beginning and a ZIP archive to those who read its end."""
    out = io.BytesIO(b"\xff\xd8\xff\xe0" + bytes(100))
    out.seek(0, io.SEEK_END)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("../../escaped.jpg", b"climbs out")
    return out.getvalue()


SHX_OUTSIDE = patched(GOOD["shx"], 100, ">i", 10**6)
WRONG: dict[str, tuple[dict[str, bytes], str, str]] = {
    "PNG as pre": ({"pre": b"\x89PNG\r\n\x1a\n" + bytes(500)}, "INPUT_INVALID", "pre"),
    "picture of 50,000 x 50,000": ({"post": picture(50_000)}, "INPUT_INVALID", "post"),
    "JPEG and ZIP at once": ({"pre": polyglot()}, "INPUT_INVALID", "pre"),
    "shx as shp": ({"shp": GOOD["shx"]}, "INPUT_INVALID", "shp"),
    "shp as shx": ({"shx": GOOD["shp"]}, "INPUT_INVALID", "shx"),
    "survey as shp": ({"shp": GOOD["pre"]}, "INPUT_INVALID", "shp"),
    "record of 2**31 words": ({"shp": patched(GOOD["shp"], 104, ">i", 2**31 - 1)}, "INPUT_INVALID", "shp"),
    "polygon of 1,000,000 parts": ({"shp": in_parts(10**6)}, "INPUT_TOO_LARGE", "shp"),
    "index that points outside": ({"shp": GOOD["shp"], "shx": SHX_OUTSIDE}, "INPUT_INVALID", "shx"),
}
