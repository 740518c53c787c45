"""The bundled pair of Tommy Thompson Park, whose figures are known from plain differencing elsewhere."""

from pathlib import Path

import numpy as np
import pytest
import shapely
from shapely import Point

from app import samples
from pipeline.volume_change.detect import detect
from pipeline.volume_change.ground import select_ground
from pipeline.volume_change.read import read_surveys
from pipeline.volume_change.types import Analysis
from tests.pipeline.volume_change.pairs import moved_by, silent

SAMPLE = Path(samples.__file__).parent / "ttp"
OFFSET = -0.411  # m on stable ground, found by other means
QUIET_MEADOW = Point(634_270, 4_831_520)  # map coordinates
MID_SHORE = Point(634_122, 4_831_718)


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    names = {"pre": "pre_2015.laz", "post": "post_2023.laz", "shp": "stable_area.shp", "shx": "stable_area.shx"}
    surveys = read_surveys({label: SAMPLE / name for label, name in names.items()})
    ground = select_ground(surveys.pre, surveys.post)
    return detect(surveys, ground, moved_by(-OFFSET), cell=None, min_score=0.0, report=silent)


def local(analysis: Analysis, place: Point) -> Point:
    return Point(place.x - analysis.surveys.origin[0], place.y - analysis.surveys.origin[1])


def test_the_site_agrees_with_the_known_net_within_its_interval(analysis: Analysis) -> None:
    low, high = analysis.site.net_volume_ci95
    assert low <= 5316 <= high
    assert high - low < 4000


def test_the_offset_of_the_stable_ground_is_said(analysis: Analysis) -> None:
    (notice,) = [n for n in analysis.warnings if n.code == "STABLE_GROUND_OFFSET"]
    assert "\N{MINUS SIGN}0.41 m" in notice.message
    # Known: NMAD 0.044 m of single metre cells; wider cells average some of it.
    assert 0.02 < analysis.errors.sigma < 0.05


def test_the_western_shore_is_cut_and_has_accreted_beside_it(analysis: Analysis) -> None:
    shore = local(analysis, MID_SHORE).buffer(60)
    near = [h for h in analysis.hulls if h.score >= 0.5 and h.polygon.intersects(shore)]
    assert any(h.cut_volume > 300 and h.max_change < -0.7 for h in near)
    assert any(h.fill_volume > 1000 for h in near)


def test_the_quiet_meadow_has_no_hull(analysis: Analysis) -> None:
    meadow = local(analysis, QUIET_MEADOW).buffer(60)
    assert not any(h.polygon.intersects(meadow) for h in analysis.hulls)


def test_the_dry_land_agrees_with_the_known_figures(analysis: Analysis) -> None:
    import geopandas

    dry = geopandas.read_file(SAMPLE / "aoi_dryland.shp").union_all()
    grid = analysis.difference.raster
    x = analysis.surveys.origin[0] + grid.x0 + (np.arange(grid.cols) + 0.5) * grid.cell
    y = analysis.surveys.origin[1] + grid.y0 + (np.arange(grid.rows) + 0.5) * grid.cell
    change = analysis.difference.change[shapely.contains_xy(dry, *np.meshgrid(x, y))]
    area = grid.cell**2
    # Known from a 1 m difference of interpolated surfaces: fill 5,311, cut 5,115, net +196.
    assert np.nansum(np.maximum(change, 0)) * area == pytest.approx(5311, rel=0.1)
    assert -np.nansum(np.minimum(change, 0)) * area == pytest.approx(5115, rel=0.1)
    half = (analysis.site.net_volume_ci95[1] - analysis.site.net_volume_ci95[0]) / 2
    assert np.nansum(change) * area == pytest.approx(196, abs=half)


def test_every_hull_of_classified_ground_is_ground(analysis: Analysis) -> None:
    assert {h.kind for h in analysis.hulls} == {"ground"}
