"""What the stages of a volume change hand to each other.

Coordinates are local: metres relative to ``Surveys.origin``. Rasters are indexed ``[row, col]`` with row 0
at the lowest y; the centre of a cell is ``x0 + (col + 0.5) * cell, y0 + (row + 0.5) * cell``.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from shapely import MultiPolygon

from pipeline.clouds import Cloud

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Interval = tuple[float, float]
EIGHT: Mask = np.ones((3, 3), dtype=np.bool_)  # a cell and the eight around it, for work on masks
Kind = Literal["ground", "vegetation", "object", "unknown"]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user must know although the result stands."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Surveys:
    """What was read: two clouds about one origin, and the ground that did not move.

    Args:
        pre: Reference survey, all returns.
        post: Changed survey, all returns.
        stable: Valid polygons in local coordinates, metres; not empty.
        unit: The files' length unit as they name it ("metre" if unknown); points are metres already.
        warnings: What was mended or assumed while reading.
    """

    pre: Cloud
    post: Cloud
    stable: MultiPolygon
    unit: str = "metre"
    warnings: tuple[Notice, ...] = ()

    @property
    def origin(self) -> Array:
        """Map coordinates of the local zero, metres, shape (3,)."""
        return self.pre.origin


@dataclass(frozen=True, slots=True)
class Registration:
    """How the later survey was moved onto the reference.

    Args:
        matrix: 4 × 4 rigid motion post → pre, local coordinates.
        method: What was done, in words, such as ``identity + vertical offset``.
        converged: Whether the iteration settled.
        overlap: Share of the smaller survey's footprint that both surveys saw, 0 to 1.
        rmse: Robust spread of the distances that decided, m.
        inliers: Share of deciding anchors that agree, 0 to 1.
        dof: The degrees of freedom that were estimated, out of x y z roll pitch yaw; what cannot be
            observed stays as it was.
        warnings: What the user should know.
        stable_offset: Median vertical disagreement on stable ground as delivered, before any motion,
            later − reference, m; 0 where nothing could be compared.
    """

    matrix: Array
    method: str
    converged: bool
    overlap: float
    rmse: float
    inliers: float
    dof: tuple[str, ...] = ()
    warnings: tuple[Notice, ...] = ()
    stable_offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Raster:
    """A grid of square cells; see the module's docstring for its axes."""

    x0: float
    y0: float
    cell: float
    rows: int
    cols: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Two elevation grids and their difference.

    Args:
        raster: Where the cells are.
        before: Ground elevation of the reference, local m, shape (rows, cols), NaN where unseen.
        after: The same of the later survey, registered and with the stable-ground bias removed.
        change: after − before, m; NaN unless both surveys saw the cell (gaps may be filled inside hulls).
        variance: Variance of ``change`` from point noise alone, m²; NaN where ``change`` is.
    """

    raster: Raster
    before: Array
    after: Array
    change: Array
    variance: Array


@dataclass(frozen=True, slots=True)
class ErrorModel:
    """What the stable ground says about the error of a height change.

    Args:
        points: Points of both surveys inside the stable polygons.
        area: Stable ground that both surveys saw, m².
        bias: Median height change on stable ground as delivered (before anything was removed), m.
        sigma: Robust standard deviation (NMAD) of the height change of one cell after removal, m.
        lod95: Level of detection of one cell at 95 %, m.
        correlation_length: Distance at which errors are no longer related, m; 0 if they never are.
        sill_long: Variance of the spatially correlated part, m².
        nugget: Variance of the uncorrelated part, m².
    """

    points: int
    area: float
    bias: float
    sigma: float
    lod95: float
    correlation_length: float
    sill_long: float
    nugget: float
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CorePoints:
    """M3C2 distances at the core points (Lague et al. 2013).

    Args:
        points: Core points on the reference, local m, shape (m, 3).
        normals: Unit normals, shape (m, 3).
        distance: Along the normal, positive = material arrived, m; NaN where there are too few points.
        lod95: Level of detection at 95 %, m.
        hull: Number of the hull that holds the point (1 = first of the sorted list), 0 if none; int32.
    """

    points: Array
    normals: Array
    distance: Array
    lod95: Array
    hull: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Hull:
    """One change. Volumes m³ and ≥ 0 except net = fill − cut; lengths m; no field is ever NaN.

    ``polygon`` is in local coordinates, valid, and may have several parts or holes.
    """

    id: str
    score: float
    kind: Kind
    area: float
    cut_volume: float
    fill_volume: float
    net_volume: float
    cut_volume_ci95: Interval
    fill_volume_ci95: Interval
    net_volume_ci95: Interval
    mean_change: float
    max_change: float
    coverage: float
    centroid: tuple[float, float]
    polygon: MultiPolygon


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums with their intervals: over the hulls (``area`` = their area) or over the whole site."""

    cut_volume: float
    fill_volume: float
    net_volume: float
    cut_volume_ci95: Interval
    fill_volume_ci95: Interval
    net_volume_ci95: Interval
    area: float


@dataclass(frozen=True, slots=True)
class Analysis:
    """The whole result, before it is drawn and written. Hulls are sorted by score, then |net|."""

    surveys: Surveys
    registration: Registration
    errors: ErrorModel
    difference: Difference
    core: CorePoints
    hulls: tuple[Hull, ...]
    labels: NDArray[np.int32]  # (rows, cols): number of the hull (1-based position in ``hulls``), 0 = none
    totals: Totals  # over the hulls
    site: Totals  # over every cell both surveys saw and narrow gaps between them: undetected change included
    warnings: tuple[Notice, ...]
