from dataclasses import replace

import numpy as np
import pytest

from pipeline.volume_change.delineation.changes import Changes, find_changes
from pipeline.volume_change.delineation.growth import Field
from pipeline.volume_change.uncertainty.covariance import Covariance
from pipeline.volume_change.uncertainty.volumes import around, build_totals, half_width, measure, site_totals, totals
from tests.pipeline.volume_change.test_changes import blobs, disc
from tests.pipeline.volume_change.test_stable import noise


def found(field: Field) -> Changes:
    return find_changes(field, np.ones(field.change.shape, bool), field.change)


def test_volumes_are_sums_of_heights_times_the_cell_area() -> None:
    field = replace(blobs((30, 30, 6, 0.5), (70, 65, 9, -0.2)), cell=0.5)
    changes = found(field)
    nets = sorted(m.net for m in measure(changes, field))
    assert nets[0] == pytest.approx(-0.2 * disc((100, 100), 70, 65, 9).sum() * 0.25, rel=0.02)
    assert nets[1] == pytest.approx(0.5 * disc((100, 100), 30, 30, 6).sum() * 0.25, rel=0.02)


def test_white_noise_gives_a_volume_its_textbook_deviation() -> None:
    field = blobs((50, 50, 10, 1.0), sd=0.02)
    changes = found(field)
    (only,) = measure(changes, field)
    assert only.white == pytest.approx(0.02 * np.sqrt(only.inside.sum()), rel=1e-6)
    assert only.correlated == 0.0
    assert only.coverage == 1.0
    assert only.max_change == pytest.approx(1.0, abs=0.1)


def test_error_that_reaches_across_a_change_is_read_off_the_ground_around_it() -> None:
    plain, kriged = [], []
    inside = disc((100, 100), 50, 50, 8)
    covariance = Covariance(1.0, np.array([0.02**2]), np.array([20.0]), 1e4)
    for seed in range(12):
        error = noise((100, 100), 0.005, 0.02, 20.0, seed)
        change = error + np.where(inside, 0.8, 0.0)
        field = Field(change, np.full(change.shape, 0.005**2), np.ones(change.shape, bool), covariance, 1.0)
        changes = Changes(inside.astype(np.int32), np.array([0, 1], np.int8), np.array([0.0, 5.0]), change)
        (only,) = measure(changes, field)
        plain.append(float(error[inside].sum()))
        kriged.append(only.net - 0.8 * inside.sum())
        assert only.correlated < 0.5 * 0.02 * inside.sum()
    assert np.sqrt(np.mean(np.square(kriged))) < 0.4 * np.sqrt(np.mean(np.square(plain)))


def test_intervals_of_the_hulls_cover_the_truth() -> None:
    hits = []
    truth = 0.15 * disc((100, 100), 50, 50, 9).sum()
    for seed in range(60):
        field = blobs((50, 50, 9, 0.15), sd=0.03, seed=seed)
        (only,) = measure(found(field), field)
        hits.append(abs(only.net - truth) <= only.half_width)
    # 60 draws at 95 %: fewer than 52 hits happen once in two hundred times.
    assert sum(hits) >= 52


def test_net_is_fill_minus_cut_exactly_and_nothing_is_negative() -> None:
    field = blobs((30, 30, 6, 0.5), (70, 65, 9, -0.2), (30, 75, 5, -0.1))
    changes = found(field)
    measured = measure(changes, field)
    for result in (
        totals(measured, changes, field, 300.0),
        site_totals(measured, changes, field, field.change, None),
        site_totals(measured, changes, field, field.change, field.usable),
    ):
        assert result.net_volume == result.fill_volume - result.cut_volume
        assert min(result.cut_volume, result.fill_volume) >= 0
        for value, (low, high) in (
            (result.cut_volume, result.cut_volume_ci95),
            (result.fill_volume, result.fill_volume_ci95),
            (result.net_volume, result.net_volume_ci95),
        ):
            assert low <= value <= high
        assert result.cut_volume_ci95[0] >= 0


def test_noise_does_not_inflate_cut_and_fill() -> None:
    field = blobs((50, 50, 10, 0.5), sd=0.05)
    changes = found(field)
    site = site_totals(measure(changes, field), changes, field, field.change, None)
    # Summing |d| of 9700 cells of noise would add 0.4 · 0.05 m · 9700 = 194 m³ to either.
    assert site.fill_volume == pytest.approx(0.5 * disc((100, 100), 50, 50, 10).sum(), abs=25)
    assert site.cut_volume < 25


def test_errors_that_hulls_share_do_not_average_out() -> None:
    places = [(25, 25, 6, 0.5), (25, 75, 6, 0.5), (75, 25, 6, 0.5), (75, 75, 6, 0.5)]
    field = blobs(*places)
    shared = replace(field, covariance=Covariance(1.0, np.zeros(1), np.ones(1), 1e4, offset=0.01**2))
    changes = found(field)
    measured = measure(changes, shared)
    total = totals(measured, changes, shared, 400.0)
    cells = (changes.labels > 0).sum()
    half = (total.net_volume_ci95[1] - total.net_volume_ci95[0]) / 2
    assert half >= 1.96 * 0.01 * cells


def test_no_changes_sum_to_nothing() -> None:
    field = blobs()
    changes = found(field)
    assert measure(changes, field) == ()
    result = totals((), changes, field, 0.0)
    assert (result.cut_volume, result.fill_volume, result.net_volume, result.area) == (0.0, 0.0, 0.0, 0.0)
    assert result.net_volume_ci95 == (0.0, 0.0)


def test_a_half_width_adds_independent_errors_and_widens_what_is_known_from_few_patches() -> None:
    assert half_width(3.0, 4.0, 0.0, 0.0, 1e6) == pytest.approx(1.96 * 5, rel=1e-3)
    # Student's t of 5 degrees of freedom is 2.571.
    assert half_width(0.0, 1.0, 0.0, 0.0, 5.0) == pytest.approx(2.571, rel=1e-3)


def test_intervals_stay_at_or_above_their_floor() -> None:
    assert around(1.0, 3.0, floor=0.0) == (0.0, 4.0)
    assert build_totals(2.0, 5.0, 1.0, 1.0, 1.5, 9.0).net_volume_ci95 == (1.5, 4.5)


def test_without_ground_around_a_change_its_volume_stands_as_measured() -> None:
    covariance = Covariance(1.0, np.array([0.02**2]), np.array([20.0]), 1e4)
    change = np.full((20, 20), 0.5)
    field = Field(change, np.full(change.shape, 1e-4), np.ones(change.shape, bool), covariance, 1.0)
    changes = Changes(np.ones((20, 20), np.int32), np.array([0, 1], np.int8), np.array([0.0, 5.0]), change)
    (only,) = measure(changes, field)
    assert only.net == pytest.approx(200.0)
    assert only.correlated > 0.9 * 0.02 * 400 * 0.8
