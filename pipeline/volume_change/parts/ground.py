"""The ground filter: each survey's by another worker."""

import numpy as np

from pipeline.contracts import Helpers, Job, Part
from pipeline.tiled.cloud import TiledCloud
from pipeline.tiled.lent import described, folder_of, seen
from pipeline.volume_change.ground_filter import ground_surface

FUNCTION = "pipeline.volume_change.parts.ground:tell"


def split_together(
    helpers: Helpers, pre: TiledCloud, post: TiledCloud
) -> tuple[tuple[TiledCloud, TiledCloud] | None, ...]:
    """Split both surveys into ground and what stands above it; None for one that cannot be split."""
    jobs = []
    for name, cloud in (("pre", pre), ("post", post)):
        about, files = described(cloud, range(len(cloud.tiles)), name)
        jobs.append(Job({"cloud": about}, files=files))
    found: list[tuple[TiledCloud, TiledCloud] | None] = []
    for cloud, done in zip((pre, post), helpers.spread(FUNCTION, jobs), strict=True):
        if not done.result:
            found.append(None)
            continue
        told = np.fromfile(done.files["told"], np.uint8)
        ends = np.cumsum([tile.count for tile in cloud.tiles])
        ground, above = cloud.parted(np.split(told, ends[:-1]), 1, 2)
        found.append((ground, above))
    return tuple(found)


def tell(part: Part, *, cloud: dict[str, object]) -> bool:
    """Tell for each point of a survey, tile by tile, what it is, a byte each in ``told``; False if nothing tells."""
    with folder_of(part.files) as folder:
        survey = seen(cloud, folder)
        try:
            spacing = survey.spacing()
        except ValueError:
            return False
        surface = ground_surface(survey, spacing)
        with (part.outdir / "told").open("wb") as stream:
            for block in survey.blocks():
                stream.write(surface.tell(block.points).tobytes())
    return True
