import errno
import json
from dataclasses import replace
from pathlib import Path

import laspy
import numpy as np
import pyogrio
import pyproj
import pytest
import rasterio
import shapely

from pipeline.errors import StorageFull
from pipeline.volume_change.output.artifacts import write_file, write_results
from pipeline.volume_change.types import Analysis, CorePoints
from tests.pipeline.volume_change.output.synthetic import ORIGIN, SIX, Site, make_analysis


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return make_analysis(Site(holes=True))


@pytest.fixture(scope="module")
def folder(analysis: Analysis, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("results")
    write_results(analysis, target, [f"hulls/{hull.id}.png" for hull in analysis.hulls])
    return target


def test_every_file_that_is_named_exists(analysis: Analysis, tmp_path: Path) -> None:
    artifacts = write_results(analysis, tmp_path)
    assert sorted(a.name for a in artifacts) == sorted(p.name for p in tmp_path.iterdir())
    assert all((tmp_path / a.name).stat().st_size > 0 for a in artifacts)


def test_the_geojson_is_in_degrees_and_counter_clockwise(folder: Path) -> None:
    collection = json.loads((folder / "hulls.geojson").read_text())
    back = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:26917", always_xy=True)
    for feature, bump in zip(collection["features"], SIX, strict=True):
        ring = shapely.LinearRing(feature["geometry"]["coordinates"][0])
        assert ring.is_ccw
        assert -180 <= ring.bounds[0] <= 180
        x, y = back.transform(*ring.centroid.coords[0])
        assert (x, y) == pytest.approx((ORIGIN[0] + bump.x, ORIGIN[1] + bump.y), abs=0.01)
        assert feature["properties"]["net_volume"] == pytest.approx(bump.volume, abs=1e-5)
    assert "crs" not in collection  # RFC 7946, section 4


def test_the_geopackage_holds_hulls_and_stable_ground_in_the_map_system(folder: Path, analysis: Analysis) -> None:
    path = folder / "hulls.gpkg"
    assert {name for name, _ in pyogrio.list_layers(path)} == {"hulls", "stable_area"}
    meta, _, geometry, fields = pyogrio.raw.read(path, layer="hulls")
    values = dict(zip(meta["fields"], fields, strict=True))
    assert pyproj.CRS(meta["crs"]).to_epsg() == 26917
    assert values["net_volume"].tolist() == pytest.approx([b.volume for b in SIX], abs=1e-5)
    assert values["number"].tolist() == [1, 2, 3, 4, 5, 6]
    assert values["hull_id"].tolist() == [hull.id for hull in analysis.hulls]
    assert (values["net_volume_ci95_low"] < values["net_volume"]).all()
    shapes = shapely.from_wkb(geometry)
    assert shapes[0].centroid.x == pytest.approx(ORIGIN[0] + SIX[0].x, abs=1e-3)
    stable = shapely.from_wkb(pyogrio.raw.read(path, layer="stable_area")[2])
    assert sum(s.area for s in stable) == pytest.approx(130**2 - 104**2)


def test_the_raster_is_north_up_in_place_and_empty_where_nothing_was_seen(folder: Path, analysis: Analysis) -> None:
    with rasterio.open(folder / "difference.tif") as raster:
        change = raster.read(1)
        assert raster.bounds == pytest.approx((ORIGIN[0], ORIGIN[1], ORIGIN[0] + 130, ORIGIN[1] + 130))
        assert raster.crs.to_epsg() == 26917
        assert np.isnan(raster.nodata)
        assert raster.units == ("m",)
        assert raster.profile["dtype"] == "float32"
        assert raster.profile["tiled"]
        assert raster.compression.name == "deflate"
        assert "height change" in raster.descriptions[0]
        pit, mound = (raster.sample([(ORIGIN[0] + b.x, ORIGIN[1] + b.y)]) for b in (SIX[2], SIX[0]))
        assert next(pit)[0] == pytest.approx(-1.5, abs=0.1)
        assert next(mound)[0] == pytest.approx(1.2, abs=0.1)
    expected = analysis.difference.change[::-1]
    assert np.array_equal(np.isnan(change), np.isnan(expected))
    assert change == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_a_large_raster_carries_overviews(tmp_path: Path) -> None:
    write_results(make_analysis(Site(cell=0.15, changes=())), tmp_path)
    with rasterio.open(tmp_path / "difference.tif") as raster:
        assert raster.overviews(1) == [2]
        assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_the_points_carry_distance_limit_and_hull_at_their_place(folder: Path, analysis: Analysis) -> None:
    cloud = laspy.read(folder / "changed_points.laz")
    core = analysis.core
    assert cloud.header.parse_crs().to_epsg() == 26917
    assert {"distance", "lod95", "hull"} <= set(cloud.point_format.extra_dimension_names)
    assert np.asarray(cloud.xyz) == pytest.approx(core.points + ORIGIN, abs=1e-4)
    assert np.asarray(cloud.distance) == pytest.approx(core.distance, abs=1e-6, nan_ok=True)
    assert np.array_equal(cloud.hull, core.hull)
    deepest = np.asarray(cloud.xyz)[np.nanargmin(np.asarray(cloud.distance))]
    assert deepest[:2] == pytest.approx((ORIGIN[0] + SIX[2].x, ORIGIN[1] + SIX[2].y), abs=2.0)


@pytest.mark.parametrize("crs", [None, "EPSG:26917", "EPSG:26917+5703"])
def test_a_site_without_changes_has_the_same_files(tmp_path: Path, crs: str | None) -> None:
    write_results(make_analysis(Site(changes=(), crs=crs)), tmp_path)
    meta, _, geometry, _ = pyogrio.raw.read(tmp_path / "hulls.gpkg", layer="hulls")
    assert len(geometry) == 0
    assert meta["geometry_type"] == "MultiPolygon"
    assert json.loads((tmp_path / "hulls.geojson").read_text())["features"] == []
    assert len(laspy.read(tmp_path / "changed_points.laz")) > 0


def test_without_a_coordinate_system_files_keep_the_coordinates_of_the_input(tmp_path: Path) -> None:
    write_results(make_analysis(Site(crs=None)), tmp_path)
    collection = json.loads((tmp_path / "hulls.geojson").read_text())
    assert collection["features"][0]["geometry"]["coordinates"][0][0][0] > 600_000
    assert "input" in collection["coordinate_system"]
    assert "coordinates" not in collection, "RFC 7946, 7.1"
    assert pyogrio.read_info(tmp_path / "hulls.gpkg", layer="hulls")["crs"] is None
    with rasterio.open(tmp_path / "difference.tif") as raster:
        assert raster.crs is None
    assert laspy.read(tmp_path / "changed_points.laz").header.parse_crs() is None


def test_large_and_negative_coordinates_keep_their_digits(tmp_path: Path) -> None:
    origin = (-7_512_345.0, -4_000_000.0, -20.0)
    analysis = make_analysis(Site(crs="EPSG:3857", origin=origin))
    write_results(analysis, tmp_path)
    cloud = laspy.read(tmp_path / "changed_points.laz")
    assert np.asarray(cloud.xyz)[0] == pytest.approx(analysis.core.points[0] + origin, abs=1e-4)
    with rasterio.open(tmp_path / "difference.tif") as raster:
        assert raster.bounds.left == pytest.approx(-7_512_345.0)


def test_no_core_points_still_make_a_readable_file(tmp_path: Path) -> None:
    analysis = make_analysis(Site(cell=5.0))
    core = analysis.core
    none = CorePoints(core.points[:0], core.normals[:0], core.distance[:0], core.lod95[:0], core.hull[:0])
    write_results(replace(analysis, core=none), tmp_path)
    assert len(laspy.read(tmp_path / "changed_points.laz")) == 0


def test_a_full_disk_is_told_as_such_and_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageFull, match=r"difference\.tif.*No space left") as caught:
        write_file(tmp_path / "difference.tif", b"x" * 10)
    assert caught.value.code == "STORAGE"
    assert "space" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "hulls").write_text("a file where a folder should be")
    with pytest.raises(StorageFull):
        write_file(tmp_path / "hulls/h001.png", b"x")
