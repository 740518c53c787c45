"""Polygons with attributes as a GeoPackage: an SQLite file, written without a geospatial library.

Those take half a second to load and stamp each file with the time of day; this one is the same for the same result.
"""

import sqlite3
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import shapely
from pyproj import CRS

Value = str | float | int
_TYPES = {str: "TEXT", int: "INTEGER", float: "DOUBLE"}
_NOWHEN = "1970-01-01T00:00:00.000Z"  # the column must hold a time, and a result must not depend on it
_APPLICATION, _VERSION = 0x47504B47, 10300  # "GPKG", 1.3
_CUSTOM = 100_000
_UNKNOWN = (
    "Undefined SRS", 99999, "GDAL", 99999,
    ('LOCAL_CS["Undefined SRS",LOCAL_DATUM["unknown",32767],UNIT["unknown",0],'
    'AXIS["Easting",EAST],AXIS["Northing",NORTH]]'),
)  # fmt: skip
_WGS84 = (
    "WGS 84", 4326, "EPSG", 4326,
    ('GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433],AXIS["Latitude",NORTH],AXIS["Longitude",EAST],AUTHORITY["EPSG","4326"]]'),
)  # fmt: skip
_SCHEMA = """
CREATE TABLE gpkg_spatial_ref_sys (
    srs_name TEXT NOT NULL, srs_id INTEGER PRIMARY KEY, organization TEXT NOT NULL,
    organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (
    table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE, description TEXT DEFAULT '',
    last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
    CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (
    table_name TEXT NOT NULL, column_name TEXT NOT NULL, geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL,
    z TINYINT NOT NULL, m TINYINT NOT NULL,
    CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name), CONSTRAINT uk_gc_table_name UNIQUE (table_name),
    CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
    CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys (srs_id));
"""


@dataclass(frozen=True, slots=True)
class Layer:
    """A table of polygons.

    Args:
        name: Of the table: letters and underscores, not from a stranger.
        columns: Name and type (``str``, ``int`` or ``float``) of each attribute, in order.
        rows: The attributes of each feature.
        shapes: Its polygon or multipolygon, map coordinates.
    """

    name: str
    columns: dict[str, type]
    rows: Sequence[Sequence[Value]]
    shapes: Sequence[shapely.geometry.base.BaseGeometry]


def geopackage(layers: Sequence[Layer], crs: CRS | None) -> bytes:
    """Return a GeoPackage with the layers, all of them multipolygons.

    Args:
        layers: The tables.
        crs: The coordinate system of all; None if it is not known.

    Source:
        OGC GeoPackage 1.3, https://www.geopackage.org/spec130/; no spatial index, which it leaves optional.
    """
    database = sqlite3.connect(":memory:", isolation_level=None)
    try:
        database.execute(f"PRAGMA application_id = {_APPLICATION}")
        database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("BEGIN")
        for statement in _SCHEMA.split(";")[:-1]:
            database.execute(statement)
        system = _system(crs)
        known = {row[1]: row for row in (_standing("Cartesian", -1), _standing("geographic", 0), _WGS84, system)}
        for row in known.values():
            database.execute("INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, NULL)", row)
        for layer in layers:
            _add(database, layer, system[1])
        database.execute("COMMIT")
        return database.serialize()
    finally:
        database.close()


def _add(database: sqlite3.Connection, layer: Layer, srs: int) -> None:
    shapes = [shapely.MultiPolygon([s]) if isinstance(s, shapely.Polygon) else s for s in layer.shapes]
    attributes = "".join(f', "{name}" {_TYPES[kind]}' for name, kind in layer.columns.items())
    database.execute(
        f'CREATE TABLE "{layer.name}" (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom MULTIPOLYGON{attributes})'
    )
    box: list[Any] = shapely.total_bounds(shapes).tolist() if shapes else [None] * 4
    database.execute(
        "INSERT INTO gpkg_contents VALUES (?, 'features', ?, '', ?, ?, ?, ?, ?, ?)",
        (layer.name, layer.name, _NOWHEN, *box, srs),
    )
    database.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'MULTIPOLYGON', ?, 0, 0)", (layer.name, srs))
    places = ", ".join("?" * (len(layer.columns) + 1))
    database.executemany(
        f'INSERT INTO "{layer.name}" VALUES (NULL, {places})',  # noqa: S608  (names are our own)
        [(_blob(shape, srs), *row) for shape, row in zip(shapes, layer.rows, strict=True)],
    )


def _blob(shape: shapely.geometry.base.BaseGeometry, srs: int) -> bytes:
    """Return a geometry as GeoPackage keeps it: a header with its box, then well-known binary."""
    if shape.is_empty:
        return struct.pack("<2sBBi", b"GP", 0, 0x11, srs) + shapely.to_wkb(shape, byte_order=1)
    left, bottom, right, top = shape.bounds
    head = struct.pack("<2sBBi4d", b"GP", 0, 0x03, srs, left, right, bottom, top)
    return head + shapely.to_wkb(shape, byte_order=1)


def _standing(name: str, number: int) -> tuple[str, int, str, int, str]:
    return f"Undefined {name} SRS", number, "NONE", number, "undefined"


def _system(crs: CRS | None) -> tuple[str, int, str, int, str]:
    """Return the row that describes the coordinate system."""
    if crs is None:
        return _UNKNOWN
    wkt = crs.to_wkt("WKT1_GDAL")
    authority = crs.to_authority()
    if authority is not None and authority[1].isdigit():
        return crs.name, int(authority[1]), authority[0], int(authority[1]), wkt
    return crs.name, _CUSTOM, "NONE", _CUSTOM, wkt
