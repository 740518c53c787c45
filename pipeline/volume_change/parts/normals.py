"""M3C2: some tiles by one worker, some by another, while the run itself finds the changes."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.contracts import Helpers, Job, Part, Report
from pipeline.tiled.cloud import TiledCloud
from pipeline.tiled.lent import described, folder_of, seen
from pipeline.volume_change.comparison.m3c2 import Asked, Measured, asked_for, box_around, gathered, measured
from pipeline.volume_change.types import CorePoints, Difference, ErrorModel

FUNCTION = "pipeline.volume_change.parts.normals:measure"
TILES = 4  # of a part, at least: neighbours need the same points
MOST_PARTS = 32


def measure_together(
    helpers: Helpers, pre: TiledCloud, post: TiledCloud, diff: Difference, errors: ErrorModel, report: Report
) -> Callable[[], CorePoints]:
    """Begin to measure along normals; the function that is returned does what others have not, and gathers all.

    Args:
        helpers: Who may measure.
        pre: Reference ground.
        post: Later ground, registered.
        diff: The height change.
        errors: What all points share of the error.
        report: Told how much of it, 0 to 1, is gathered.
    """
    asked, windows = asked_for(pre, diff, errors), pre.windows()
    path = pre.tiles[0].path.with_name("cores.npy")  # beside the tiles, and gone with them
    np.save(path, asked.cores)
    size = max(TILES, -(-len(windows) // MOST_PARTS))
    jobs = []
    for start in range(0, len(windows), size):
        mine = windows[start : start + size]
        boxes = [box for window in mine if (box := box_around(asked, window)) is not None]
        arguments: dict[str, Any] = {"windows": mine, "asked": {**asdict(asked), "cores": None}}
        files = {"cores.npy": path}
        for name, cloud in (("pre", pre), ("post", post)):
            numbers = sorted({number for box in boxes for number in cloud.meeting(box)})
            arguments[name], more = described(cloud, numbers, name)
            files |= more
        if boxes:
            jobs.append(Job(arguments, files=files))
    parts = helpers.spread(FUNCTION, jobs)

    def gather() -> CorePoints:
        found: list[Measured] = []
        for number, done in enumerate(parts):
            report(number / len(jobs), f"measuring part {number + 1} of {len(jobs)}")
            with np.load(done.files["cores.npz"]) as columns:
                names = CorePoints.__dataclass_fields__
                found.append((columns["order"], CorePoints(*(columns[name] for name in names))))
        return gathered(found)

    return gather


def measure(
    part: Part, *, windows: list[list[float]], asked: dict[str, Any], pre: dict[str, Any], post: dict[str, Any]
) -> None:
    """Leave the core points of some windows in ``cores.npz``."""
    with folder_of(part.files) as folder:
        wanted = Asked(**{**asked, "cores": np.load(folder / "cores.npy")})
        clouds = seen(pre, folder), seen(post, folder)
        each = [measured(*clouds, wanted, (a, b, c, d)) for a, b, c, d in windows]
    found = [one for one in each if one is not None]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(core, name) for _, core in found]) for name in CorePoints.__dataclass_fields__
    }
    np.savez(part.outdir / "cores.npz", order=np.concatenate([order for order, _ in found]), **columns)
