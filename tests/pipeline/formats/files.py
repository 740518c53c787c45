"""Small valid files of every kind, written by other tools than the readers under test."""

import io
import struct
from pathlib import Path

import laspy
import lazrs
import numpy as np
import shapefile
from numpy.typing import NDArray
from pyproj import CRS

ORIGIN = np.array([630_000.0, 4_830_000.0, 75.0])
SIDE = 60.0


def terrain(count: int = 600, seed: int = 1, origin: NDArray[np.float64] = ORIGIN) -> NDArray[np.float64]:
    """Return points of a gentle slope, rounded to millimetres, map coordinates, shape (count, 3)."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, SIDE, (2, count))
    return (np.column_stack([x, y, 0.05 * x + rng.normal(0, 0.02, count)]) + origin).round(3)


def las_bytes(
    points: NDArray[np.float64],
    *,
    compressed: bool = True,
    point_format: int = 6,
    crs: CRS | None = None,
    classes: NDArray[np.uint8] | None = None,
    withheld: NDArray[np.bool_] | None = None,
    scale: float = 0.001,
    geokeys: bool = False,
) -> bytes:
    """Return a LAS or LAZ file by laspy."""
    header = laspy.LasHeader(point_format=point_format, version="1.4" if point_format >= 6 else "1.2")
    header.offsets = np.floor(points.min(axis=0)) if len(points) else np.zeros(3)
    header.scales = np.full(3, scale)
    if crs is not None:
        header.add_crs(crs, keep_compatibility=not geokeys)
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = points.T
    if classes is not None:
        cloud.classification = classes
    if withheld is not None:
        cloud.withheld = withheld
    out = io.BytesIO()
    cloud.write(out, do_compress=compressed)
    return out.getvalue()


def copc_bytes(points: NDArray[np.float64]) -> bytes:
    """Return a COPC 1.0 file of two nodes: its info record first, chunks of their own sizes, a hierarchy last."""
    plain = las_bytes(points, compressed=False)
    with laspy.open(io.BytesIO(plain)) as reader:
        record = reader.read().points.array.tobytes()
    vlr = lazrs.LazVlr.new_for_compression(6, 0, True)
    data = vlr.record_data()
    info_at, points_at = 375, 375 + 54 + 160 + 54 + len(data)
    body = io.BytesIO(b"\0" * points_at)
    body.seek(points_at)
    compressor = lazrs.LasZipCompressor(body, vlr)
    compressor.compress_chunks([record[: 30 * 250], record[30 * 250 :]])
    compressor.done()
    end = len(body.getvalue())
    body.seek(points_at)
    chunks = lazrs.read_chunk_table(body, vlr)
    low, high = points.min(axis=0), points.max(axis=0)
    half = float((high - low).max()) / 2
    info = struct.pack("<5dQQ2d11Q", *((low + high) / 2), half, half / 64, end + 60, 64, 0.0, 0.0, *[0] * 11)
    head = bytearray(plain[:375])
    head[104] |= 0x80
    struct.pack_into("<II", head, 96, points_at, 2)
    struct.pack_into("<QI", head, 235, end, 1)
    body.seek(0)
    body.write(bytes(head))
    body.seek(info_at)
    body.write(struct.pack("<H16sHH32s", 0, b"copc", 1, 160, b"") + info)
    body.write(struct.pack("<H16sHH32s", 0, b"laszip encoded", 22204, len(data), b"") + data)
    body.seek(end)
    body.write(struct.pack("<H16sHQ32s", 0, b"copc", 1000, 64, b""))
    body.write(struct.pack("<4iQii", 0, 0, 0, 0, points_at + 8, chunks[0][1], 250))
    body.write(struct.pack("<4iQii", 1, 0, 0, 0, points_at + 8 + chunks[0][1], chunks[1][1], len(points) - 250))
    return body.getvalue()


def ply_bytes(
    points: NDArray[np.float64], order: str = "binary_little_endian", kind: str = "double", extra: str = ""
) -> bytes:
    """Return a PLY file with a byte column between y and z, and faces after the points."""
    head = (
        f"ply\nformat {order} 1.0\ncomment made by hand\nelement vertex {len(points)}\nproperty {kind} x\n"
        f"property {kind} y\nproperty uchar red\nproperty {kind} z\n{extra}"
        "element face 0\nproperty list uchar int vertex_indices\nend_header\n"
    ).encode()
    if order == "ascii":
        return head + "".join(f"{x} {y} 7 {z}\n" for x, y, z in points).encode()
    code = ("<" if "little" in order else ">") + ("d" if kind == "double" else "f")
    layout = np.dtype([("x", code), ("y", code), ("red", "u1"), ("z", code)])
    rows = np.zeros(len(points), layout)
    rows["x"], rows["y"], rows["z"] = points.T
    return head + rows.tobytes()


def xyz_bytes(points: NDArray[np.float64], separator: str = " ", head: str = "", decimal: str = ".") -> bytes:
    """Return text, one point a line."""
    lines = (separator.join(f"{value:.3f}".replace(".", decimal) for value in point) for point in points)
    return (head + "\n".join(lines) + "\n").encode()


def square(x: float, y: float, size: float, *, clockwise: bool = True) -> list[tuple[float, float]]:
    """Return a closed ring."""
    ring = [(x, y), (x, y + size), (x + size, y + size), (x + size, y), (x, y)]
    return ring if clockwise else ring[::-1]


def shape_bytes(polygons: list[list[list[tuple[float, float]]]], kind: int = shapefile.POLYGON) -> tuple[bytes, bytes]:
    """Return .shp and .shx by pyshp; each polygon is a list of rings."""
    shp, shx = io.BytesIO(), io.BytesIO()
    with shapefile.Writer(shp=shp, shx=shx) as writer:
        writer.shapeType = kind
        for rings in polygons:
            if kind == shapefile.POINT:
                writer.point(*rings[0][0])
            elif kind == shapefile.POLYLINE:
                writer.line(rings)
            else:
                writer.poly(rings)
        writer.close()
        return shp.getvalue(), shx.getvalue()


def stable_bytes() -> tuple[bytes, bytes]:
    """Return the shapefile of two squares inside the terrain."""
    x, y = ORIGIN[:2]
    return shape_bytes([[square(x + 5, y + 5, 15)], [square(x + 35, y + 35, 20)]])


def write(folder: Path, pre: bytes, post: bytes, /, **others: bytes) -> dict[str, Path]:
    """Write inputs of a run without file name endings, as a store keeps them."""
    shp, shx = stable_bytes()
    contents = {"pre": pre, "post": post, "shp": shp, "shx": shx, **others}
    for label, content in contents.items():
        (folder / label).write_bytes(content)
    return {label: folder / label for label in contents}
