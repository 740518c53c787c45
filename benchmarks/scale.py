"""Time and peak memory of `volcal run` on large surveys, in tiles against all in memory.

    python -m benchmarks.scale [--folder DIR] [--images] [millions of points a cloud ...]

The site grows with the points, at 60 points/m²; strips are flown one after the other. Results of both ways are
compared hull by hull. Pairs are written to the folder and kept there if one is named.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import laspy
import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes import ORIGIN, SIX_CHANGES, Scene, hills, write_polygons
from benchmarks.speed import VOLCAL, Cost, measure

BLOCK = 130.0  # m: one set of six changes in each ninth block of this edge
EVERY = 3
STRIP = 1_000_000  # points
IN_MEMORY = 15.0  # millions of points a cloud that a run keeps in memory by default


@dataclass(frozen=True)
class Found:
    """What one run said."""

    net: float
    hulls: list[tuple[float, float]]  # net volume and area


def main() -> None:
    parser = argparse.ArgumentParser(description="What large surveys cost.")
    parser.add_argument("sizes", type=float, nargs="*", default=[10.0, 100.0], help="millions of points a cloud")
    parser.add_argument("--folder", type=Path, help="where the pairs are kept")
    parser.add_argument("--images", action="store_true", help="draw pictures, too")
    options = parser.parse_args()
    print("| M points a cloud | | wall s | CPU s | peak GiB | hulls | net error, % of moved |\n" + "| --- " * 7 + "|")
    with tempfile.TemporaryDirectory() as scratch:
        for millions in options.sizes:
            compare(millions, (options.folder or Path(scratch)) / f"{millions:g}", options.images)


def compare(millions: float, folder: Path, images: bool) -> None:
    """Measure one size in tiles and, where that is the default, in memory; print what they have in common."""
    scene = large(millions)
    if not (folder / "stable.shp").exists():
        write(scene, folder)
    ways = {"tiles": ["--set", "tile_points=1000000"]}
    if millions <= IN_MEMORY:
        ways["in memory"] = []
    results = []
    for what, extra in ways.items():
        out = folder / what.replace(" ", "-")
        pair = [str(folder / name) for name in ("pre.laz", "post.laz")]
        options = ["--stable", str(folder / "stable.shp"), "--out", str(out), "--set", f"images={str(images).lower()}"]
        cost = measure(str(VOLCAL), "run", *pair, *options, *extra)
        results.append(found(out))
        row(millions, what, cost, results[-1], scene)
    if len(results) == 2:
        print(f"\n{difference(*results)}\n")


def large(millions: float) -> Scene:
    """Return hills whose site holds so many million points."""
    size = (millions * 1e6 / 60.0) ** 0.5
    blocks = max(1, int(size // BLOCK))
    places = [(BLOCK * col, BLOCK * row) for row in range(0, blocks, EVERY) for col in range(0, blocks, EVERY)]
    changes = tuple(replace(change, x=change.x + x, y=change.y + y) for x, y in places for change in SIX_CHANGES)
    return Scene("large", hills(), changes, size=size, density=60.0, seed=7)


def write(scene: Scene, folder: Path) -> None:
    """Write the pair strip by strip, so that its size needs no memory."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(scene.seed)
    for name, changed in (("pre", False), ("post", True)):
        header = laspy.LasHeader(point_format=6, version="1.4")
        header.offsets, header.scales = ORIGIN, np.full(3, 0.001)
        with laspy.open(folder / f"{name}.laz", mode="w", header=header) as writer:
            for points in strips(scene, rng, changed):
                record = laspy.ScaleAwarePointRecord.zeros(len(points), header=header)
                record.x, record.y, record.z = points.T
                writer.write_points(record)
    write_polygons(folder / "stable.shp", scene.stable_rings())


def strips(scene: Scene, rng: np.random.Generator, changed: bool) -> Iterator[NDArray[np.float64]]:
    """Yield the points of one survey in map coordinates, a strip at a time."""
    count = round(scene.size**2 * scene.density)
    edges = np.linspace(0.0, scene.size, max(1, count // STRIP) + 1)
    for bottom, top in pairwise(edges):
        n = round(scene.size * (top - bottom) * scene.density)
        x, y = rng.uniform(0, scene.size, n), rng.uniform(bottom, top, n)
        z = scene.surface(x, y) + rng.normal(0, scene.noise, n)
        for change in scene.changes if changed else ():
            reach = change.radius + 1.0
            if bottom - reach < change.y < top + reach:
                z += change(x, y)
        yield np.column_stack([x, y, z]) + ORIGIN


def found(out: Path) -> Found:
    document = json.loads((out / "results.json").read_text())
    hulls = sorted((hull["net_volume"], hull["area"]) for hull in document["hulls"])
    return Found(document["totals"]["net_volume"], hulls)


def difference(first: Found, second: Found) -> str:
    """Return how far two results are apart, in words."""
    if len(first.hulls) != len(second.hulls):
        return f"{len(first.hulls)} hulls in tiles, {len(second.hulls)} in memory."
    apart = max(abs(a[0] / b[0] - 1) for a, b in zip(first.hulls, second.hulls, strict=True))
    areas = max(abs(a[1] / b[1] - 1) for a, b in zip(first.hulls, second.hulls, strict=True))
    return f"Tiles against memory, largest difference of a hull: volume {apart:.1e}, area {areas:.1e} of its value."


def row(millions: float, what: str, cost: Cost, result: Found, scene: Scene) -> None:
    truth = sum(change.volume for change in scene.changes)
    moved = sum(abs(change.volume) for change in scene.changes)
    error = (result.net - truth) / moved * 100
    numbers = f"{cost.wall:.0f} | {cost.cpu:.0f} | {cost.peak_gib:.2f}"
    print(
        f"| {millions:g} | {what} | {numbers} | {len(result.hulls)} of {len(scene.changes)} | {error:+.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
