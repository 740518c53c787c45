import numpy as np
import pytest
from shapely import MultiPolygon, Polygon, box

from pipeline.errors import StableAreaEmpty
from pipeline.volume_change.types import Difference, Raster
from pipeline.volume_change.uncertainty.covariance import Covariance, autocovariance, covariance_of, cross, estimate
from pipeline.volume_change.uncertainty.stable import StableGround, error_model, inside, stable_ground, trusted


def noise(shape: tuple[int, int], white: float, smooth: float, scale: float, seed: int = 0) -> np.ndarray:
    """White noise plus a Gaussian field of covariance smooth² exp(−h²/2 scale²), in cells, from random waves."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    field = rng.normal(0, white, shape)
    for kx, ky, phase in zip(*rng.normal(0, 1 / scale, (2, 400)), rng.uniform(0, 2 * np.pi, 400), strict=True):
        field += smooth * np.sqrt(2 / 400) * np.cos(kx * x + ky * y + phase)
    return field


def grid_of(change: np.ndarray, variance: float, cell: float = 1.0) -> Difference:
    raster = Raster(0.0, 0.0, cell, *change.shape)
    flat = np.zeros(change.shape)
    return Difference(raster, flat, flat + change, change, np.full(change.shape, variance))


def test_cells_are_stable_when_their_centre_is_inside() -> None:
    hole = Polygon([(0, 0), (6, 0), (6, 4), (0, 4)], [[(2, 1), (4, 1), (4, 3), (2, 3)]])
    mask = inside(Raster(0.0, 0.0, 1.0, 5, 8), MultiPolygon([hole]))
    assert mask.sum() == 6 * 4 - 2 * 2
    assert not mask[1:3, 2:4].any()
    assert not mask[4].any()


def test_white_noise_gives_its_own_deviation_and_no_correlation() -> None:
    diff = grid_of(noise((120, 120), 0.02, 0.0, 1.0), 0.02**2)
    model, covariance = error_model(diff, StableGround(np.ones((120, 120), bool), 1000, 1000))
    assert model.sigma == pytest.approx(0.02, rel=0.03)
    assert model.lod95 == pytest.approx(1.96 * 0.02, rel=0.03)
    assert covariance.white == pytest.approx(1.0, abs=0.05)
    assert model.sill_long < 0.02 * 0.02**2


def test_correlated_error_is_told_from_white_noise() -> None:
    diff = grid_of(noise((200, 200), 0.02, 0.03, 8.0), 0.02**2)
    model, covariance = error_model(diff, StableGround(np.ones((200, 200), bool), 1000, 1000))
    assert model.sill_long == pytest.approx(0.03**2, rel=0.35)
    assert covariance.white == pytest.approx(1.0, abs=0.15)
    # exp(−h²/2ℓ²) falls to 5 % at h = 2.45 ℓ.
    assert model.correlation_length == pytest.approx(2.45 * 8, rel=0.4)


def test_an_offset_that_was_left_in_counts_as_error() -> None:
    diff = grid_of(noise((80, 80), 0.01, 0.0, 1.0) + 0.2, 0.01**2)
    everywhere = np.ones((80, 80), bool)
    model, covariance = error_model(diff, StableGround(everywhere, 1000, 1000))
    assert model.bias == pytest.approx(0.2, abs=0.002)
    assert model.sigma == pytest.approx(0.01, rel=0.1)
    spread = np.sqrt(covariance_of(everywhere / everywhere.sum(), diff.variance, covariance, 1.0))
    assert spread > 0.15


def test_what_was_removed_is_reported_as_delivered() -> None:
    diff = grid_of(noise((40, 40), 0.01, 0.0, 1.0), 0.01**2)
    model, _ = error_model(diff, StableGround(np.ones((40, 40), bool), 1000, 1000), delivered=-0.41)
    assert model.bias == -0.41
    assert abs(model.extra["offset_left"]) < 0.002


def test_identical_surveys_have_no_error_and_nothing_breaks() -> None:
    model, covariance = error_model(
        grid_of(np.zeros((30, 30)), 1e-6), StableGround(np.ones((30, 30), bool), 1000, 1000)
    )
    assert (model.sigma, model.bias, model.sill_long, model.correlation_length) == (0.0, 0.0, 0.0, 0.0)
    assert np.isfinite(covariance.white)


def test_polygons_outside_the_surveys_are_refused_with_the_remedy() -> None:
    diff = grid_of(np.zeros((30, 30)), 1e-4)
    counts = np.full((30, 30), 9.0)
    with pytest.raises(StableAreaEmpty, match="outside") as refusal:
        stable_ground(diff, MultiPolygon([box(100, 100, 120, 120)]), counts, counts)
    assert refusal.value.label == "shp"
    assert refusal.value.details["cells"] == 0
    assert "polygons" in refusal.value.remedy


def test_polygons_with_too_little_ground_are_refused_with_counts() -> None:
    diff = grid_of(np.zeros((30, 30)), 1e-4)
    counts = np.full((30, 30), 9.0)
    with pytest.raises(StableAreaEmpty, match="4 cells of 1 m, 36 and 36 points") as refusal:
        stable_ground(diff, MultiPolygon([box(3, 3, 5, 5)]), counts, counts)
    assert refusal.value.details["area"] == 4.0


def test_the_autocovariance_is_that_of_the_definition() -> None:
    rng = np.random.default_rng(3)
    values, mask = rng.normal(size=(12, 9)), rng.random((12, 9)) < 0.7
    values = np.where(mask, values, 0.0)
    lags, covariances, pairs = autocovariance(values, mask, 2.0)
    cells = np.argwhere(mask)
    products = [
        values[tuple(a)] * values[tuple(b)]
        for i, a in enumerate(cells)
        for b in cells[i + 1 :]
        if np.hypot(*(a - b)) == 1.0
    ]
    # The half plane of lags holds the pairs along rows once and those along columns twice.
    along_rows = [values[r, c] * values[r, c + 1] for r in range(12) for c in range(8) if mask[r, c] and mask[r, c + 1]]
    along_columns = [
        values[r, c] * values[r + 1, c] for r in range(11) for c in range(9) if mask[r, c] and mask[r + 1, c]
    ]
    assert len(products) == len(along_rows) + len(along_columns)
    assert lags[0] == 2.0
    assert pairs[0] == len(along_rows) + 2 * len(along_columns)
    assert covariances[0] == pytest.approx((sum(along_rows) + 2 * sum(along_columns)) / pairs[0])


def test_the_variance_of_a_sum_is_that_of_the_full_matrix() -> None:
    covariance = Covariance(1.0, np.array([0.5, 0.2]), np.array([1.5, 6.0]), 100.0, offset=0.01)
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(2, 7, 5))
    places = np.argwhere(np.ones((7, 5))) * 0.8
    distance = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    matrix = covariance.at(distance)
    expected = [[a.ravel() @ matrix @ b.ravel() for b in (first, second)] for a in (first, second)]
    assert np.allclose(cross([first, second], covariance, 0.8), expected)


def test_a_smoothed_field_varies_as_the_closed_form_says() -> None:
    covariance = Covariance(1.0, np.array([1.0]), np.array([4.0]), 100.0)
    weights = np.zeros((61, 61))
    y, x = np.mgrid[-30:31, -30:31]
    weights = np.exp(-0.5 * (x**2 + y**2) / 3.0**2)
    weights /= weights.sum()
    assert cross([weights], covariance, 1.0)[0, 0] == pytest.approx(covariance.smoothed(3.0), rel=1e-6)


def test_the_error_of_a_mean_is_as_large_as_it_turns_out_to_be() -> None:
    means, predicted = [], []
    window = np.zeros((90, 90))
    window[35:55, 35:55] = 1 / 400
    for seed in range(25):
        field = noise((90, 90), 0.02, 0.02, 5.0, seed)
        covariance = estimate(field, np.full((90, 90), 4e-4), np.ones((90, 90), bool), 1.0)
        means.append(float((window * field).sum()))
        predicted.append(covariance_of(window, np.full((90, 90), 4e-4), covariance, 1.0))
    assert np.sqrt(np.mean(predicted)) == pytest.approx(np.std(means), rel=0.35)


def test_a_wide_sum_on_a_coarsened_grid_keeps_its_variance() -> None:
    covariance = Covariance(1.0, np.array([0.4]), np.array([30.0]), 100.0)
    window = np.zeros((700, 600))
    window[100:600, 50:551] = 1.0
    # The double integral of a Gaussian covariance over a rectangle is a product of one-dimensional ones.
    expected = 0.4
    for n in (500, 501):
        steps = np.arange(1, n)
        expected *= n + 2 * float(((n - steps) * np.exp(-0.5 * (steps / 30.0) ** 2)).sum())
    assert cross([window], covariance, 1.0)[0, 0] == pytest.approx(expected, rel=1e-3)


def test_stable_ground_in_distant_pieces_is_correlated_piece_by_piece() -> None:
    mask = np.zeros((1200, 60), bool)
    mask[:40], mask[-40:] = True, True
    change = np.where(mask, noise((1200, 60), 0.02, 0.0, 1.0), 0.0)
    covariance = estimate(change, np.full(change.shape, 4e-4), mask, 1.0)
    assert covariance.white == pytest.approx(1.0, abs=0.1)


def test_a_strip_of_stable_cells_too_short_for_lags_is_all_white() -> None:
    mask = np.zeros((4, 4), bool)
    mask[:, :3] = True
    rng = np.random.default_rng(2)
    covariance = estimate(rng.normal(0, 0.02, (4, 4)), np.full((4, 4), 4e-4), mask, 1.0)
    assert covariance.sill == 0.0
    assert covariance.offset > 0


def test_no_sample_has_no_covariance() -> None:
    lags, covariances, pairs = autocovariance(np.zeros((5, 5)), np.zeros((5, 5), bool), 1.0)
    assert len(lags) == len(covariances) == len(pairs) == 0


def test_a_vehicle_on_stable_ground_is_not_taken_for_an_error_of_the_survey() -> None:
    rng = np.random.default_rng(5)
    change, variance = rng.normal(0, 0.02, (60, 60)), np.full((60, 60), 0.02**2)
    bare = estimate(change, variance, np.ones((60, 60), bool), 0.5)
    change[20:30, 20:25] += 1.5
    change[19:31, 19:26:6], variance[19:31, 19:26:6] = 0.7, 0.1  # its sides
    parked = estimate(change, variance, np.ones((60, 60), bool), 0.5)
    # 3600 cells: a variance is known to √(2/3600) = 2.4 %, and 24 of them are the vehicle's sides.
    assert parked.white == pytest.approx(bare.white, rel=0.1)
    assert parked.sill < (0.25 * 0.02) ** 2


def test_cells_where_things_stand_are_no_stable_ground_unless_too_little_is_left() -> None:
    cells, usable = np.ones((10, 10), bool), np.ones((10, 10), bool)
    usable[:, :4] = False
    ground = StableGround(cells, 900, 900)
    assert np.count_nonzero(trusted(ground, usable).cells) == 60
    assert trusted(ground, np.zeros((10, 10), bool)) is ground
