"""Surveys that end within a cell: how much of each was seen is known on average, and volumes follow."""

import numpy as np
import pytest
from shapely import MultiPolygon, Polygon

from pipeline.clouds import PointCloud
from pipeline.volume_change.comparison.border import seen_shares
from pipeline.volume_change.detect import detect
from pipeline.volume_change.ground import select_ground
from pipeline.volume_change.register import register
from pipeline.volume_change.types import Surveys
from tests.pipeline.volume_change.pairs import silent

SIDE, DENSITY = 40, 9.0


def counts(seen: np.ndarray, seed: int) -> np.ndarray:
    """Points in each cell of which a share was seen."""
    return np.random.default_rng(seed).poisson(DENSITY * seen).astype(float)


def covered_by_disc(radius: float) -> np.ndarray:
    """Share of each cell within a disc about the middle, by 20 × 20 sub-cells."""
    fine = (np.arange(SIDE * 20) + 0.5) / 20 - SIDE / 2
    return (np.hypot(*np.meshgrid(fine, fine)) < radius).reshape(SIDE, 20, SIDE, 20).mean(axis=(1, 3))


def test_a_round_survey_has_the_area_of_its_disc() -> None:
    truth = covered_by_disc(17.3)
    areas, errors = [], []
    for seed in range(40):
        before, after = counts(truth, seed), counts(truth, 100 + seed)
        share, variance = seen_shares(before, after)
        both = (before > 0) & (after > 0)
        areas.append(share[both].sum())
        errors.append(variance[both].sum())
    # A cell with a sliver of ground has no point in one survey, and is not seen: 40 such areas sum to less than 1 %.
    assert np.mean(areas) == pytest.approx(truth.sum(), rel=0.01)
    assert np.std(areas) == pytest.approx(np.sqrt(np.mean(errors)), rel=0.4)


def test_away_from_the_border_every_cell_is_whole_and_sure() -> None:
    before, after = counts(covered_by_disc(15.0), 1), counts(covered_by_disc(18.0), 2)
    share, variance = seen_shares(before, after)
    middle = covered_by_disc(12.0) == 1
    assert (share[middle] == 1).all()
    assert (variance[middle] == 0).all()


def test_the_survey_that_ends_first_rules() -> None:
    smaller = covered_by_disc(12.4)
    share, _ = seen_shares(counts(smaller, 3), counts(np.ones_like(smaller), 4))
    both = counts(smaller, 3) > 0
    assert share[both].sum() == pytest.approx(smaller.sum(), rel=0.03)


def test_narrow_gaps_are_filled_whole_and_are_no_border() -> None:
    full = np.full((SIDE, SIDE), 9.0)
    full[10:14, 20:22] = 0
    share, variance = seen_shares(full, full)
    assert (share[2:-2, 2:-2] == 1).all()
    assert (variance[2:-2, 2:-2] == 0).all()
    assert (variance[0] > 0).all()  # nobody knows how far into them the survey reached


def test_a_survey_of_one_row_is_taken_as_it_is() -> None:
    share, variance = seen_shares(np.full((1, 5), 4.0), np.full((1, 5), 4.0))
    assert np.isfinite(share).all()
    assert (variance > 0).all()


@pytest.mark.parametrize("turn", [0.0, 0.4])
def test_a_cut_that_runs_along_the_border_has_the_volume_that_was_surveyed(turn: float) -> None:
    rng = np.random.default_rng(5)
    side, depth, n = 30.3, 0.8, 40_000

    def survey(cut: float) -> PointCloud:
        x, y = rng.uniform(0, side, (2, n))
        z = 0.3 * np.sin(x / 9) * np.cos(y / 7) - cut * (x < 10) + rng.normal(0, 0.01, n)
        c, s = np.cos(turn), np.sin(turn)
        return PointCloud(np.column_stack([c * x - s * y, s * x + c * y, z]), np.zeros(3))

    pre, post = survey(0.0), survey(depth)
    corners = np.array([(14, 2), (28, 2), (28, 28), (14, 28)], dtype=float)
    c, s = np.cos(turn), np.sin(turn)
    stable = MultiPolygon([Polygon(corners @ np.array([[c, s], [-s, c]]))])
    ground = select_ground(pre, post, "all")
    registration = register(ground.pre, ground.post, stable)
    analysis = detect(Surveys(pre, post, stable), ground, registration, cell=None, min_score=0.0, report=silent)
    (hull,) = analysis.hulls
    truth = -depth * 10 * side
    low, high = hull.net_volume_ci95
    assert low <= truth <= high
    assert high - low < 0.02 * abs(truth)
    low, high = analysis.site.net_volume_ci95
    assert low <= truth <= high
