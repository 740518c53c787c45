"""Both surveys and the stable ground arrive in metres about one origin, whatever they were written in."""

from pathlib import Path

import geopandas
import laspy
import numpy as np
import pytest
import shapely
from pyproj import CRS, Transformer

import app.samples
from pipeline.errors import InputInvalid, InputTooLarge, RegistrationFailed, StableAreaEmpty
from pipeline.volume_change.read import read_surveys
from pipeline.volume_change.types import Surveys
from tests.pipeline.formats import files

US_FOOT = 1200 / 3937
TTP = Path(app.samples.__file__).parent / "ttp"
UTM = CRS.from_epsg(26917)
PRE, POST = files.terrain(), files.terrain(seed=2)


def codes(surveys: Surveys) -> list[str]:
    return [notice.code for notice in surveys.warnings]


def wkt(code: int) -> bytes:
    return CRS.from_epsg(code).to_wkt("WKT1_ESRI").encode()


def test_the_real_sample_is_read_as_other_tools_read_it() -> None:
    surveys = read_surveys({"pre": TTP / "pre_2015.laz", "post": TTP / "post_2023.laz", "shp": TTP / "stable_area.shp"})
    assert (len(surveys.pre), surveys.pre.crs, surveys.unit) == (89_815, "EPSG:26917", "metre")
    assert (surveys.pre.name, surveys.post.name) == ("pre_2015.laz", "post_2023.laz")
    assert surveys.warnings == ()
    cloud = laspy.read(TTP / "post_2023.laz")
    sound = ~np.isin(cloud.classification, (7, 18))
    np.testing.assert_allclose(surveys.post.points + surveys.origin, cloud.xyz[sound], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(surveys.post.classes, cloud.classification[sound])
    expected = geopandas.read_file(TTP / "stable_area.shp").geometry.make_valid().union_all()
    expected = shapely.transform(expected, lambda vertices: vertices - surveys.origin[:2])
    assert surveys.stable.is_valid
    assert surveys.stable.symmetric_difference(expected).area < 1e-6 * expected.area


def test_the_local_origin_is_round_and_below_the_reference(tmp_path: Path) -> None:
    surveys = read_surveys(files.write(tmp_path, files.las_bytes(PRE), files.ply_bytes(POST)))
    assert surveys.origin.tolist() == [630_000.0, 4_830_000.0, 0.0]
    np.testing.assert_array_equal(surveys.post.origin, surveys.origin)
    np.testing.assert_allclose(surveys.pre.points + surveys.origin, PRE, rtol=0, atol=1e-8)
    np.testing.assert_allclose(surveys.post.points + surveys.origin, POST, rtol=0, atol=1e-8)
    assert surveys.stable.area == pytest.approx(15**2 + 20**2)


def test_a_first_point_at_zero_does_not_move_the_origin(tmp_path: Path) -> None:
    stray = np.vstack([np.zeros((1, 3)), PRE])
    surveys = read_surveys(files.write(tmp_path, files.xyz_bytes(stray), files.las_bytes(POST)))
    assert surveys.origin.tolist() == [630_000.0, 4_830_000.0, 0.0]
    assert len(surveys.pre) == len(PRE)
    assert "POINTS_STRAY" in codes(surveys)


def test_surveys_without_a_system_are_taken_as_metres_and_it_is_said(tmp_path: Path) -> None:
    surveys = read_surveys(files.write(tmp_path, files.xyz_bytes(PRE), files.xyz_bytes(POST)))
    assert (surveys.pre.crs, codes(surveys)) == (None, ["CRS_UNKNOWN"])


def test_a_survey_without_a_system_takes_that_of_the_other(tmp_path: Path) -> None:
    surveys = read_surveys(files.write(tmp_path, files.xyz_bytes(PRE), files.las_bytes(POST, crs=UTM)))
    assert (surveys.pre.crs, surveys.post.crs) == ("EPSG:26917", "EPSG:26917")
    assert codes(surveys) == ["CRS_ASSUMED"]


def test_the_shapefile_lends_its_system_if_neither_survey_has_one(tmp_path: Path) -> None:
    surveys = read_surveys(files.write(tmp_path, files.xyz_bytes(PRE), files.xyz_bytes(POST), prj=wkt(26917)))
    assert (surveys.pre.crs, codes(surveys)) == ("EPSG:26917", ["CRS_ASSUMED"])


def test_feet_are_converted_for_clouds_and_polygons_alike(tmp_path: Path) -> None:
    place = np.array([1_000_000.0, 200_000.0, 30.0])  # US survey feet in New York
    feet = [files.terrain(seed=seed, origin=place) for seed in (1, 2)]
    system = CRS.from_epsg(2263)
    shp, shx = files.shape_bytes([[files.square(place[0] + 5, place[1] + 5, 20)]])
    inputs = files.write(
        tmp_path, files.las_bytes(feet[0], crs=system), files.las_bytes(feet[1], crs=system), shp=shp, shx=shx
    )
    surveys = read_surveys(inputs)
    assert (surveys.unit, surveys.pre.crs) == ("US survey foot", "EPSG:32118")
    assert codes(surveys) == ["UNITS_CONVERTED", "UNITS_CONVERTED"]
    np.testing.assert_allclose(surveys.pre.points + surveys.origin, feet[0] * US_FOOT, rtol=0, atol=1e-8)
    assert surveys.stable.area == pytest.approx((20 * US_FOOT) ** 2)
    # the metric coordinates are where the registry puts the same place in the metric system
    there = Transformer.from_crs(2263, 32118, always_xy=True).transform(place[0], place[1])
    assert there == pytest.approx(tuple(place[:2] * US_FOOT), abs=1e-4)


def test_feet_and_metres_of_one_projection_meet(tmp_path: Path) -> None:
    metres = files.terrain(origin=np.array([304_800.0, 60_960.0, 10.0]))
    inputs = files.write(
        tmp_path,
        files.las_bytes(metres / US_FOOT, crs=CRS.from_epsg(2263), scale=1e-4),
        files.las_bytes(metres, crs=CRS.from_epsg(32118)),
        **dict(zip(("shp", "shx"), files.shape_bytes([[files.square(304_805, 60_965, 20)]]), strict=True)),
        prj=wkt(32118),
    )
    surveys = read_surveys(inputs)
    np.testing.assert_allclose(surveys.pre.points, surveys.post.points, rtol=0, atol=1e-4)
    assert surveys.stable.area == pytest.approx(400)


def test_polygons_of_another_system_are_reprojected(tmp_path: Path) -> None:
    ring = np.array(files.square(*(files.ORIGIN[:2] + 10), 20.0))
    degrees = np.column_stack(Transformer.from_crs(UTM, 4326, always_xy=True).transform(*ring.T))
    shp, shx = files.shape_bytes([[[tuple(vertex) for vertex in degrees]]])
    clouds = files.las_bytes(PRE, crs=UTM), files.las_bytes(POST, crs=UTM)
    surveys = read_surveys(files.write(tmp_path, *clouds, shp=shp, shx=shx, prj=wkt(4326)))
    assert codes(surveys) == ["STABLE_REPROJECTED"]
    assert surveys.stable.area == pytest.approx(400, abs=0.01)
    (tmp_path / "prj").unlink()
    guessed = read_surveys(files.write(tmp_path, *clouds, shp=shp, shx=shx))
    assert codes(guessed) == ["CRS_ASSUMED"]
    assert guessed.stable.area == pytest.approx(400, abs=0.01)


def test_a_prj_of_the_same_system_under_another_name_changes_nothing(tmp_path: Path) -> None:
    clouds = files.las_bytes(PRE, crs=UTM), files.las_bytes(POST, crs=UTM)
    surveys = read_surveys(files.write(tmp_path, *clouds, prj=wkt(26917)))
    assert (codes(surveys), surveys.stable.area) == ([], 625.0)
    surveys = read_surveys(files.write(tmp_path, *clouds, prj=b"not a system at all"))
    assert (codes(surveys), surveys.stable.area) == (["PRJ_IGNORED"], 625.0)


def test_a_shapefile_without_its_index_is_read_and_it_is_said(tmp_path: Path) -> None:
    inputs = files.write(tmp_path, files.las_bytes(PRE), files.las_bytes(POST))
    del inputs["shx"]
    surveys = read_surveys(inputs)
    assert (codes(surveys), surveys.stable.area) == (["SHX_REBUILT", "CRS_UNKNOWN"], 625.0)


def test_a_bow_tie_is_mended_and_it_is_said(tmp_path: Path) -> None:
    x, y = files.ORIGIN[:2] + 5
    shp, shx = files.shape_bytes([[[(x, y), (x + 20, y + 20), (x + 20, y), (x, y + 20), (x, y)]]])
    surveys = read_surveys(files.write(tmp_path, files.las_bytes(PRE), files.las_bytes(POST), shp=shp, shx=shx))
    assert "POLYGONS_MENDED" in codes(surveys)
    assert surveys.stable.is_valid
    assert surveys.stable.area == pytest.approx(2 * 20 * 10 / 2)


def test_repeated_points_are_dropped_and_it_is_said(tmp_path: Path) -> None:
    twice = files.las_bytes(np.vstack([PRE, PRE]))
    surveys = read_surveys(files.write(tmp_path, twice, files.las_bytes(POST)))
    assert len(surveys.pre) == len(PRE)
    assert "POINTS_REPEATED" in codes(surveys)


def test_single_precision_at_map_coordinates_is_told(tmp_path: Path) -> None:
    coarse = files.ply_bytes(PRE, kind="float")
    surveys = read_surveys(files.write(tmp_path, coarse, files.las_bytes(POST)))
    assert "PRECISION_LOW" in codes(surveys)
    assert "0.5 m apart" in next(n.message for n in surveys.warnings if n.code == "PRECISION_LOW")  # 2²³ steps of 4 Mm


def test_points_without_coordinates_are_dropped_and_it_is_said(tmp_path: Path) -> None:
    broken = PRE.copy()
    broken[::10, 2] = np.nan
    surveys = read_surveys(files.write(tmp_path, files.ply_bytes(broken), files.las_bytes(POST)))
    assert len(surveys.pre) == 540
    assert "60 points of 600 have no finite coordinates" in surveys.warnings[1].message


def test_degrees_claimed_for_metres_are_not_believed(tmp_path: Path) -> None:
    wrong = files.las_bytes(PRE, crs=CRS.from_epsg(4326))
    surveys = read_surveys(files.write(tmp_path, wrong, files.las_bytes(POST, crs=UTM)))
    assert codes(surveys) == ["CRS_ASSUMED", "CRS_ASSUMED"]
    assert surveys.pre.crs == "EPSG:26917"


def test_another_datum_of_the_same_zone_is_left_to_the_registration(tmp_path: Path) -> None:
    other = files.las_bytes(POST, crs=CRS.from_epsg(2958))  # NAD83(CSRS)
    surveys = read_surveys(files.write(tmp_path, files.las_bytes(PRE, crs=UTM), other))
    assert surveys.pre.crs == "EPSG:26917"
    assert set(codes(surveys)) <= {"CRS_DIFFERS"}


def refused(tmp_path: Path, pre: bytes, post: bytes, **others: bytes) -> Exception:
    with pytest.raises((InputInvalid, InputTooLarge, RegistrationFailed, StableAreaEmpty)) as refusal:
        read_surveys(files.write(tmp_path, pre, post, **others))
    assert refusal.value.remedy
    return refusal.value


def test_ten_points_are_too_few(tmp_path: Path) -> None:
    error = refused(tmp_path, files.las_bytes(PRE), files.las_bytes(POST[:10]))
    assert isinstance(error, InputInvalid)
    assert (error.label, str(error)) == ("post", "post has only 10 points; at least 100 are needed.")
    error = refused(tmp_path, files.las_bytes(np.vstack([PRE[:20]] * 50)), files.las_bytes(POST))
    assert str(error) == "pre has only 20 usable points out of 1,000; at least 100 are needed."


def test_degrees_are_refused_with_the_zone_to_use(tmp_path: Path) -> None:
    lon, lat = Transformer.from_crs(UTM, 4326, always_xy=True).transform(PRE[:, 0], PRE[:, 1])
    degrees = np.column_stack([lon, lat, PRE[:, 2]])
    named = files.las_bytes(degrees, crs=CRS.from_epsg(4326), scale=1e-7)
    error = refused(tmp_path, named, files.las_bytes(POST, crs=UTM))
    assert "is in degrees, EPSG:4326 (WGS 84); volumes need metres" in str(error)
    assert "EPSG:32617 (WGS 84 / UTM zone 17N)" in error.remedy
    text = "".join(f"{x:.8f} {y:.8f} {z:.3f}\n" for x, y, z in degrees).encode()
    error = refused(tmp_path, text, files.las_bytes(POST))
    assert "look like degrees" in str(error)
    assert "EPSG:32617" in error.remedy


def test_different_systems_are_refused_by_name(tmp_path: Path) -> None:
    error = refused(tmp_path, files.las_bytes(PRE, crs=UTM), files.las_bytes(POST, crs=CRS.from_epsg(26918)))
    assert isinstance(error, RegistrationFailed)
    assert "EPSG:26917 (NAD83 / UTM zone 17N)" in str(error)
    assert "EPSG:26918 (NAD83 / UTM zone 18N)" in str(error)


def test_surveys_farther_apart_than_any_registration_reaches_are_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, files.las_bytes(PRE), files.las_bytes(POST + np.array([300 + files.SIDE, 0, 0])))
    assert isinstance(error, RegistrationFailed)
    assert error.details["overlap"] == 0
    assert error.details["distance"] == pytest.approx(300, abs=2)


