from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import label

from benchmarks.scenes import Bump, Plateau, flat
from pipeline.volume_change.delineation.changes import euler_threshold, find_changes, significance
from pipeline.volume_change.delineation.growth import Field, merge_fragments
from pipeline.volume_change.uncertainty.covariance import Covariance
from tests.pipeline.volume_change.pairs import found_in, scene

NO_CORRELATION = Covariance(1.0, np.zeros(1), np.ones(1), 1e4)


def field_of(change: np.ndarray, sd: float, cell: float = 1.0, covariance: Covariance = NO_CORRELATION) -> Field:
    usable = np.isfinite(change)
    return Field(change, np.full(change.shape, sd**2), usable, covariance, cell)


def disc(shape: tuple[int, int], row: float, col: float, radius: float) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(y - row, x - col) < radius


def blobs(*places: tuple[float, float, float, float], sd: float = 0.01, seed: int = 0) -> Field:
    change = np.random.default_rng(seed).normal(0, sd, (100, 100))
    for row, col, radius, height in places:
        change[disc(change.shape, row, col, radius)] += height
    return field_of(change, sd)


def found(field: Field):
    return find_changes(field, np.ones(field.change.shape, bool), field.change)


def test_the_threshold_is_where_the_expected_euler_characteristic_is_one_in_a_hundred() -> None:
    z, resels = euler_threshold(50_000, 1.0), 50_000 / (8 * np.log(2))
    expected = 2 * resels * 4 * np.log(2) * (2 * np.pi) ** -1.5 * z * np.exp(-z * z / 2)
    assert expected == pytest.approx(0.01, rel=0.02)
    assert euler_threshold(50_000, 5.0) < z < euler_threshold(500_000, 1.0)


def test_smoothed_noise_has_unit_variance() -> None:
    field = field_of(np.random.default_rng(1).normal(0, 0.03, (300, 300)), 0.03)
    for sigma in (1.0, 5.0):
        z = significance(field, field.usable, sigma)[20:-20, 20:-20]
        assert np.std(z) == pytest.approx(1.0, rel=0.1)


def test_noise_alone_is_no_change() -> None:
    assert sum(int(found(blobs(seed=seed)).labels.max()) for seed in range(20)) == 0


def test_a_pit_and_a_mound_are_found_with_their_signs_and_volumes() -> None:
    changes = found(blobs((30, 30, 6, 0.5), (70, 65, 9, -0.2)))
    assert sorted(changes.signs[1:].tolist()) == [-1, 1]
    for row, col, radius, height in ((30, 30, 6, 0.5), (70, 65, 9, -0.2)):
        own = changes.labels == changes.labels[row, col]
        cells = disc((100, 100), row, col, radius).sum()
        assert changes.change[own].sum() == pytest.approx(height * cells, rel=0.02)


def test_a_wide_change_below_the_noise_of_a_cell_is_found_at_the_coarse_scale() -> None:
    changes = found(blobs((50, 50, 18, 0.012), sd=0.01))
    assert changes.labels[50, 50] > 0
    assert changes.change[changes.labels > 0].sum() == pytest.approx(0.012 * np.pi * 18**2, rel=0.15)


def test_cut_and_fill_that_touch_stay_apart() -> None:
    changes = found(blobs((50, 40, 10, 0.3), (50, 60, 10, -0.3)))
    assert len(changes.signs) == 3
    assert changes.change[changes.labels == changes.labels[50, 40]].sum() == pytest.approx(0.3 * np.pi * 100, rel=0.03)
    assert changes.labels[50, 40] != changes.labels[50, 60]


@pytest.mark.parametrize("gap", [4, 6])
def test_changes_of_one_sign_a_few_cells_apart_are_two(gap: int) -> None:
    changes = found(blobs((50, 40, 8, 0.3), (50, 40 + 16 + gap, 8, 0.3)))
    assert len(changes.signs) == 3


def test_two_mounds_three_metres_apart_are_two() -> None:
    pair = scene(Bump(22, 30, 5, 0.6), Bump(35, 30, 5, 0.6), surface=flat(), density=60.0)
    changes, _ = found_in(pair, 3 / 60**0.5)
    assert len(changes.signs) == 3


def test_every_hull_is_one_piece() -> None:
    changes = found(blobs((30, 30, 6, 0.5), (70, 65, 9, -0.2), (30, 70, 3, 0.3)))
    for k in range(1, len(changes.signs)):
        assert label(changes.labels == k, np.ones((3, 3)))[1] == 1


