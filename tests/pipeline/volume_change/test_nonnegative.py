import numpy as np
import pytest
from scipy.optimize import nnls

from pipeline.volume_change.uncertainty.nonnegative import nonnegative_least_squares


@pytest.mark.parametrize("seed", range(40))
def test_weights_are_those_of_scipy_for_columns_at_random(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, k = int(rng.integers(3, 60)), int(rng.integers(1, 13))
    columns, values = rng.normal(size=(max(m, k), k)), rng.normal(size=max(m, k))
    np.testing.assert_allclose(nonnegative_least_squares(columns, values), nnls(columns, values)[0], atol=1e-11)


@pytest.mark.parametrize("seed", range(20))
def test_weights_are_those_of_scipy_for_gaussians_of_growing_range(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lags = np.sqrt(np.arange(1.0, 400.0))
    columns = np.column_stack([np.exp(-0.5 * (lags / 1.6**k) ** 2) for k in range(9)])
    values = columns @ (rng.uniform(size=9) * (rng.uniform(size=9) < 0.4)) + rng.normal(0, 0.02, len(lags))
    np.testing.assert_allclose(nonnegative_least_squares(columns, values), nnls(columns, values)[0], atol=1e-9)


def test_columns_that_repeat_or_hold_nothing_are_no_trouble() -> None:
    columns = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    weights = nonnegative_least_squares(columns, np.array([2.0, 2.0, 5.0]))
    assert (weights >= 0).all()
    np.testing.assert_allclose(columns @ weights, [2.0, 2.0, 0.0])


def test_nothing_to_explain_has_no_weights() -> None:
    assert not nonnegative_least_squares(np.eye(4), np.zeros(4)).any()