def test_surveys_a_shift_apart_are_left_to_the_registration(tmp_path: Path) -> None:
    surveys = read_surveys(files.write(tmp_path, files.las_bytes(PRE), files.las_bytes(POST + np.array([80, 0, 0]))))
    assert len(surveys.post) == len(POST)


def test_stable_ground_elsewhere_is_refused_with_the_way_to_it(tmp_path: Path) -> None:
    x, y = files.ORIGIN[:2]
    shp, shx = files.shape_bytes([[files.square(x - 12_000, y, 60)]])
    error = refused(tmp_path, files.las_bytes(PRE), files.las_bytes(POST), shp=shp, shx=shx)
    assert isinstance(error, StableAreaEmpty)
    assert "lie 12 km west of the surveys" in str(error)


def test_polygons_in_degrees_need_a_system_to_meet_the_surveys(tmp_path: Path) -> None:
    shp, shx = files.shape_bytes([[files.square(-79.4, 43.6, 0.001)]])
    error = refused(tmp_path, files.xyz_bytes(PRE), files.xyz_bytes(POST), shp=shp, shx=shx, prj=wkt(4326))
    assert (error.label, "is in degrees" in str(error)) == ("shp", True)


def test_a_run_may_set_its_own_limit(tmp_path: Path) -> None:
    inputs = files.write(tmp_path, files.las_bytes(PRE), files.las_bytes(POST))
    with pytest.raises(InputTooLarge, match="pre has 600 points; the limit of this run is 599"):
        read_surveys(inputs, max_points=599)


