"""What is the outline of each change? Where its flank ends, or contours of the share of each rim cell that changed."""

from itertools import pairwise

import contourpy
import numpy as np
import shapely
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates, maximum_filter
from shapely import MultiPolygon, Polygon

from pipeline.volume_change.delineation.rim import Rim, depth_of, faces
from pipeline.volume_change.types import Array, Mask, Raster

PAD = 3  # cells of empty ground around a hull, so that every contour closes
RIM_CELLS = 2.5  # depth to which cells may be only partly changed
EDGE = Rim()
DRAWN_AT = 0.02  # m: where its flank has this height a change is outlined; what is lower nobody would stake out
VERTEX = 0.05  # cells: how far dropping a vertex may move the outline


def outline(
    inside: Mask,
    change: Array,
    sign: int,
    row: int,
    col: int,
    raster: Raster,
    flank: Rim = EDGE,
    room: Mask | None = None,
    portion: Array | None = None,
    beside: Mask | None = None,
) -> MultiPolygon:
    """Return the outline of a change in local coordinates, valid and not empty.

    Args:
        inside: Cells of the change, any window of the raster.
        change: Height change in the window, m; finite inside.
        sign: +1 fill, −1 cut.
        row: First row of the window.
        col: First column of the window.
        raster: The grid.
        flank: How the change ends, if that is known: the outline is drawn there.
        room: Cells around that it may reach into: seen, and no other change's. None = none.
        portion: Share of cells on a seam with another change that is its own; NaN elsewhere. None = no seam.
        beside: Cells of other changes: towards them it ends at the seam, not in a flank. None = none.
    """
    padded = np.pad(inside, PAD)
    if flank.shape == "edge":
        share = np.where(padded, _changed_share(padded, np.pad(sign * np.where(inside, change, 0.0), PAD)), 0.0)
    else:
        within = padded if room is None else padded | np.pad(room, PAD)
        share = np.where(within, np.clip(0.5 + (depth_of(padded) - flank.depth_at(DRAWN_AT)) / 2, 0.0, 1.0), 0.0)
        if beside is not None and beside.any():
            share[padded & faces(padded, np.pad(beside, PAD))] = 1.0
    if portion is not None:
        share = np.fmin(share, np.pad(portion, PAD, constant_values=np.nan))
    outlined = _contour(share)
    if outlined.is_empty:  # of a few cells; without an area, means would divide by 0
        outlined = _contour(padded.astype(float))
    # A contour runs between cell centres; index 0 is the centre of the window's first, padded cell.
    x0 = raster.x0 + (col - PAD + 0.5) * raster.cell
    y0 = raster.y0 + (row - PAD + 0.5) * raster.cell
    placed = shapely.transform(outlined, lambda xy: xy * raster.cell + np.array([x0, y0]))
    return placed if placed.is_valid else polygons_of(shapely.make_valid(placed))


def _changed_share(inside: Mask, height: Array) -> Array:
    """Return which share of each cell changed, 0 to 1: below 1 only where a sharp edge cuts a rim cell.

    A rim cell that a sharp edge cuts holds less height than the ground further in promises. The promise is
    the straight line through the heights two and four cells further in, so that a slope that runs out
    smoothly counts in full.
    """
    depth = distance_transform_edt(inside)
    # Half-way to the ridge of the change and no further: past it, heights fall again.
    ridge = maximum_filter(depth, 9)
    inward = np.array(np.gradient(gaussian_filter(depth, 1.0, mode="constant")))
    inward /= np.maximum(np.hypot(*inward), 1e-9)
    rows, cols = np.nonzero(inside & (depth <= RIM_CELLS))
    share = inside.astype(float)
    weight = gaussian_filter(inside.astype(float), 0.7, mode="constant")
    smooth = np.where(inside, gaussian_filter(height, 0.7, mode="constant") / np.maximum(weight, 1e-9), 0.0)
    at = np.array([rows, cols], dtype=float)
    direction = inward[:, rows, cols]
    step = np.clip((ridge - depth)[rows, cols] / 2.0, 0.5, 2.0)
    near = map_coordinates(smooth, at + step * direction, order=1)
    far = map_coordinates(smooth, at + 2 * step * direction, order=1)
    promised = np.minimum(2 * near - far, near)
    own = height[rows, cols]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(promised > 0, own / promised, 1.0)
    share[rows, cols] = np.clip(found, 0.0, 1.0)
    return share


def _contour(share: Array) -> MultiPolygon:
    """Return the polygons where ``share`` exceeds one half, in cells from the first centre."""
    filled = contourpy.contour_generator(z=share, fill_type=contourpy.FillType.OuterOffset).filled(0.5, np.inf)
    parts = []
    for points, offsets in zip(*filled, strict=True):
        rings = [points[a:b] for a, b in pairwise(offsets)]
        parts.append(Polygon(rings[0], rings[1:]))
    whole = shapely.union_all([shapely.make_valid(p) for p in parts]) if parts else MultiPolygon()
    return polygons_of(shapely.simplify(whole, VERTEX))


def polygons_of(geometry: shapely.Geometry) -> MultiPolygon:
    """Return the polygons of any geometry, leaving out points and lines."""
    parts: list[Polygon] = []
    for part in shapely.get_parts(geometry):
        if isinstance(part, Polygon):
            parts.extend([part] if part.area > 0 else [])
        elif part.geom_type in ("MultiPolygon", "GeometryCollection"):
            parts.extend(polygons_of(part).geoms)
    return MultiPolygon(parts)


def centre_of(polygon: MultiPolygon) -> tuple[float, float]:
    """Return the centroid, or a point inside where the centroid falls outside of a bent hull."""
    centre = polygon.centroid
    if not polygon.contains(centre):
        centre = polygon.representative_point()
    return float(centre.x), float(centre.y)
