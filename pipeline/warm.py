"""Compile the numerical kernels once, at installation, so that the first run is as quick as any other.

``python -m pipeline.warm`` measures a small made-up pair; numba keeps what it compiled beside the modules.
"""

import tempfile
from pathlib import Path

import laspy
import numpy as np
import shapefile

from pipeline.contracts import Run
from pipeline.registry import CATALOGUE

SIDE, POINTS = 40.0, 20_000


def warm() -> None:
    """Run the volume change, in memory and in tiles, on a waved field, unclassified and turned a little.

    A mound beside its pit and a bush are on it. Every kernel is used, those that draw included; the plotting
    library finds its fonts on the way.
    """
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        inputs = {label: Path(folder) / f"{label}.{ending}" for label, ending in _FILES.items()}
        for label, mound in (("pre", 0.0), ("post", 1.0)):
            x, y = rng.uniform(0, SIDE, (2, POINTS))
            z = np.sin(x / 5) + np.cos(y / 6)
            z += mound * sum(sign * np.exp(-((x - 20 - 2 * sign) ** 2 + (y - 20) ** 2) / 8) for sign in (1, -1))
            turned = x + 0.01 * mound * y
            bush = (x - 32) ** 2 + (y - 30) ** 2 < 9
            height = z + rng.normal(0, 0.02, POINTS) + bush * rng.uniform(0, 4, POINTS)
            header = laspy.LasHeader(point_format=6, version="1.4")
            header.scales = np.full(3, 0.001)
            cloud = laspy.LasData(header)
            cloud.x, cloud.y, cloud.z = (np.append(column, column[:9]) for column in (turned, y, height))  # repeats
            cloud.write(inputs[label])
        with shapefile.Writer(shp=str(inputs["shp"]), shx=str(inputs["shx"]), shapeType=shapefile.POLYGON) as writer:
            writer.poly([[(0, 0), (0, 12), (SIDE, 12), (SIDE, 0), (0, 0)]])
        spec = CATALOGUE["volume_change"]
        for name, options in (("memory", {"max_hull_images": 1}), ("tiles", {"tile_points": 5000, "images": False})):
            (out := Path(folder) / name).mkdir()
            CATALOGUE.load(spec.name)(Run(inputs=inputs, outdir=out), spec.params.model_validate(options))


_FILES = {"pre": "laz", "post": "laz", "shp": "shp", "shx": "shx"}

if __name__ == "__main__":
    warm()
