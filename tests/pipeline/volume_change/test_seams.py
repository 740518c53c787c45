"""Cut beside fill: what each side of a cell on their common edge holds is known, and each side gets it."""

import numpy as np
import pytest

from benchmarks.worlds.changes import Block
from pipeline.volume_change.comparison.difference import difference
from pipeline.volume_change.delineation.changes import Changes, find_changes
from pipeline.volume_change.delineation.growth import Field
from pipeline.volume_change.delineation.hulls import outline
from pipeline.volume_change.delineation.seams import Seams, own_part, split_seams
from pipeline.volume_change.types import Array, Raster
from pipeline.volume_change.uncertainty.covariance import Covariance
from pipeline.volume_change.uncertainty.volumes import Measured, measure
from tests.pipeline.volume_change.pairs import cloud

SIDE, NOISE, DENSITY = 40, 0.02, 12
SLOPE = 0.1  # of the ground, along x


def surveys(pair: tuple[Block, Block], seed: int) -> tuple[Array, Array]:
    """Return points of sloping ground before and after a cut and a fill."""
    rng = np.random.default_rng(seed)
    clouds = []
    for later in (0.0, 1.0):
        x, y = rng.uniform(0, SIDE, (2, SIDE * SIDE * DENSITY))
        z = SLOPE * x + later * sum(change(x, y) for change in pair) + rng.normal(0, NOISE, len(x))
        clouds.append(np.column_stack([x, y, z]))
    return clouds[0], clouds[1]


def beside(turn: float, slope: float) -> tuple[Block, Block]:
    """A pit and a heap with one common edge through the middle of the site."""
    c, s = np.cos(turn), np.sin(turn)
    return (
        Block(20.3 - 4 * c, 20.1 - 4 * s, 8, 12, turn, -1.0, slope),
        Block(20.3 + 4 * c, 20.1 + 4 * s, 8, 12, turn, 0.7, slope),
    )


def found(pair: tuple[Block, Block], seed: int) -> tuple[Changes, Field, Seams, Raster]:
    before, after = surveys(pair, seed)
    diff = difference(cloud(before), cloud(after), 1.0)
    covariance = Covariance(1.0, np.zeros(1), np.ones(1), 1e4)
    field = Field(diff.change, diff.variance, np.isfinite(diff.change), covariance, 1.0)
    changes = find_changes(
        field, np.arange(diff.change.shape[0])[:, None] * np.ones(diff.change.shape) < 6, diff.change
    )
    # Both surveys are alike, so half of the variance is each one's.
    seams = split_seams(changes, field, diff.before, diff.variance / 2, (after[:5000], after[5000:]), diff.raster)
    return changes, field, seams, diff.raster


def cut_and_fill(changes: Changes, field: Field, seams: Seams | None) -> tuple[Measured, Measured]:
    cut, fill = sorted(measure(changes, field, seams), key=lambda m: m.net)
    return cut, fill


@pytest.mark.parametrize("slope", [np.inf, 1.0])
@pytest.mark.parametrize("turn", [0.0, 0.35, 0.8])
def test_both_sides_of_a_seam_have_their_whole_volume(turn: float, slope: float) -> None:
    pair = beside(turn, slope)
    held = []
    for seed in range(4):
        changes, field, seams, _ = found(pair, seed)
        for side, truth in zip(cut_and_fill(changes, field, seams), pair, strict=True):
            assert side.net == pytest.approx(truth.volume, rel=0.03)
            held.append(abs(side.net - truth.volume) <= side.half_width)
    # Eight at 95 %: fewer than six come by chance six times in a thousand.
    assert sum(held) >= 6


def test_without_the_points_a_wall_between_them_costs_both_sides() -> None:
    pair = beside(0.35, np.inf)
    changes, field, _, _ = found(pair, 0)
    for side, truth in zip(cut_and_fill(changes, field, None), pair, strict=True):
        assert abs(side.net) < 0.98 * abs(truth.volume)


def test_the_sum_of_both_sides_is_what_the_cells_measured() -> None:
    changes, field, seams, _ = found(beside(0.35, np.inf), 1)
    split = sum(m.net for m in measure(changes, field, seams))
    cells = (changes.labels > 0) | (seams[1].owner > 0)
    assert split == pytest.approx(float(changes.change[cells].sum()), abs=1e-9)
    both = seams[1].part + seams[-1].part
    assert np.allclose(both[seams[1].owner > 0], changes.change[seams[1].owner > 0])


def test_parts_of_cells_have_their_signs_and_shares_add_up() -> None:
    changes, _, seams, _ = found(beside(0.8, np.inf), 2)
    mixed = seams[1].owner > 0
    assert mixed.any()
    assert np.array_equal(mixed, seams[-1].owner > 0)
    assert np.allclose((seams[1].share + seams[-1].share)[mixed], 1.0)
    assert (changes.signs[seams[1].owner[mixed]] == 1).all()
    assert (changes.signs[seams[-1].owner[mixed]] == -1).all()


def test_the_outline_follows_the_seam_within_cells() -> None:
    pair = beside(0.35, np.inf)
    changes, field, seams, raster = found(pair, 3)
    for side, truth in zip(cut_and_fill(changes, field, seams), pair, strict=True):
        row, col = side.box[0].start, side.box[1].start
        sign = int(changes.signs[side.number])
        polygon = outline(side.own.drawn, side.own.height, sign, row, col, raster, side.flank, None, side.own.portion)
        assert polygon.area == pytest.approx(96.0, rel=0.05)
        assert polygon.symmetric_difference(truth.outline(0.0)).area < 0.1 * 96


def test_changes_that_touch_none_of_the_other_sign_have_no_seam() -> None:
    far = (Block(10, 20, 6, 8, 0.0, -1.0), Block(30, 20, 6, 8, 0.0, 1.0))
    changes, field, seams, _ = found(far, 4)
    assert seams == {}
    inside = changes.labels == 1
    own = own_part(1, 1, inside, field.change, np.s_[:, :], seams)
    assert np.array_equal(own.drawn, inside)
    assert np.isnan(own.portion).all()
    assert not own.variance.any()
