"""The plan: shaded ground in grey, change in colour, hulls outlined and labelled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.transforms import Affine2D, Transform
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation

from pipeline.volume_change.output import words
from pipeline.volume_change.output.pictures.canvas import (
    INK,
    PALE,
    PAPER,
    Backdrop,
    as_bytes,
    points,
    printable,
    text_size,
)
from pipeline.volume_change.output.pictures.labels import Box, Ground, nearest_on, place
from pipeline.volume_change.output.pictures.scene import Scene, grey_relief, tint
from pipeline.volume_change.types import Analysis, Hull

TALLEST = 1.6  # height of a map over its width
_GROUND_STEP = 8.0  # px
_HALO = 6.0


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the plan lies on the page.

    Args:
        axes: The map; its data coordinates are turned local metres.
        turn: From local metres to data coordinates.
        angle: By how much the map is turned, radians anticlockwise; 0 = north up.
        size: Width and height of the axes, px.
    """

    axes: Axes
    turn: Affine2D
    angle: float
    size: tuple[float, float]

    @property
    def transform(self) -> Transform:
        """From local metres to the page."""
        return self.turn + self.axes.transData

    @property
    def metres_per_pixel(self) -> float:
        """Scale of the map."""
        low, high = self.axes.get_xlim()
        return float(high - low) / self.size[0]

    def pixels(self, xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return positions on the axes, px from its lower left corner, for local metres of shape (n, 2)."""
        x, y = self.axes.get_xlim()[0], self.axes.get_ylim()[0]
        result: NDArray[np.float64] = (self.turn.transform(xy) - (x, y)) / self.metres_per_pixel
        return result


def turn_for(analysis: Analysis) -> float:
    """Return the angle that makes a long site fill an upright page; 0 (north up) unless much is gained.

    Returns:
        Radians anticlockwise.
    """
    raster = analysis.difference.raster
    seen = np.isfinite(analysis.difference.after) | np.isfinite(analysis.difference.before)
    rows, cols = np.nonzero(seen)
    if len(rows) < 3:
        return 0.0
    step = max(1, len(rows) // 20_000)
    spots = np.column_stack([cols[::step], rows[::step]]) * raster.cell
    width, height = np.ptp(spots, axis=0) + raster.cell
    box = shapely.minimum_rotated_rectangle(shapely.MultiPoint(spots).convex_hull.buffer(raster.cell / 2))
    corners = shapely.get_coordinates(box)[:3]
    sides = np.linalg.norm(np.diff(corners, axis=0), axis=1)
    upright = max(width, height / TALLEST)  # metres that the page's width must hold
    turned = max(sides.min(), sides.max() / TALLEST)
    if turned > 0.8 * upright or sides.max() < 2 * sides.min():
        return 0.0
    along = np.diff(corners, axis=0)[int(sides.argmax())]
    angle = np.pi / 2 - np.arctan2(along[1], along[0])
    return float((angle + np.pi / 2) % np.pi - np.pi / 2)  # the smaller turn of the two that stand it up


def frame_on(axes: Axes, window: tuple[float, float, float, float], size: tuple[float, float]) -> Frame:
    """Show a window (left, bottom, right, top, local m, of the axes' proportions) with north up."""
    axes.set(xlim=(window[0], window[2]), ylim=(window[1], window[3]))
    return Frame(axes, Affine2D(), 0.0, size)


def frame_for(axes: Axes, scene: Scene, angle: float, size: tuple[float, float]) -> Frame:
    """Fit all that was seen into axes of a size in pixels, with equal scales, turned by ``angle``."""
    seen = np.isfinite(scene.after) | np.isfinite(scene.before)
    rows, cols = np.nonzero(seen) if seen.any() else np.nonzero(np.ones(seen.shape, bool))
    xy = np.column_stack([scene.left + (cols + 0.5) * scene.cell, scene.bottom + (rows + 0.5) * scene.cell])
    turn = Affine2D().rotate(angle)
    spots = turn.transform(xy)
    low, high = spots.min(axis=0) - scene.cell, spots.max(axis=0) + scene.cell
    centre = (low + high) / 2
    scale = max((high[0] - low[0]) / size[0], (high[1] - low[1]) / size[1]) * 1.03
    half = np.array(size) * scale / 2
    axes.set_xlim(centre[0] - half[0], centre[0] + half[0])
    axes.set_ylim(centre[1] - half[1], centre[1] + half[1])
    return Frame(axes, turn, angle, size)


def aspect(scene: Scene, angle: float) -> float:
    """Return height over width of what was seen, once turned."""
    seen = np.isfinite(scene.after) | np.isfinite(scene.before)
    if not seen.any():
        return 1.0
    rows, cols = np.nonzero(seen)
    spots = Affine2D().rotate(angle).transform(np.column_stack([cols, rows]).astype(float))
    width, height = np.ptp(spots, axis=0) + 1
    return float(height / width)


def draw_ground(frame: Frame, scene: Scene, limit: float, lod: float) -> None:
    """Draw the shaded ground in grey and the change in colour on top.

    Args:
        frame: Where.
        scene: What.
        limit: End of the colour scale, m.
        lod: Level of detection of one cell, m.
    """
    axes = frame.axes
    grey = grey_relief(scene, np.radians(135) - frame.angle)  # light from the page's upper left, however it is turned
    colour = tint(scene, limit, lod)
    colour[..., :3] = np.clip(colour[..., :3] * (0.45 + 0.65 * grey[..., :1]), 0, 1)
    # large cells are blended in the ground, which is there to be recognised; change stays cell by cell
    large = scene.cell > 3 * frame.metres_per_pixel
    page = Image.new("RGBA", (round(frame.size[0]), round(frame.size[1])), PALE)
    for layer, blended in ((grey, True), (colour, not large)):
        page.alpha_composite(_on_page(frame, scene, as_bytes(layer), page.size, blended).convert("RGBA"))
    axes.patch.set_visible(False)
    left, bottom = axes.transAxes.transform((0, 0))
    axes.figure.add_artist(Backdrop(left, bottom, page))
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color="#c4ccd4", linewidth=0.8)


def _on_page(frame: Frame, scene: Scene, layer: NDArray[np.uint8], size: tuple[int, int], blended: bool) -> Image.Image:
    """Return a grid of colours, row 0 in the south, as it lies on the axes' pixels; clear outside of the grid."""
    x, y = frame.axes.get_xlim()[0], frame.axes.get_ylim()[0]
    step = frame.metres_per_pixel
    # From pixels, counted from the upper left, to data coordinates, to local metres, to cells.
    place = Affine2D().scale(step, -step).translate(x, y + size[1] * step) + frame.turn.inverted()
    place = place + Affine2D().translate(-scene.left, -scene.bottom).scale(1 / scene.cell)
    (a, b, c), (d, e, f) = place.get_matrix()[:2].tolist()
    grid = Image.fromarray(layer)
    how = Image.Resampling.BILINEAR if blended else Image.Resampling.NEAREST
    return grid.transform(size, Image.Transform.AFFINE, (a, b, c, d, e, f), how)


def draw_polygons(frame: Frame, shape: shapely.MultiPolygon, *, color: str, width: float, **style: object) -> None:
    """Outline polygons (local metres) with a pale halo, so that they show on any ground."""
    path = _outline(shape)
    if path is None:
        return
    if style.get("hatch"):
        frame.axes.add_patch(PathPatch(path, transform=frame.transform, facecolor="none", edgecolor=color,
                                       linewidth=points(width), zorder=3, **style))  # fmt: skip
        return
    for line, tone in ((width + _HALO / 2, PAPER), (width, color)):
        frame.axes.add_patch(PathPatch(path, transform=frame.transform, facecolor="none", edgecolor=tone,
                                       linewidth=points(line), joinstyle="round", zorder=4))  # fmt: skip


def draw_furniture(frame: Frame, scene: Scene) -> list[Box]:
    """Draw scale bar and north arrow in the corners that hide least; return what they cover."""
    ground = ground_of(frame, scene)
    width, height = frame.size
    length = words.round_length(0.3 * width * frame.metres_per_pixel)
    bar = (length / frame.metres_per_pixel + 56, 86.0)
    arrow = (84.0, 116.0)
    taken: list[Box] = []
    for size, draw in ((arrow, _north), (bar, _scale_bar)):
        lefts, bottoms = (16, width - size[0] - 16), (16, height - size[1] - 16)
        # bottom left for the bar and top right for the arrow are where people look first
        habit = [(lefts[1], bottoms[1]), (lefts[0], bottoms[0]), (lefts[0], bottoms[1]), (lefts[1], bottoms[0])]
        order = habit if draw is _north else [habit[1], habit[3], habit[2], habit[0]]
        corners = [Box(left, bottom, *size) for left, bottom in order]
        free = [box for box in corners if not any(box.overlaps(other) for other in taken)]
        best = min(free, key=ground.share)
        draw(frame, best, length)
        taken.append(best)
    return taken


def ground_of(frame: Frame, scene: Scene) -> Ground:
    """Return where hulls lie on the page."""
    width, height = frame.size
    y, x = np.mgrid[0 : int(height / _GROUND_STEP) + 1, 0 : int(width / _GROUND_STEP) + 1] * _GROUND_STEP
    x0, y0 = frame.axes.get_xlim()[0], frame.axes.get_ylim()[0]
    data = np.column_stack([x.ravel(), y.ravel()]) * frame.metres_per_pixel + (x0, y0)
    local = frame.turn.inverted().transform(data)
    cols = np.floor((local[:, 0] - scene.left) / scene.cell).astype(np.intp)
    rows = np.floor((local[:, 1] - scene.bottom) / scene.cell).astype(np.intp)
    inside = (rows >= 0) & (rows < scene.labels.shape[0]) & (cols >= 0) & (cols < scene.labels.shape[1])
    covered = np.zeros(len(local), bool)
    covered[inside] = scene.labels[rows[inside], cols[inside]] > 0
    # one step wider: a label that touches an outline reads badly
    return Ground(binary_dilation(covered.reshape(x.shape)), _GROUND_STEP)


def draw_labels(frame: Frame, scene: Scene, hulls: Sequence[Hull], taken: Sequence[Box], size: float) -> list[Box]:
    """Label hulls with number and net volume; return the boxes of those that found room."""
    anchors = frame.pixels(np.array([_anchor(hull) for hull in hulls]).reshape(-1, 2))
    texts = [_wordings(n, hull) for n, hull in enumerate(hulls, 1)]
    sizes = [[_padded(text_size(t, size, "bold"), size) for t in options] for options in texts]
    spots = [(float(x), float(y)) for x, y in anchors]
    placed = place(spots, sizes, frame.size, ground_of(frame, scene), taken)
    boxes, leaders = [], []
    for spot, found, options in zip(spots, placed, texts, strict=True):
        if found is None:
            continue
        wording, box = found
        boxes.append(box)
        leaders.append([spot, nearest_on(box, spot)])
        _label(frame, box, options[wording], size)
    for tone, width in ((PAPER, 8), (INK, 4)):
        lines = LineCollection(leaders, colors=tone, linewidths=points(width), transform=_page(frame), zorder=5)
        frame.axes.add_collection(lines, autolim=False)
    return boxes


def _outline(shape: shapely.MultiPolygon) -> Outline | None:
    rings = [ring for part in shape.geoms if not part.is_empty for ring in (part.exterior, *part.interiors)]
    if not rings:
        return None
    return Outline.make_compound_path(*(Outline(np.asarray(ring.coords)[:, :2], closed=True) for ring in rings))


def _page(frame: Frame) -> Transform:
    """From pixels on the axes to the page."""
    return Affine2D().scale(1 / frame.size[0], 1 / frame.size[1]) + frame.axes.transAxes


def _plate(frame: Frame, box: Box, zorder: float, alpha: float = 0.92) -> None:
    frame.axes.add_patch(
        FancyBboxPatch(
            (box.left, box.bottom), box.width, box.height, boxstyle="round,pad=0,rounding_size=10",
            transform=_page(frame), facecolor=PAPER, edgecolor="#8a949e", linewidth=0.6, alpha=alpha, zorder=zorder,
        )
    )  # fmt: skip


def _label(frame: Frame, box: Box, text: str, size: float) -> None:
    _plate(frame, box, zorder=6, alpha=1.0)
    frame.axes.text(
        *box.centre, text, transform=_page(frame), fontsize=points(size), ha="center", va="center_baseline",
        weight="bold", color=INK, zorder=7, parse_math=False,
    )  # fmt: skip


def _north(frame: Frame, box: Box, _: float) -> None:
    _plate(frame, box, zorder=8)
    middle = np.array([box.centre[0], box.bottom + 46])
    spin = Affine2D().rotate_around(float(middle[0]), float(middle[1]), frame.angle)
    for side, tone in ((-1, INK), (1, PAPER)):
        half = np.array([[0, 36], [side * 20, -32], [0, -18]]) + middle
        shape = Polygon(spin.transform(half), closed=True, facecolor=tone, edgecolor=INK, linewidth=0.8, zorder=9)
        shape.set_transform(_page(frame))
        frame.axes.add_patch(shape)
    frame.axes.text(middle[0], box.bottom + box.height - 8, "N", transform=_page(frame), fontsize=points(30),
                    ha="center", va="top", weight="bold", color=INK, zorder=9)  # fmt: skip


def _scale_bar(frame: Frame, box: Box, length: float) -> None:
    _plate(frame, box, zorder=8)
    pixels = length / frame.metres_per_pixel
    left, bottom = box.left + 28, box.bottom + 16
    for part, tone in ((0, INK), (1, PAPER), (2, INK), (3, PAPER)):
        bar = Rectangle((left + part * pixels / 4, bottom), pixels / 4, 14, transform=_page(frame), facecolor=tone,
                        edgecolor=INK, linewidth=0.8, zorder=9)  # fmt: skip
        frame.axes.add_patch(bar)
    frame.axes.text(left + pixels / 2, bottom + 22, printable(words.distance(length)), transform=_page(frame),
                    fontsize=points(32), ha="center", va="bottom", color=INK, zorder=9)  # fmt: skip


def _anchor(hull: Hull) -> tuple[float, float]:
    """A point that is surely on the hull: the centroid of a crescent is not."""
    largest = max(hull.polygon.geoms, key=lambda part: float(part.area), default=None)
    if largest is None or largest.is_empty:
        return hull.centroid
    spot = largest.centroid if largest.contains(largest.centroid) else largest.representative_point()
    return float(spot.x), float(spot.y)


def _wordings(number: int, hull: Hull) -> list[str]:
    net = words.volume(hull.net_volume, hull.net_volume_ci95, signed=True)
    return [f"{number}:  {net}", f"{number}"]


def _padded(size: tuple[float, float], type_size: float) -> tuple[float, float]:
    return size[0] + 24, type_size * 1.5
