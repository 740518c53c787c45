"""A finished analysis made from closed forms: mounds and pits on hills, so every figure is known."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from benchmarks.scenes import Bump, hills
from pipeline.clouds import PointCloud
from pipeline.volume_change.types import (
    Analysis,
    CorePoints,
    Difference,
    ErrorModel,
    Hull,
    Notice,
    Raster,
    Registration,
    Surveys,
    Totals,
)

ORIGIN = np.array([630_000.0, 4_830_000.0, 75.0])
SIX = (
    Bump(35, 40, 8, 1.2), Bump(90, 30, 5, -0.6), Bump(65, 65, 12, -1.5),
    Bump(35, 90, 6, 0.5), Bump(95, 95, 6, 0.8), Bump(104, 60, 5, -0.7),
)  # fmt: skip


@dataclass(frozen=True)
class Site:
    """A site of ``width`` × ``height`` metres with one hull for each change."""

    changes: tuple[Bump, ...] = SIX
    width: float = 130.0
    height: float = 130.0
    cell: float = 0.5
    crs: str | None = "EPSG:26917"
    origin: tuple[float, float, float] = (630_000.0, 4_830_000.0, 75.0)
    noise: float = 0.02
    holes: bool = False
    unit: str = "metre"
    relief: float = 4.0
    scale: float = 1.0  # of the hills' wavelength, for tiny and huge sites
    warnings: tuple[Notice, ...] = ()
    names: tuple[str, str] = ("site_2015.laz", "site_2023.laz")
    band: float = 0.0  # > 0: only a diagonal strip of this width was seen


def make_analysis(site: Site | None = None) -> Analysis:
    """Return the analysis that a perfect detector would make of the site."""
    site = site or Site()
    rng = np.random.default_rng(5)
    raster = Raster(0.0, 0.0, site.cell, round(site.height / site.cell), round(site.width / site.cell))
    x, y = (
        (np.arange(raster.cols) + 0.5) * site.cell,
        (np.arange(raster.rows) + 0.5) * site.cell,
    )
    X, Y = np.meshgrid(x, y)
    before = hills(site.relief)(X / site.scale, Y / site.scale) * site.scale
    added = sum((c(X, Y) for c in site.changes), np.zeros_like(X))
    after = before + added + rng.normal(0, site.noise, X.shape)
    if site.holes:
        before[(site.width * 0.1 < X) & (site.width * 0.25 > X) & (site.height * 0.2 > Y)] = np.nan
        after[rng.random(X.shape) < 0.03] = np.nan
    if site.band:
        away = np.abs(X / site.width - Y / site.height) * min(site.width, site.height)
        before[away > site.band], after[away > site.band] = np.nan, np.nan
    change = after - before
    labels = np.zeros(X.shape, np.int32)
    for n, bump in enumerate(site.changes, 1):
        labels[np.hypot(X - bump.x, Y - bump.y) < bump.radius * 0.9] = n
    hulls = tuple(_hull(n, bump) for n, bump in enumerate(site.changes, 1))
    origin = np.asarray(site.origin)
    pre, post = (_cloud(z, X, Y, origin, site.crs, name) for z, name in zip((before, after), site.names, strict=True))
    seen = float(np.isfinite(change).sum()) * site.cell**2
    return Analysis(
        surveys=Surveys(pre, post, _frame(site), site.unit),
        registration=Registration(_motion(), "identity + vertical offset", True, 0.98, 0.012, 0.95, ("z",)),
        errors=ErrorModel(12_345, 900.0, -0.41, site.noise, 2 * site.noise, 12.0, 1e-5, 4e-4, {"samples": np.int64(7)}),
        difference=Difference(raster, before, after, change, np.where(np.isfinite(change), site.noise**2, np.nan)),
        core=_core(X, Y, before, change, labels, site.noise),
        hulls=hulls,
        labels=labels,
        totals=_totals(hulls, sum(h.area for h in hulls)),
        site=_totals(hulls, seen),
        warnings=site.warnings,
    )


def _hull(n: int, bump: Bump) -> Hull:
    volume = bump.volume
    half = 0.05 * abs(volume) + 0.3
    around = (volume - half, volume + half)
    size = (max(0.0, abs(volume) - half), abs(volume) + half)
    none = (0.0, 0.0)
    circle = shapely.Point(bump.x, bump.y).buffer(bump.radius * 0.9)
    return Hull(
        id=f"h{n:03d}", score=max(0.2, 0.999 - 0.03 * n), kind="ground", area=float(circle.area),
        cut_volume=max(0.0, -volume), fill_volume=max(0.0, volume), net_volume=volume,
        cut_volume_ci95=size if volume < 0 else none, fill_volume_ci95=size if volume > 0 else none,
        net_volume_ci95=around, mean_change=volume / float(circle.area), max_change=bump.height, coverage=0.98,
        centroid=(bump.x, bump.y), polygon=shapely.MultiPolygon([circle]),
    )  # fmt: skip


def _totals(hulls: tuple[Hull, ...], area: float) -> Totals:
    cut, fill = sum(h.cut_volume for h in hulls), sum(h.fill_volume for h in hulls)
    half = 0.04 * (cut + fill) + 1.0
    return Totals(
        cut, fill, fill - cut, (max(0.0, cut - half), cut + half), (max(0.0, fill - half), fill + half),
        (fill - cut - half, fill - cut + half), area,
    )  # fmt: skip


def _cloud(
    z: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], origin: NDArray[np.float64],
    crs: str | None, name: str,
) -> PointCloud:  # fmt: skip
    seen = np.isfinite(z)
    return PointCloud(np.column_stack([x[seen], y[seen], z[seen]]), origin, None, crs, name)


def _frame(site: Site) -> shapely.MultiPolygon:
    outer = shapely.box(0, 0, site.width, site.height)
    margin = 0.1 * min(site.width, site.height)
    ring = outer.difference(shapely.box(margin, margin, site.width - margin, site.height - margin))
    return shapely.MultiPolygon([ring])


def _motion() -> NDArray[np.float64]:
    matrix = np.eye(4)
    angle = np.radians(0.01)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[2, 3] = 0.41
    return matrix


def _core(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64], change: NDArray[np.float64],
    labels: NDArray[np.int32], noise: float,
) -> CorePoints:  # fmt: skip
    pick = np.isfinite(z)
    pick[1::2] = False
    points = np.column_stack([x[pick], y[pick], z[pick]])
    normals = np.tile([0.0, 0.0, 1.0], (len(points), 1))
    return CorePoints(points, normals, change[pick], np.full(len(points), 2 * noise), labels[pick])
