from dataclasses import replace

import numpy as np
import pytest

from pipeline.volume_change.delineation.score import (
    Appearance,
    Higher,
    appearance,
    ground_probability,
    kind_of,
    probability,
    score_of,
)
from pipeline.volume_change.delineation.seams import Own
from pipeline.volume_change.uncertainty.volumes import Measured

MASK = np.zeros((40, 40), bool)
MASK[12:28, 12:28] = True
OWN = Own(MASK, MASK.astype(float), np.zeros(MASK.shape), np.full(MASK.shape, np.nan))
HULL = Measured(
    number=1, box=np.s_[0:40, 0:40], weights=MASK.astype(float), inside=MASK, own=OWN, net=100.0, white=2.0,
    correlated=1.0, rim=0.0, gap=0.0, half_width=5.0, coverage=1.0, max_change=0.6,
)  # fmt: skip
EARTH = Appearance(roughness=0.1, contrast=0.05, near=0.0, rim_gradient=0.14, area=60.0, height=1.0, stands=1.0)
PLANT = Appearance(roughness=4.5, contrast=3.5, near=0.08, rim_gradient=0.58, area=5.0, height=1.2, stands=0.9)
VEHICLE = Appearance(roughness=3.0, contrast=2.0, near=0.05, rim_gradient=1.6, area=9.0, height=1.6, stands=0.9)


def test_a_strong_change_is_almost_certain_and_a_faint_one_is_not() -> None:
    assert probability(HULL, 1.0, 0.02) > 0.99
    faint = replace(HULL, net=3.0)
    assert probability(faint, 1.0, 0.02) < 0.3


@pytest.mark.parametrize(("worse", "better"), [(2.0, 20.0), (20.0, 200.0)])
def test_more_volume_over_its_error_is_never_less_likely(worse: float, better: float) -> None:
    assert probability(replace(HULL, net=worse), 1.0, 0.1) <= probability(replace(HULL, net=better), 1.0, 0.1)


def test_a_hull_is_less_likely_where_the_site_has_higher_bumps_than_the_stable_ground_foretold() -> None:
    doubtful = replace(HULL, net=20.0)
    likely = [probability(doubtful, excess, 0.05) for excess in (0.5, 1.0, 2.0, 4.0)]
    assert likely[0] == likely[1]  # calmer ground than foretold proves nothing
    assert likely[1] > likely[2] > likely[3]


def test_a_hull_of_half_the_site_needs_more_than_one_of_a_twentieth() -> None:
    doubtful = replace(HULL, net=20.0)
    assert probability(doubtful, 1.0, 0.5) < probability(doubtful, 1.0, 0.05) == probability(doubtful, 1.0, 0.001)


@pytest.mark.parametrize("net", [0.0, 1e-12, 1e12])
@pytest.mark.parametrize(("excess", "share"), [(0.0, 0.0), (1e9, 1.0)])
def test_a_score_is_a_probability_whatever_comes(net: float, excess: float, share: float) -> None:
    assert 0.0 <= probability(replace(HULL, net=net, white=0.0, correlated=0.0), excess, share) <= 1.0


@pytest.mark.parametrize(("look", "kind"), [(EARTH, "ground"), (PLANT, "vegetation"), (VEHICLE, "object")])
def test_earth_plants_and_vehicles_are_told_apart(look: Appearance, kind: str) -> None:
    assert kind_of(look, ground_probability(look)) == kind


def test_a_small_upright_heap_is_likelier_earth_if_nothing_of_it_was_taken_for_an_object() -> None:
    heap = Appearance(roughness=0.3, contrast=0.1, near=0.0, rim_gradient=1.3, area=9.0, height=1.2, stands=1.0)
    assert ground_probability(heap) > 0.5
    assert ground_probability(replace(heap, near=0.1)) < 0.25
    assert ground_probability(replace(heap, contrast=3.0)) < 0.5


@pytest.mark.parametrize(("likely", "kind"), [(0.4, "object"), (0.6, "unknown"), (0.9, "ground")])
def test_what_may_be_either_is_called_unknown(likely: float, kind: str) -> None:
    assert kind_of(VEHICLE, likely) == kind
    assert score_of(HULL, 1.0, 0.02, likely) == probability(HULL, 1.0, 0.02) * likely


def test_what_the_filter_took_whole_is_likelier_a_vehicle_unless_it_is_longer_than_any() -> None:
    heap = Appearance(roughness=0.3, contrast=0.1, near=0.0, rim_gradient=1.3, area=20.0, height=2.0, stands=1.0)
    taken = replace(heap, whole=0.9)
    assert ground_probability(taken) < 0.5 * ground_probability(heap)
    assert ground_probability(replace(taken, length=25.0)) > ground_probability(replace(taken, length=6.0))
    assert kind_of(replace(taken, rim_gradient=0.5), 0.3) == "object"


