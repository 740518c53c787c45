import numpy as np
import pytest
from shapely import GeometryCollection, MultiPolygon, Point, box

from pipeline.volume_change.delineation.hulls import centre_of, outline, polygons_of
from pipeline.volume_change.types import Raster

RASTER = Raster(100.0, 200.0, 0.5, 80, 80)


def share_of_disc(radius: float, row: float = 40.0, col: float = 40.0) -> np.ndarray:
    """Share of each cell that a disc covers, by 20 × 20 sub-cells."""
    fine = (np.arange(80 * 20) + 0.5) / 20
    y, x = np.meshgrid(fine, fine, indexing="ij")
    return (np.hypot(y - row, x - col) < radius).reshape(80, 20, 80, 20).mean(axis=(1, 3))


@pytest.mark.parametrize("radius", [4.0, 7.3, 12.6])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_disc_with_sharp_edges_has_its_own_area(radius: float, sign: int) -> None:
    share = share_of_disc(radius)
    mask = share > 0.02
    polygon = outline(mask, sign * 0.8 * share, sign, 0, 0, RASTER)
    assert polygon.area == pytest.approx(np.pi * (radius * 0.5) ** 2, rel=0.05)
    assert mask.sum() * 0.25 > 1.05 * polygon.area


def test_a_slope_that_runs_out_smoothly_keeps_its_whole_mask() -> None:
    y, x = np.mgrid[:80, :80]
    distance = np.hypot(y - 39.5, x - 39.5) / 15
    height = np.where(distance < 1, np.cos(np.pi / 2 * np.minimum(distance, 1)) ** 2, 0.0)
    mask = height > 0.01
    assert outline(mask, height, 1, 0, 0, RASTER).area == pytest.approx(mask.sum() * 0.25, rel=0.05)


def test_the_outline_lies_where_the_change_is() -> None:
    share = share_of_disc(6.0, row=20.0, col=50.0)
    centre = outline(share > 0, share, 1, 0, 0, RASTER).centroid
    assert centre.x == pytest.approx(100.0 + 50 * 0.5, abs=0.05)
    assert centre.y == pytest.approx(200.0 + 20 * 0.5, abs=0.05)


def test_a_window_is_placed_by_its_first_row_and_column() -> None:
    share = share_of_disc(5.0)
    whole = outline(share > 0, share, 1, 0, 0, RASTER)
    window = outline(share[30:50, 28:52] > 0, share[30:50, 28:52], 1, 30, 28, RASTER)
    assert window.hausdorff_distance(whole) < 0.1 * RASTER.cell


@pytest.mark.parametrize("cells", [[(5, 5)], [(5, 5), (5, 6)], [(5, 5), (6, 6)], [(0, 0)]])
def test_the_smallest_changes_have_a_valid_outline(cells: list[tuple[int, int]]) -> None:
    mask = np.zeros((10, 10), bool)
    for cell in cells:
        mask[cell] = True
    polygon = outline(mask, np.where(mask, -0.3, 0.0), -1, 0, 0, RASTER)
    assert polygon.is_valid
    assert polygon.geom_type == "MultiPolygon"
    assert polygon.area > 0.1 * len(cells) * 0.25


def test_a_ring_keeps_its_hole() -> None:
    share = share_of_disc(14.0) - share_of_disc(7.0)
    polygon = outline(share > 0, share, 1, 0, 0, RASTER)
    assert len(polygon.geoms) == 1
    assert len(polygon.geoms[0].interiors) == 1
    assert not polygon.contains(Point(120.0, 220.0))


def test_the_centre_of_a_bent_hull_is_inside_it() -> None:
    bent = MultiPolygon([box(0, 0, 10, 10).difference(box(1, 1, 10, 9))])
    assert not bent.contains(bent.centroid)
    assert bent.contains(Point(centre_of(bent)))


def test_heights_of_zero_still_have_an_outline() -> None:
    mask = np.zeros((12, 12), bool)
    mask[4:8, 4:8] = True
    polygon = outline(mask, np.zeros(mask.shape), 1, 0, 0, RASTER)
    assert polygon.is_valid
    assert polygon.area > 0


def test_heights_that_contradict_the_hull_leave_it_the_outline_of_its_cells() -> None:
    mask = np.zeros((9, 9), bool)
    mask[3:6, 3:6] = True
    height = np.where(mask, -0.5, 0.0)
    height[4, 4] = 0.4
    polygon = outline(mask, height, 1, 0, 0, RASTER)
    assert polygon.is_valid
    assert 0 < polygon.area <= 9 * 0.25


def test_polygons_are_picked_out_of_any_collection() -> None:
    nested = GeometryCollection([Point(0, 0), GeometryCollection([box(0, 0, 1, 1), MultiPolygon([box(2, 0, 3, 1)])])])
    assert polygons_of(nested).area == 2.0
    assert polygons_of(Point(0, 0)).is_empty
