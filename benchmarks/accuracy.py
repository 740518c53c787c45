"""How right the whole method is on synthetic pairs whose truth is known: found, missed, false, volumes, intervals.

    python benchmarks/accuracy.py [scenes of each kind]

Each scene goes through the same stages as `volcal run`: ground filter, registration (the later survey is moved by
a small unknown motion), detection. Prints a Markdown table.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from pipeline.clouds import PointCloud
from pipeline.volume_change.detect import detect
from pipeline.volume_change.ground import select_ground
from pipeline.volume_change.register import register
from pipeline.volume_change.types import Analysis, Surveys
from scenes import ORIGIN, Bump, Plateau, Scene, flat, hills, quarry

SURFACES = {"hills": hills, "quarry": lambda seed: quarry(), "flat": lambda seed: flat()}  # noqa: ARG005
NOISES = {"white noise": 0.0, "error of 15 mm over 15 m": 0.015}
BELIEVED = 0.5  # score from which a hull counts


@dataclass
class Tally:
    scenes: int = 0
    changes: int = 0
    found: int = 0
    false: int = 0
    covered: int = 0
    site_covered: int = 0
    errors: list[float] = field(default_factory=list)  # of a hull's net volume, % of the change
    site_errors: list[float] = field(default_factory=list)  # of the sum over hulls, % of all that moved
    scores: list[tuple[float, bool]] = field(default_factory=list)


def small_motion(rng: np.random.Generator) -> NDArray[np.float64]:
    """A turn of up to 1° and a shift of up to half a metre each way."""
    turn = np.radians(rng.uniform(-1, 1))
    motion = np.eye(4)
    motion[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    motion[:3, 3] = rng.uniform(-0.5, 0.5, 3)
    return motion


def scenes(kind: str, correlated: float, count: int, *, changed: bool) -> Iterator[Scene]:
    """Scenes of one kind; change of 0.3 to 1.5 m over 3 to 7 m radius at four places."""
    for index in range(count):
        rng = np.random.default_rng([index, len(kind), int(correlated * 1e4), int(changed)])
        places = [(32, 32), (68, 32), (32, 68), (68, 68)] if changed else []
        changes = tuple(
            (Bump if rng.random() < 0.5 else Plateau)(
                x + rng.uniform(-4, 4), y + rng.uniform(-4, 4), rng.uniform(3, 7),
                float(rng.choice([-1, 1]) * rng.uniform(0.3, 1.5)),
            )
            for x, y in places
        )  # fmt: skip
        yield Scene(
            kind, SURFACES[kind](seed=index), changes, size=100.0, density=float(rng.uniform(8, 40)),
            noise=float(rng.uniform(0.015, 0.05)), correlated=correlated, motion=small_motion(rng),
            seed=10_000 + index, margin=14.0,
        )  # fmt: skip


def analyse(scene: Scene) -> Analysis:
    pre, post = (PointCloud(np.ascontiguousarray(points - ORIGIN), ORIGIN) for points in scene.clouds())
    stable = MultiPolygon([Polygon(np.array(ring) - ORIGIN[:2]) for ring in scene.stable_rings()])
    ground = select_ground(pre, post, "auto")
    registration = register(ground.pre, ground.post, stable)
    return detect(Surveys(pre, post, stable), ground, registration, cell=None, min_score=0.0, report=lambda *_: None)


def judge(scene: Scene, tally: Tally) -> None:
    analysis = analyse(scene)
    tally.scenes += 1
    own: dict[int, int] = {}
    for number, hull in enumerate(analysis.hulls):
        reach = [np.hypot(c.x - hull.centroid[0], c.y - hull.centroid[1]) / c.radius for c in scene.changes]
        real = bool(reach) and min(reach) < 1
        tally.scores.append((hull.score, real))
        if real:
            own.setdefault(int(np.argmin(reach)), number)
        else:
            tally.false += hull.score >= BELIEVED
    for number, change in enumerate(scene.changes):
        if abs(change.volume) < 3:
            continue
        tally.changes += 1
        if number in own and analysis.hulls[own[number]].score >= BELIEVED:
            hull = analysis.hulls[own[number]]
            tally.found += 1
            low, high = hull.net_volume_ci95
            tally.covered += low <= change.volume <= high
            tally.errors.append(abs(hull.net_volume - change.volume) / abs(change.volume) * 100)
    truth = sum(change.volume for change in scene.changes)
    low, high = analysis.site.net_volume_ci95
    tally.site_covered += low <= truth <= high
    if scene.changes:
        moved = sum(abs(change.volume) for change in scene.changes)
        tally.site_errors.append(abs(analysis.totals.net_volume - truth) / moved * 100)


def share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.0%})" if whole else "–"


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    head = ("scenes", "changes found", "false hulls", "hull interval holds", "site interval holds")
    head += ("hull net error, median / worst", "net of all hulls, median / worst")
    print(f"| {' | '.join(head)} |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    scores: list[tuple[float, bool]] = []
    for changed in (True, False):
        for kind in SURFACES:
            for noise, correlated in NOISES.items():
                tally = Tally()
                for scene in scenes(kind, correlated, count, changed=changed):
                    judge(scene, tally)
                scores += tally.scores
                name = f"{kind}, {noise}" + ("" if changed else ", no change")
                cells = (
                    f"{name} ({tally.scenes})", share(tally.found, tally.changes), str(tally.false),
                    share(tally.covered, tally.found), share(tally.site_covered, tally.scenes),
                    *(f"{np.median(e):.1f} / {max(e):.1f} %" if e else "–" for e in (tally.errors, tally.site_errors)),
                )  # fmt: skip
                print(f"| {' | '.join(cells)} |", flush=True)
    brier = np.mean([(score - real) ** 2 for score, real in scores])
    print(f"\nBrier score of {len(scores)} hulls: {brier:.3f}")


if __name__ == "__main__":
    main()