def test_files_that_are_not_there_or_are_folders_are_refused(tmp_path: Path) -> None:
    inputs = files.write(tmp_path, files.las_bytes(PRE), files.las_bytes(POST))
    with pytest.raises(InputInvalid, match=r"post cannot be read: gone\.laz: no such file"):
        read_surveys(inputs | {"post": tmp_path / "gone.laz"})
    with pytest.raises(InputInvalid, match="is a directory"):
        read_surveys(inputs | {"pre": tmp_path})
    with pytest.raises(InputInvalid, match="There is no input shp"):
        read_surveys({label: path for label, path in inputs.items() if label != "shp"})


def test_messages_use_the_name_that_the_user_knows(tmp_path: Path) -> None:
    inputs = files.write(tmp_path, files.las_bytes(PRE), files.las_bytes(POST))
    named = tmp_path / "flight 7.LAZ"
    named.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(InputInvalid, match=r"^pre \(flight 7\.LAZ\) is a PNG picture, not a point cloud\.$"):
        read_surveys(inputs | {"pre": named})


def test_points_on_one_line_are_no_survey(tmp_path: Path) -> None:
    line = PRE.copy()
    line[:, 0] = 630_000.0
    assert "on one line" in str(refused(tmp_path, files.las_bytes(line), files.las_bytes(POST)))


def test_heights_of_another_datum_are_told(tmp_path: Path) -> None:
    first = files.las_bytes(PRE, crs=CRS.from_user_input("EPSG:26917+5703"))  # NAVD88
    second = files.las_bytes(POST, crs=CRS.from_user_input("EPSG:26917+5713"))  # CGVD28
    surveys = read_surveys(files.write(tmp_path, first, second))
    assert (surveys.pre.crs, codes(surveys)) == ("EPSG:26917", ["VERTICAL_DATUM_DIFFERS"])


def test_geocentric_coordinates_are_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, files.las_bytes(PRE, crs=CRS.from_epsg(4978)), files.las_bytes(POST, crs=UTM))
    assert "geocentric" in str(error)


def test_a_survey_that_is_mostly_holes_is_refused(tmp_path: Path) -> None:
    broken = PRE.copy()
    broken[:400] = np.nan
    error = refused(tmp_path, files.ply_bytes(broken), files.las_bytes(POST))
    assert "400 points out of 600 without finite" in str(error)
