"""Pairs of surveys with known change, as the stages of a comparison get them."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon

from benchmarks.scenes import ORIGIN, Bump, Plateau, Scene, hills
from pipeline.clouds import PointCloud
from pipeline.volume_change.comparison.difference import across_gaps, difference, surface
from pipeline.volume_change.delineation.changes import Changes, find_changes
from pipeline.volume_change.delineation.growth import Field
from pipeline.volume_change.detect import detect
from pipeline.volume_change.ground import Ground
from pipeline.volume_change.types import Analysis, Registration, Surveys
from pipeline.volume_change.uncertainty.stable import error_model, stable_ground


def silent(fraction: float, stage: str) -> None:
    """Report to nobody."""


STILL = Registration(np.eye(4), "identity", True, 1.0, 0.02, 0.99)


def scene(*changes: Bump | Plateau, seed: int = 0, **options: object) -> Scene:
    usual = {"surface": hills(), "size": 60.0, "density": 20.0, "noise": 0.03, "margin": 10.0}
    return Scene("test", changes=changes, seed=seed, **(usual | options))


def cloud(points: NDArray[np.float64], name: str = "") -> PointCloud:
    return PointCloud(np.ascontiguousarray(points, dtype=float), ORIGIN.copy(), name=name)


def stable_of(pair: Scene) -> MultiPolygon:
    return MultiPolygon([Polygon(np.array(ring) - ORIGIN[:2]) for ring in pair.stable_rings()])


def clouds_of(pair: Scene) -> tuple[PointCloud, PointCloud]:
    pre, post = pair.clouds()
    return cloud(pre - ORIGIN, "pre"), cloud(post - ORIGIN, "post")


def analyse(
    pre: PointCloud,
    post: PointCloud,
    stable: MultiPolygon,
    *,
    cell: float | None = None,
    registration: Registration = STILL,
    min_score: float = 0.0,
    above: tuple[PointCloud, PointCloud] | None = None,
    method: str = "all points",
) -> Analysis:
    none = cloud(np.zeros((0, 3)))
    ground = Ground(pre, post, *(above or (none, none)), method)
    surveys = Surveys(pre, post, stable)
    return detect(surveys, ground, registration, cell=cell, min_score=min_score, report=silent)


def analyse_scene(pair: Scene, **options: object) -> Analysis:
    return analyse(*clouds_of(pair), stable_of(pair), **options)


def found_in(pair: Scene, cell: float) -> tuple[Changes, Field]:
    pre, post = clouds_of(pair)
    diff = difference(pre, post, cell)
    counts = [surface(c, diff.raster).count for c in (pre, post)]
    stable = stable_ground(diff, stable_of(pair), *counts)
    _, covariance = error_model(diff, stable)
    field = Field(diff.change, diff.variance, np.isfinite(diff.change), covariance, cell)
    return find_changes(field, stable.cells, across_gaps(diff)), field


def tilted(points: NDArray[np.float64], dx: float = 0.0, dy: float = 0.0, dz: float = 0.0) -> NDArray[np.float64]:
    return points @ np.array([[1, 0, dx], [0, 1, dy], [0, 0, 1.0]]) + np.array([0, 0, dz])


def moved_by(dz: float) -> Registration:
    matrix = np.eye(4)
    matrix[2, 3] = dz
    return replace(STILL, matrix=matrix, method="identity + vertical offset", dof=("z",), stable_offset=-dz)
