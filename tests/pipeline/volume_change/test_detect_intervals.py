"""Whether 95 % intervals hold the truth 95 % of the time."""

import numpy as np
import pytest

from benchmarks.scenes import Bump, Plateau, Scene, flat, hills
from tests.pipeline.volume_change.pairs import analyse, clouds_of, moved_by, scene, stable_of

SCENES = 40


def varied(seed: int, correlated: float) -> Scene:
    rng = np.random.default_rng(9000 + seed)
    changes = []
    for x, y in ((22, 22), (40, 40)):
        kind = Bump if rng.random() < 0.5 else Plateau
        height = float(rng.choice([-1, 1]) * rng.uniform(0.3, 1.5))
        changes.append(kind(x + rng.uniform(-2, 2), y + rng.uniform(-2, 2), rng.uniform(4, 6.5), height))
    return scene(
        *changes, seed=seed, surface=(hills(seed=seed), flat())[seed % 2], density=15.0, correlated=correlated,
        correlation_range=8.0, noise=float(rng.choice([0.02, 0.05])),
    )  # fmt: skip


@pytest.mark.parametrize("correlated", [0.0, 0.015])
def test_intervals_hold_the_truth_about_nineteen_times_in_twenty(correlated: float) -> None:
    hulls, sites, widths, errors = [], [], [], []
    for seed in range(SCENES):
        pair = varied(seed, correlated)
        pre, post = clouds_of(pair)
        stable = stable_of(pair)
        offset = analyse(pre, post, stable).errors.bias
        analysis = analyse(pre, post, stable, registration=moved_by(-offset))
        for change in pair.changes:
            near = [h for h in analysis.hulls if np.hypot(h.centroid[0] - change.x, h.centroid[1] - change.y) < 3]
            assert len(near) == 1
            low, high = near[0].net_volume_ci95
            hulls.append(low <= change.volume <= high)
            widths.append((high - low) / 2)
            errors.append(abs(near[0].net_volume - change.volume))
        low, high = analysis.site.net_volume_ci95
        sites.append(low <= sum(change.volume for change in pair.changes) <= high)
    # 80 hulls at 95 %: fewer than 70 hits come by chance once in three hundred times; 40 sites: fewer than 34.
    assert sum(hulls) >= 70
    assert sum(sites) >= 34
    # And they are not bought by width.
    assert np.median(widths) < 2 * np.quantile(errors, 0.95)


def test_an_offset_that_is_left_in_is_within_the_interval_of_the_site() -> None:
    pair = scene(seed=1, surface=flat(), density=4.0, noise=0.02, size=100.0, margin=10.0)
    pre, post = clouds_of(pair)
    raised = post.moved(moved_by(0.05).matrix)
    low, high = analyse(pre, raised, stable_of(pair)).site.net_volume_ci95
    assert low <= 0.0 <= high