def test_what_scatters_as_far_as_it_rose_is_grass() -> None:
    meadow = Appearance(roughness=1.0, contrast=0.6, near=0.0, rim_gradient=0.02, area=300.0, height=0.1, stands=1.0)
    assert ground_probability(replace(meadow, grown=0.3)) > 0.9
    assert kind_of(meadow, ground_probability(replace(meadow, grown=1.8))) == "vegetation"


@pytest.mark.parametrize(("scatter", "grown"), [(0.0, 0.0), (0.05, 1.0)])
def test_growth_is_scatter_beyond_that_of_the_ground_around_over_the_mean_change(scatter: float, grown: float) -> None:
    noise = 0.02
    roughness = np.where(MASK, noise**2 + scatter**2, noise**2)
    change = np.where(MASK, 0.05, 0.0)
    look = appearance(HULL, change, Higher(change, roughness, np.zeros((40, 40))), noise**2, 0.5)
    assert look.grown == pytest.approx(grown, abs=1e-9)
    assert look.length == pytest.approx(16 * 0.5)


def test_the_share_that_the_filter_took_whole_is_that_of_the_volume() -> None:
    whole = np.zeros(MASK.shape, bool)
    whole[12:28, 12:16] = True
    change = np.where(whole, 3.0, np.where(MASK, 1.0, 0.0))
    flat = Higher(change, np.full((40, 40), 0.001), np.zeros((40, 40)), whole)
    assert appearance(HULL, change, flat, 0.001, 0.5).whole == pytest.approx(0.5)  # 3 x 4 of 3 x 4 + 1 x 12 columns


def test_what_is_higher_than_wide_is_no_earth() -> None:
    pole = Appearance(roughness=0.3, contrast=0.3, near=0.0, rim_gradient=0.1, area=0.25, height=1.6, stands=0.0)
    assert kind_of(pole, ground_probability(pole)) == "object"
    assert ground_probability(pole, classified=True) < 0.25


@pytest.mark.parametrize(("high", "stands"), [(0.6, 1.0), (0.0, 0.0)])
def test_what_stands_on_a_slope_is_told_from_a_pit_in_it(high: float, stands: float) -> None:
    y, x = np.mgrid[:40, :40]
    slope = 0.2 * x - 0.1 * y
    survey = Higher(slope + np.where(MASK, high, 0.0), np.full((40, 40), 0.001), np.zeros((40, 40)))
    look = appearance(HULL, np.where(MASK, 0.6, 0.0), survey, 0.001, 0.5)
    assert look.stands == pytest.approx(stands, abs=1e-6)


def test_where_the_ground_was_classified_only_the_extreme_is_a_plant() -> None:
    bank = replace(PLANT, roughness=2.0, contrast=1.6)
    assert ground_probability(bank, classified=True) == 1.0
    assert kind_of(PLANT, ground_probability(PLANT, classified=True)) == "vegetation"
    assert ground_probability(replace(PLANT, stands=0.0), classified=True) == 1.0  # it lies below the ground around


def test_a_rough_hull_on_smooth_ground_stands_out() -> None:
    roughness = np.where(MASK, 0.09, 0.0009)
    change = np.where(MASK, 0.6, 0.0)
    look = appearance(HULL, change, Higher(change, roughness, np.where(MASK, 0.0, 0.5)), 0.0009, 0.5)
    assert look.near == 0.5
    assert look.roughness == pytest.approx(np.log(100), rel=1e-6)
    assert look.contrast == pytest.approx(np.log(100), rel=1e-6)
    assert look.area == MASK.sum() * 0.25
    # A step of 0.6 m over the two cells of a central difference.
    assert look.rim_gradient == pytest.approx(0.6, rel=0.01)


def test_unknown_roughness_counts_as_usual() -> None:
    unknown = Higher(np.zeros((40, 40)), np.full((40, 40), np.nan), np.zeros((40, 40)))
    look = appearance(HULL, np.zeros((40, 40)), unknown, 0.001, 0.5)
    assert (look.roughness, look.contrast) == (0.0, 0.0)


def test_a_vehicle_that_the_ground_filter_cut_low_is_no_earth() -> None:
    remains = Appearance(roughness=1.0, contrast=1.2, near=0.09, rim_gradient=1.0, area=5.0, height=0.9, stands=0.8)
    assert ground_probability(remains) < 0.5


def test_a_strip_too_narrow_for_a_gradient_has_none() -> None:
    strip = np.ones((2, 20), bool)
    hull = replace(HULL, box=np.s_[0:2, 0:20], inside=strip, weights=strip.astype(float))
    flat = Higher(np.zeros((2, 20)), np.full((2, 20), 0.001), np.zeros((2, 20)))
    look = appearance(hull, np.ones((2, 20)), flat, 0.001, 0.5)
    assert look.rim_gradient == 0.0
