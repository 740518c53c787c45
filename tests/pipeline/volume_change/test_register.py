"""Registration against motions that are known, and pairs that must be refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from app import samples
from benchmarks.scenes import ORIGIN, Bump, Plateau, Scene, Surface, flat, hills, quarry
from pipeline.clouds import PointCloud
from pipeline.errors import InputInvalid, RegistrationFailed
from pipeline.volume_change.ground import select_ground
from pipeline.volume_change.read import read_surveys
from pipeline.volume_change.register import register
from pipeline.volume_change.types import Registration

TTP = Path(samples.__file__).parent / "ttp"
NOWHERE = MultiPolygon()


def motion(yaw: float = 0.0, shift: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> NDArray[np.float64]:
    """A turn by ``yaw`` degrees and a shift in metres, about the middle of a scene."""
    a = np.radians(yaw)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    matrix[:3, 3] = shift
    return matrix


def pair(scene: Scene) -> tuple[PointCloud, PointCloud, MultiPolygon]:
    pre, post = (PointCloud(np.ascontiguousarray(points - ORIGIN), ORIGIN) for points in scene.clouds())
    return pre, post, MultiPolygon([Polygon(np.array(ring) - ORIGIN[:2]) for ring in scene.stable_rings()])


def residual_mm(scene: Scene, found: Registration) -> NDArray[np.float64]:
    """How far the site still is from where it was: root mean square over its ground along x, y and z, mm."""
    g = np.linspace(0, scene.size, 20)
    x, y = (v.ravel() for v in np.meshgrid(g, g))
    ground = np.column_stack([x, y, scene.surface(x, y)])
    centre = np.array([scene.size / 2, scene.size / 2, 0.0])
    moved = (ground - centre) @ scene.motion[:3, :3].T + scene.motion[:3, 3] + centre
    back = moved @ found.matrix[:3, :3].T + found.matrix[:3, 3]
    return np.sqrt(((back - ground) ** 2).mean(axis=0)) * 1e3


def rms_mm(scene: Scene, found: Registration) -> float:
    """The same in 3-D."""
    return float(np.linalg.norm(residual_mm(scene, found)))


@pytest.mark.parametrize("surface", [hills(), quarry()], ids=["hills", "quarry"])
def test_a_small_motion_is_undone_to_millimetres(surface: Surface) -> None:
    scene = Scene("moved", surface, motion=motion(2.0, (0.8, -0.5, 0.3)), density=60, size=100.0, seed=4)
    found = register(*pair(scene))
    # Slopes of 5 to 10 % show a sideways shift twenty times worse than a height; heights make volumes.
    assert residual_mm(scene, found)[2] <= 0.5
    assert rms_mm(scene, found) <= 5.0
    assert "fit" in found.method
    assert found.converged
    assert {notice.code for notice in found.warnings} == {"REGISTRATION_MOVED"}


def test_a_large_one_sided_cut_does_not_tilt_the_survey() -> None:
    cut = (Plateau(25, 50, 18, -3.0), Bump(30, 20, 12, -2.0))
    scene = Scene("cut", hills(), cut, motion=motion(1.0, (0.3, 0.2, -0.1)), density=40, size=100.0, seed=5)
    assert rms_mm(scene, register(*pair(scene))) <= 3.0


def test_surveys_that_lie_right_are_left_alone() -> None:
    scene = Scene("still", hills(), (Bump(50, 50, 8, 1.0),), density=30, size=100.0, seed=6)
    found = register(*pair(scene))
    assert found.method.startswith("identity")
    assert np.array_equal(found.matrix[:3, :3], np.eye(3))
    assert np.array_equal(found.matrix[:2, 3], np.zeros(2))
    assert abs(found.matrix[2, 3]) < 0.003
    assert found.warnings == ()


def test_a_vertical_offset_is_found_reported_and_removed() -> None:
    scene = Scene("low", hills(), motion=motion(shift=(0, 0, -0.41)), density=20, size=100.0, seed=7)
    found = register(*pair(scene))
    assert found.stable_offset == pytest.approx(-0.41, abs=0.005)
    assert found.matrix[2, 3] == pytest.approx(0.41, abs=0.005)


@pytest.mark.parametrize("offset", [-36.4, 7.0, 28.2, 412.0])
def test_heights_above_another_datum_are_found_however_far_and_dense_the_points(offset: float) -> None:
    # Ellipsoid and geoid lie up to 100 m apart; the denser the points, the shorter reach the distances.
    scene = Scene("datum", hills(), motion=motion(shift=(0.0, 0.0, offset)), density=60, size=60.0, seed=9)
    found = register(*pair(scene))
    assert found.stable_offset == pytest.approx(offset, abs=0.01)
    assert found.dof == ("z",)
    assert residual_mm(scene, found)[2] <= 1.0


def test_flat_ground_cannot_show_a_sideways_shift_so_none_is_made_up() -> None:
    scene = Scene("flat", flat(0.02), density=20, size=100.0, seed=8)
    found = register(*pair(scene))
    assert np.hypot(*found.matrix[:2, 3]) == 0


def test_a_survey_compared_with_itself_stays_where_it_is() -> None:
    pre, _, stable = pair(Scene("same", hills(), density=10, size=80.0, seed=9))
    found = register(pre, pre, stable)
    assert np.array_equal(found.matrix, np.eye(4))
    assert found.rmse <= 1e-6
    assert found.stable_offset == 0


@pytest.mark.parametrize(("yaw", "shift"), [(95.0, (60.0, -30.0, 2.0)), (-170.0, (-40.0, 70.0, -3.0))])
def test_a_survey_in_other_coordinates_is_found_by_its_relief(yaw: float, shift: tuple[float, float, float]) -> None:
    scene = Scene("turned", hills(relief=8.0), motion=motion(yaw, shift), density=15, size=120.0, seed=10)
    found = register(*pair(scene))
    assert rms_mm(scene, found) <= 10.0
    assert found.method.startswith("relief search")
    assert "REGISTRATION_SEARCHED" in {notice.code for notice in found.warnings}


def test_flat_ground_with_errors_that_hang_together_is_not_taken_for_another_site() -> None:
    for seed in range(3):
        scene = Scene("wavy", flat(), density=21, noise=0.015, correlated=0.015, size=100.0, seed=100 + seed)
        assert register(*pair(scene)).rmse < 0.04  # two surveys with 15 mm of such error, and noise


@pytest.mark.parametrize("relief", [0.2, 1.0])
def test_another_flat_field_is_refused(relief: float) -> None:
    pre, _, stable = pair(Scene("here", flat(relief), density=10, size=100.0, seed=11))
    elsewhere = lambda x, y: 0.01 * x + relief * np.sin(x / 11 + y / 29) * np.cos(y / 13)  # noqa: E731
    _, other, _ = pair(Scene("there", elsewhere, density=10, size=100.0, seed=12))
    with pytest.raises(RegistrationFailed):
        register(pre, other, stable)


@pytest.mark.parametrize(("yaw", "shift"), [(87.0, (40.0, 30.0, 1.0)), (150.0, (50.0, 0.0, 0.0))])
def test_a_flat_field_far_from_its_place_is_refused_rather_than_put_just_anywhere(
    yaw: float, shift: tuple[float, float, float]
) -> None:
    scene = Scene("lost", flat(), motion=motion(yaw, shift), density=12, size=100.0, seed=13)
    with pytest.raises(RegistrationFailed):
        register(*pair(scene))


def test_ground_that_looks_the_same_turned_around_is_refused_when_it_was_turned() -> None:
    waves = lambda x, y: np.cos((x - 50) / 3) * np.cos((y - 50) / 4) * 2  # noqa: E731  the same after half a turn
    scene = Scene("symmetric", waves, motion=motion(150.0, (70.0, 10.0, 0.0)), density=12, size=100.0, seed=19)
    with pytest.raises(RegistrationFailed):
        register(*pair(scene))


def test_neighbouring_sites_that_share_no_ground_are_refused() -> None:
    pre, post, stable = pair(Scene("west and east", hills(), density=10, size=160.0, seed=20))
    west, east = pre.select(pre.points[:, 0] < 75), post.select(post.points[:, 0] > 85)
    with pytest.raises(RegistrationFailed) as refused:
        register(west, east, stable)
    assert refused.value.details["overlap"] < 0.2


def test_ground_at_one_place_is_refused() -> None:
    pre, _, stable = pair(Scene("point", hills(), density=5, size=60.0, margin=10.0, seed=21))
    with pytest.raises(RegistrationFailed, match="no spacing"):
        register(pre, PointCloud(np.ones((50, 3)), ORIGIN), stable)


@pytest.mark.parametrize("overlap", [0.6, 0.8])
def test_half_a_survey_in_other_coordinates_is_found(overlap: float) -> None:
    scene = Scene("half", hills(seed=3), motion=motion(120.0, (60.0, -40.0, 2.0)), density=15, size=120.0, seed=22)
    pre, post, stable = pair(scene)
    along = post.points[:, 0]
    found = register(pre, post.select(along <= np.quantile(along, overlap)), stable)
    assert rms_mm(scene, found) <= 25.0


def test_flat_ground_moved_a_little_is_level_again_and_not_sent_further_away() -> None:
    scene = Scene("flat", flat(), motion=motion(2.0, (0.5, 0.4, 0.3)), density=40, size=100.0, seed=23)
    x, y, z = residual_mm(scene, register(*pair(scene)))
    assert z <= 30.0  # the noise of one point; 300 mm as delivered
    assert np.hypot(x, y) <= 1_800.0  # as delivered: √(0.5² + 0.4²) m and 2° at 41 m are 1.6 m


def test_another_site_is_refused_not_bent_into_place() -> None:
    pre, _, stable = pair(Scene("here", hills(seed=1), density=10, size=100.0, seed=11))
    _, other, _ = pair(Scene("there", hills(seed=99), density=10, size=100.0, seed=12))
    with pytest.raises(RegistrationFailed, match="cannot be put on top") as refused:
        register(pre, other, stable)
    assert set(refused.value.details) == {"overlap", "rmse", "agreement"}
    assert refused.value.remedy


def test_thin_and_unlike_densities_do_not_shift_the_surveys() -> None:
    thin = Scene("thin", hills(), density=0.3, density_post=30.0, size=200.0, margin=40.0, seed=14)
    found = register(*pair(thin))
    assert np.hypot(*found.matrix[:2, 3]) < 0.02
    assert abs(found.matrix[2, 3]) < 0.02


def test_without_stable_ground_the_whole_site_decides() -> None:
    scene = Scene("all", hills(), motion=motion(1.0, (0.4, 0.3, 0.2)), density=20, size=100.0, seed=15)
    pre, post, _ = pair(scene)
    assert rms_mm(scene, register(pre, post, NOWHERE)) <= 5.0


def test_trusted_coordinates_are_not_touched() -> None:
    scene = Scene("trusted", hills(), motion=motion(shift=(0, 0, 0.3)), density=8, size=80.0, seed=16)
    found = register(*pair(scene), engine="none")
    assert np.array_equal(found.matrix, np.eye(4))
    assert found.stable_offset == pytest.approx(0.3, abs=0.01)


def test_the_same_pair_gives_the_same_bits() -> None:
    scene = Scene("again", hills(), motion=motion(1.0, (0.2, 0.1, 0.1)), density=15, size=80.0, seed=17)
    first, second = (register(*pair(scene)).matrix.tobytes() for _ in range(2))
    assert first == second


def test_the_bundled_surveys_differ_by_their_height_alone() -> None:
    inputs = {"pre": TTP / "pre_2015.laz", "post": TTP / "post_2023.laz"}
    inputs |= {label: TTP / f"stable_area.{label}" for label in ("shp", "shx", "prj")}
    surveys = read_surveys(inputs)
    ground = select_ground(surveys.pre, surveys.post)
    found = register(ground.pre, ground.post, surveys.stable)
    assert found.dof == ("z",)
    assert np.array_equal(found.matrix[:2, 3], np.zeros(2))
    assert found.stable_offset == pytest.approx(-0.41, abs=0.01)  # a plain 1 m raster difference says −0.410
    assert found.matrix[2, 3] == pytest.approx(0.41, abs=0.01)


def test_asking_for_open3d_without_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open3d", None)  # as if it were not installed
    scene = Scene("o3d", hills(), density=8, size=60.0, margin=10.0, seed=18)
    with pytest.raises(InputInvalid) as refused:
        register(*pair(scene), engine="open3d")
    assert "pip install" in refused.value.remedy