def test_pieces_of_one_slab_are_joined_and_neighbours_across_a_low_border_are_not() -> None:
    labels = np.zeros((20, 40), np.int32)
    labels[5:15, 5:15], labels[5:15, 15:25], labels[5:15, 25:35] = 1, 2, 3
    change = np.where(labels > 0, 0.5, 0.0)
    change[:, 24:26] = 0.02
    merged = merge_fragments(labels, np.array([0, 1, 1, 1], np.int8), field_of(change, 0.01))
    assert merged[10, 10] == merged[10, 20] != merged[10, 30]


def test_cells_nobody_saw_inside_a_change_are_interpolated() -> None:
    field = blobs((50, 50, 12, 0.4))
    hole = disc((100, 100), 50, 52, 2.5)
    field.change[hole] = np.nan
    holed = Field(field.change, field.variance, ~hole, field.covariance, field.cell)
    changes = find_changes(holed, ~hole, holed.change)
    assert (changes.labels[hole] == changes.labels[50, 44]).all()
    assert np.allclose(changes.change[hole], 0.4, atol=0.02)


def test_a_mound_on_a_broad_swell_of_error_does_not_swallow_it() -> None:
    y, x = np.mgrid[:100, :100]
    swell = 0.03 * np.exp(-0.5 * ((x - 60) ** 2 + (y - 50) ** 2) / 15**2)
    bare = blobs((50, 50, 6, 0.6))
    covariance = Covariance(1.0, np.array([0.02**2]), np.array([15.0]), 1e4)
    field = Field(bare.change + swell, bare.variance, bare.usable, covariance, 1.0)
    changes = found(field)
    assert (changes.labels == changes.labels[50, 50]).sum() < 1.6 * np.pi * 36


def test_moving_both_surveys_moves_the_labels_with_them() -> None:
    field = blobs((30, 30, 6, 0.5), (70, 65, 9, -0.2))
    turned = Field(field.change.T.copy(), field.variance.T.copy(), field.usable.T.copy(), field.covariance, 1.0)
    assert np.array_equal(found(turned).labels > 0, (found(field).labels > 0).T)


def test_numbers_run_without_gaps_and_peaks_pass_their_threshold() -> None:
    changes = found(blobs(*[(15 + 20 * i, 15 + 17 * i, 4, 0.4) for i in range(5)]))
    numbers = np.unique(changes.labels)
    assert all(b == a + 1 for a, b in pairwise(numbers.tolist()))
    assert (changes.peaks[1:] >= 1).all()


def test_sharp_edges_are_not_smeared() -> None:
    pair = scene(Plateau(30, 30, 6, 1.0), surface=flat(), density=60.0)
    cell = 3 / 60**0.5
    changes, _ = found_in(pair, cell)
    # Half a cell on either side of the edge may be cut by it; one ring beyond may be kept.
    assert (changes.labels > 0).sum() * cell**2 < np.pi * (6 + 1.5 * cell) ** 2


def test_where_nothing_may_be_used_nothing_is_significant() -> None:
    field = blobs((50, 50, 10, 1.0))
    assert not significance(field, np.zeros((100, 100), bool), 1.0).any()


def test_a_small_steep_pit_in_quiet_ground_does_not_drown_in_it() -> None:
    field = blobs((50, 50, 1.2, 1.0))
    pit = disc((100, 100), 50, 50, 1.2)
    steep = Field(field.change, np.where(pit, 0.1**2, 0.01**2), field.usable, field.covariance, 1.0)
    assert found(steep).labels[50, 50] > 0


def test_a_change_goes_on_in_cells_whose_ground_is_doubtful_if_they_moved_with_it() -> None:
    field = blobs((50, 50, 10, 0.5))
    doubtful = np.zeros((100, 100), bool)
    doubtful[40:60, 57:64] = True  # the wall's last cells, and unchanged ground before it
    changes = found(replace(field, usable=~doubtful))
    own = changes.labels == changes.labels[50, 50]
    pit = disc((100, 100), 50, 50, 10)
    assert own[doubtful & pit].all()
    assert not own[doubtful & ~pit].any()
    assert changes.change[own].sum() == pytest.approx(0.5 * pit.sum(), rel=0.02)


def test_doubtful_cells_that_nobody_saw_are_no_part_of_a_change() -> None:
    field = blobs((50, 50, 10, 0.5))
    doubtful = np.zeros((100, 100), bool)
    doubtful[40:60, 57:64] = True
    field.change[40:60, 61:64] = np.nan
    changes = find_changes(replace(field, usable=~doubtful), ~doubtful, np.where(doubtful, 0.5, field.change))
    assert not changes.labels[40:60, 61:64].any()
