import numpy as np
import pytest

from pipeline.volume_change.delineation.changes import Changes
from pipeline.volume_change.delineation.growth import Field
from pipeline.volume_change.uncertainty.bumps import DOUBTFUL, bumps
from pipeline.volume_change.uncertainty.covariance import Covariance

WHITE = Covariance(1.0, np.zeros(1), np.ones(1), 100.0)
NOISE = 0.02


def field_of(change: np.ndarray) -> Field:
    return Field(change, np.full(change.shape, NOISE**2), np.ones(change.shape, bool), WHITE, 0.5)


def changes_of(labels: np.ndarray, change: np.ndarray, peak: float = 1.2) -> Changes:
    n = int(labels.max())
    return Changes(labels, np.ones(n + 1, np.int8), np.r_[0.0, np.full(n, peak)], change)


def squares(*corners: tuple[int, int], side: int = 12) -> np.ndarray:
    labels = np.zeros((120, 120), np.int32)
    for number, (row, col) in enumerate(corners, start=1):
        labels[row : row + side, col : col + side] = number
    return labels


def white(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, NOISE, (120, 120))


def test_ground_as_the_covariance_foretells_shows_no_excess() -> None:
    labels = squares((30, 40))
    found = bumps(changes_of(labels, white()), field_of(white() + 0.3 * (labels > 0)), 3)
    # 120² cells hold about 80 independent windows of the hull's size: their mean square is known to √(2/80) = 16 %.
    assert found.excess[1] == pytest.approx(1.0, abs=0.25)
    assert found.share[1] == 144 / 120**2


def test_an_error_of_long_range_shows_at_the_size_of_the_hull_and_not_at_that_of_a_cell() -> None:
    x = np.arange(120)
    waves = 0.02 * (np.sin(2 * np.pi * x / 60)[:, None] + np.sin(2 * np.pi * x / 60)[None, :])
    large, small = squares((30, 40)), squares((30, 40), side=2)
    wide, narrow = (
        bumps(changes_of(labels, waves), field_of(white() + waves), 3).excess[1] for labels in (large, small)
    )
    # Mean square of the waves: 0.02²; of white noise in windows of 12 × 12 cells: (0.02/12)².
    assert wide == pytest.approx(12.0, rel=0.25)
    assert narrow == pytest.approx(np.sqrt(1 + 4), rel=0.1)


def test_hulls_in_doubt_count_as_ground_for_each_other_and_sure_ones_do_not() -> None:
    labels = squares((20, 20), (80, 80))
    change = white() + 0.05 * (labels > 0)
    doubtful = bumps(changes_of(labels, change, 1.2), field_of(change), 3)
    sure = bumps(changes_of(labels, change, 2 * DOUBTFUL), field_of(change), 3)
    assert sure.excess[1] == pytest.approx(1.0, abs=0.25)
    assert doubtful.excess[1] > 1.5 * sure.excess[1]


def test_a_hull_of_nearly_the_whole_site_has_nothing_to_be_held_against() -> None:
    labels = np.ones((120, 120), np.int32)
    labels[:2] = 0
    found = bumps(changes_of(labels, white()), field_of(white() + 0.1), 3)
    assert found.excess[1] == 1.0
    assert found.share[1] == pytest.approx(118 / 120)
