"""Flanks with a known end on a grid with known noise: the rim is found where it is."""

from collections.abc import Callable

import numpy as np
import pytest

from pipeline.volume_change.delineation.hulls import outline
from pipeline.volume_change.delineation.rim import FADED, Rim, Shape, depth_of, faces, find_rim
from pipeline.volume_change.types import Array, Raster

CELL, SIDE = 0.5, 120
RASTER = Raster(0.0, 0.0, CELL, SIDE, SIDE)
NOISE = 0.01
Flank = Callable[[Array], Array]
RADIUS = 12.0  # m


def slope(r: Array) -> Array:
    """A heap with slopes of 1 in 2, two metres high."""
    return np.clip((RADIUS - r) / 2, 0.0, 2.0)


def foot(r: Array) -> Array:
    """A mound that runs out like a cosine."""
    return np.where(r < RADIUS, np.cos(np.pi / 2 * np.minimum(r / RADIUS, 1.0)) ** 2, 0.0)


def fading(r: Array) -> Array:
    """A Gaussian that has faded to 4 % at the radius."""
    return np.exp(-0.5 * (FADED * r / RADIUS) ** 2)


def slab(r: Array) -> Array:
    """A slab with upright walls."""
    return np.where(r < RADIUS, 1.0, 0.0)


def measured(flank: Flank, seed: int, centre: float = 30.1) -> Array:
    """Return cells' mean heights with white noise."""
    fine = (np.arange(SIDE * 8) + 0.5) / 8 * CELL
    r = np.hypot(fine[:, None] - centre, fine[None, :] - centre - 0.15)
    cells = flank(r).reshape(SIDE, 8, SIDE, 8).mean(axis=(1, 3))
    return cells + np.random.default_rng(seed).normal(0.0, NOISE, cells.shape)


def rim_of(height: Array, level: float, sill: float = 0.0) -> tuple[Rim, Array]:
    """Find the rim of the cells above a level."""
    y, x = np.mgrid[:SIDE, :SIDE]
    inside = (height > level) & (np.hypot(y - 60, x - 60) < 40)
    variance = np.full(height.shape, NOISE**2)
    return find_rim(depth_of(inside), height, variance, np.ones_like(inside), sill=sill, cell=CELL), inside


# Where a metre-high flank (two metres for the slope) has 2 cm left, as a share of the radius at which it ends.
AT_2_CM = {slope: 1 - 0.04 / RADIUS, foot: 2 / np.pi * np.arccos(0.02**0.5), fading: (-2 * np.log(0.02)) ** 0.5 / FADED}


@pytest.mark.parametrize("level", [0.05, 0.1])
@pytest.mark.parametrize("flank", [slope, foot, fading])
def test_the_outline_lies_where_the_flank_has_2_cm_left_wherever_the_cells_ended(flank: Flank, level: float) -> None:
    for seed in range(5):
        height = measured(flank, seed)
        rim, inside = rim_of(height, level)
        assert rim.shape == flank.__name__
        polygon = outline(inside, height, 1, 0, 0, RASTER, rim, np.ones_like(inside))
        assert polygon.area == pytest.approx(np.pi * (AT_2_CM[flank] * RADIUS) ** 2, rel=0.1)


@pytest.mark.parametrize("shape", ["slope", "foot", "fading"])
def test_a_flank_has_a_height_where_it_says_so(shape: Shape) -> None:
    rim = Rim(shape, -1.5, 6.0, 0.8)
    for level in (0.01, 0.1, 0.3):
        assert rim.heights(np.array(rim.depth_at(level))) == pytest.approx(level, rel=1e-9)
    # Of what is hardly higher than the level, the inner half still is its own.
    assert rim.depth_at(5.0) == rim.depth_at(0.4)


def test_a_wall_is_an_edge_though_the_grid_smears_it() -> None:
    for seed in range(5):
        assert rim_of(measured(slab, seed), 0.05)[0] == Rim()


def test_what_fades_beyond_the_cells_is_known_from_the_flank() -> None:
    height = measured(fading, 0)
    rim, inside = rim_of(height, 0.05)
    foot = rim.heights(depth_of(inside))[~inside].sum() * CELL**2
    sigma = RADIUS / FADED
    beyond = 2 * np.pi * sigma**2 * 0.05  # ∫ h dA where h < 5 % of a Gaussian's height of 1
    assert foot == pytest.approx(beyond, rel=0.25)


def test_a_constant_error_is_not_taken_for_a_flank() -> None:
    lifted = rim_of(measured(foot, 1) + 0.03, 0.13, sill=0.03**2)[0]
    plain = rim_of(measured(foot, 1), 0.1, sill=0.03**2)[0]
    assert lifted.end == pytest.approx(plain.end, abs=0.6)  # cells; 3 cm lift this flank's level by more than that


@pytest.mark.parametrize("cells", [1, 2, 5])
def test_few_cells_have_no_flank(cells: int) -> None:
    inside = np.zeros((20, 20), bool)
    inside[10, 8 : 8 + cells] = True
    height = np.where(inside, 1.0, 0.0)
    found = find_rim(depth_of(inside), height, np.full(inside.shape, 1e-4), np.ones_like(inside), sill=0.0, cell=CELL)
    assert found == Rim()


def test_an_outline_does_not_reach_into_what_was_not_seen() -> None:
    height = measured(foot, 2)
    rim, inside = rim_of(height, 0.06)
    assert rim.end < -2
    room = np.zeros_like(inside)
    room[:, :60] = True
    polygon = outline(inside, height, 1, 0, 0, RASTER, rim, room)
    _, _, east, _ = outline(inside, height, 1, 0, 0, RASTER).bounds
    assert polygon.bounds[2] == pytest.approx(east, abs=CELL)
    assert polygon.bounds[0] == pytest.approx(30.25 - AT_2_CM[foot] * RADIUS, abs=CELL)


def test_cells_between_two_changes_face_each_other_and_not_the_free_ground() -> None:
    inside, others = np.zeros((2, 20, 20), bool)
    inside[5:15, 4:10] = True
    others[5:15, 10:16] = True
    towards = faces(inside, others)
    assert towards[10, 7:10].all()
    assert not towards[10, 4:6].any()
    assert not towards[~inside].any()
