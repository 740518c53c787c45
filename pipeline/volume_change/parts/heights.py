"""Binning: each survey's heights, and what stands above them, by another worker."""

from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.clouds import Cloud
from pipeline.contracts import Helpers, Job, Part
from pipeline.tiled.cloud import TiledCloud
from pipeline.tiled.lent import described, folder_of, seen
from pipeline.volume_change.comparison.difference import Surface, surface
from pipeline.volume_change.comparison.standing import Above, see_above
from pipeline.volume_change.types import Raster

FUNCTION = "pipeline.volume_change.parts.heights:bin_survey"

Seen = tuple[Surface, Above]


def bin_together(
    helpers: Helpers, pre: tuple[TiledCloud, Cloud], post: tuple[TiledCloud, Cloud], raster: Raster
) -> tuple[Seen, Seen]:
    """Bin two surveys, of each the ground and what stands above it."""
    jobs = []
    for name, (ground, above) in (("pre", pre), ("post", post)):
        about, files = described(ground, range(len(ground.tiles)), name)
        arguments: dict[str, Any] = {"raster": asdict(raster), "ground": about, "above": None}
        if isinstance(above, TiledCloud):
            arguments["above"], more = described(above, range(len(above.tiles)), name)
            files |= more
        jobs.append(Job(arguments, files=files))
    found: list[Seen] = []
    for (_, above), done in zip((pre, post), helpers.spread(FUNCTION, jobs), strict=True):
        with np.load(done.files["grids.npz"]) as grids:
            heights = Surface(*(grids[name] for name in Surface.__dataclass_fields__))
            if isinstance(above, TiledCloud):
                found.append((heights, Above(*(grids[f"above_{name}"] for name in Above.__dataclass_fields__))))
            else:
                found.append((heights, see_above(above, heights, raster)))
    return found[0], found[1]


def bin_survey(part: Part, *, raster: dict[str, Any], ground: dict[str, Any], above: dict[str, Any] | None) -> None:
    """Leave the grids of a survey in ``grids.npz``."""
    grid = Raster(**raster)
    with folder_of(part.files) as folder:
        heights = surface(seen(ground, folder), grid)
        grids = {name: getattr(heights, name) for name in Surface.__dataclass_fields__}
        if above is not None:
            standing = see_above(seen(above, folder), heights, grid)
            grids |= {f"above_{name}": getattr(standing, name) for name in Above.__dataclass_fields__}
    np.savez(part.outdir / "grids.npz", **grids)
