from pathlib import Path

import pyogrio
import pyproj
import pytest
import shapely

from pipeline.volume_change.output.geopackage import Layer, geopackage

SQUARE = shapely.box(10.0, 20.0, 12.0, 23.0)
RING = shapely.box(0, 0, 9, 9).difference(shapely.box(3, 3, 6, 6))
COLUMNS = {"name": str, "count": int, "area": float}
ROWS = [["it's", 3, 6.0], ["ring", 4, 72.0]]


def written(folder: Path, crs: pyproj.CRS | None) -> Path:
    path = folder / "some.gpkg"
    path.write_bytes(geopackage([Layer("places", COLUMNS, ROWS, [SQUARE, RING]), Layer("none", {}, [], [])], crs))
    return path


def test_gdal_reads_back_every_shape_and_attribute(tmp_path: Path) -> None:
    meta, _, shapes, fields = pyogrio.raw.read(written(tmp_path, pyproj.CRS("EPSG:25832")), layer="places")
    assert meta["geometry_type"] == "MultiPolygon"
    assert [shape.equals(SQUARE) for shape in shapely.from_wkb(shapes)] == [True, False]
    assert shapely.from_wkb(shapes)[1].equals(RING)
    assert [column.tolist() for column in fields] == [["it's", "ring"], [3, 4], [6.0, 72.0]]


def test_gdal_finds_features_by_their_place(tmp_path: Path) -> None:
    _, _, shapes, _ = pyogrio.raw.read(written(tmp_path, None), layer="places", bbox=(9.5, 19.5, 30.0, 30.0))
    assert len(shapes) == 1


LOCAL = "+proj=tmerc +lat_0=47.1 +lon_0=9.3 +k=1 +x_0=1000 +y_0=2000 +ellps=GRS80 +units=m +no_defs"


@pytest.mark.parametrize("text", ["EPSG:26917", "EPSG:2056", LOCAL])
def test_the_coordinate_system_survives(tmp_path: Path, text: str) -> None:
    crs = pyproj.CRS(text)
    found = pyproj.CRS(pyogrio.read_info(written(tmp_path, crs), layer="places")["crs"])
    there, back = (pyproj.Transformer.from_crs(c, "EPSG:4326", always_xy=True) for c in (crs, found))
    assert back.transform(1500.0, 2500.0) == pytest.approx(there.transform(1500.0, 2500.0), abs=1e-9)


def test_an_unknown_coordinate_system_stays_unknown(tmp_path: Path) -> None:
    assert pyogrio.read_info(written(tmp_path, None), layer="none")["crs"] is None


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    crs = pyproj.CRS("EPSG:26917")
    first = written(tmp_path, crs).read_bytes()
    assert written(tmp_path, crs).read_bytes() == first
