"""What slopes say of a horizontal shift, against cases worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.volume_change.align.samples import Anchors
from pipeline.volume_change.align.slopes import both_sides_gain, effective_patches, information

SIGMA = 0.02


def anchors(normals: NDArray[np.float64], apart: float = 10.0) -> Anchors:
    """Anchors in a row, ``apart`` metres from each other, each known to ``SIGMA``."""
    m = len(normals)
    points = np.column_stack([np.arange(m) * apart, np.zeros(m), np.zeros(m)])
    nothing = np.zeros(m)
    return Anchors(points, normals, nothing, nothing, np.full(m, SIGMA**2), nothing, 1.0)


def facing(degrees: float, turn: float) -> NDArray[np.float64]:
    """Normal of a slope of so many degrees that falls towards ``turn``."""
    steep, way = np.radians([degrees, turn])
    return np.array([np.sin(steep) * np.cos(way), np.sin(steep) * np.sin(way), np.cos(steep)])


def test_level_ground_says_nothing_of_a_shift_and_a_slope_the_square_of_its_sine_over_the_variance() -> None:
    told = information(anchors(np.array([facing(0, 0)] * 4 + [facing(37, 120)])))
    assert told[:4] == pytest.approx(0.0)
    assert told[4] == pytest.approx(np.sin(np.radians(37)) ** 2 / SIGMA**2)


def test_a_slope_that_the_whole_site_shares_says_nothing_for_it_looks_like_a_height() -> None:
    assert information(anchors(np.array([facing(5, 0)] * 6))) == pytest.approx(0.0)


def test_equal_patches_count_fully_and_one_heavy_patch_counts_as_one() -> None:
    points = np.column_stack([np.arange(8) * 3.0, np.zeros(8)])
    assert effective_patches(points, np.ones(8), 3.0) == pytest.approx(8.0)
    assert effective_patches(points, np.array([1.0] + [0.0] * 7), 3.0) == pytest.approx(1.0)
    assert effective_patches(points, np.zeros(8), 3.0) == 0.0


@pytest.mark.parametrize(("east", "west", "speaks"), [(8, 8, True), (16, 0, False), (8, 5, False)])
def test_a_shift_needs_slopes_on_either_side_of_it(east: int, west: int, speaks: bool) -> None:
    level = [facing(0, 0)] * 40
    row = anchors(np.array([facing(30, 0)] * east + [facing(30, 180)] * west + level))
    eastward = np.tile([0.4, 0.0], (len(row), 1))
    is_level = row.normals[:, 2] == 1
    everything = np.ones(len(row), dtype=bool)
    assert both_sides_gain(row, eastward, is_level, everything, 0.1, 5.0) is speaks


def test_a_bank_worn_back_moves_one_side_into_place_and_the_other_out_of_it() -> None:
    row = anchors(np.array([facing(30, 0)] * 10 + [facing(30, 180)] * 10 + [facing(0, 0)] * 30))
    eastward = np.tile([0.4, 0.0], (len(row), 1))
    falls_east = row.normals[:, 0] > 0.1
    assert not both_sides_gain(row, eastward, ~falls_east, row.normals[:, 0] >= 0, 0.1, 5.0)
