"""Where labels go: near what they name, on top of nothing that matters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ANGLES = np.radians(np.arange(0, 360, 15))
_REACHES = (1.0, 1.4, 1.9, 2.5, 3.2, 4.2, 5.5, 7.0)
_CHANGE_COST = 8.0  # a label on a change hides what it speaks of
_FAR_COST = 0.5
_HIDE_COST = 1.5


@dataclass(frozen=True, slots=True)
class Box:
    """An upright rectangle, pixels, y upwards."""

    left: float
    bottom: float
    width: float
    height: float

    @property
    def centre(self) -> tuple[float, float]:
        """The middle."""
        return self.left + self.width / 2, self.bottom + self.height / 2

    def overlaps(self, other: "Box", gap: float = 0.0) -> bool:
        """Whether two boxes touch, or come closer than ``gap``.

        >>> Box(0, 0, 2, 2).overlaps(Box(1, 1, 2, 2)), Box(0, 0, 2, 2).overlaps(Box(3, 0, 2, 2))
        (True, False)
        """
        return (
            self.left < other.left + other.width + gap
            and other.left < self.left + self.width + gap
            and self.bottom < other.bottom + other.height + gap
            and other.bottom < self.bottom + self.height + gap
        )

    def inside(self, width: float, height: float, gap: float = 4.0) -> bool:
        """Whether the box lies on a page of this size."""
        return (
            self.left >= gap
            and self.bottom >= gap
            and self.left + self.width <= width - gap
            and self.bottom + self.height <= height - gap
        )


class Ground:
    """How much of any box is covered by changes, from one summed-area table.

    Args:
        covered: Shape (h, w), true where a change is drawn, row 0 at the bottom.
        step: Pixels of the page per cell of ``covered``.
    """

    def __init__(self, covered: NDArray[np.bool_], step: float) -> None:
        self._sums = np.pad(covered.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        self._step = step

    def share(self, box: Box) -> float:
        """Return the covered share of a box, 0 to 1.

        >>> Ground(np.array([[True, False], [True, False]]), 10).share(Box(0, 0, 20, 20))
        0.5
        """
        rows, cols = self._sums.shape[0] - 1, self._sums.shape[1] - 1
        c0, c1 = (int(np.clip(round(v / self._step), 0, cols)) for v in (box.left, box.left + box.width))
        r0, r1 = (int(np.clip(round(v / self._step), 0, rows)) for v in (box.bottom, box.bottom + box.height))
        if c1 <= c0 or r1 <= r0:
            return 0.0
        total = self._sums[r1, c1] - self._sums[r0, c1] - self._sums[r1, c0] + self._sums[r0, c0]
        return float(total) / ((c1 - c0) * (r1 - r0))


def place(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[Sequence[tuple[float, float]]],
    page: tuple[float, float],
    ground: Ground,
    taken: Sequence[Box] = (),
) -> list[tuple[int, Box] | None]:
    """Place labels, best first, so that no two overlap.

    Args:
        anchors: What each label names, pixels, most important first.
        sizes: For each label its wordings' sizes, longest first; a shorter one is tried if none fits.
        page: Width and height, pixels.
        ground: Where changes are drawn.
        taken: Boxes that must stay free.

    Returns:
        For each label the wording's index and its box; None where nothing fits.

    >>> place([(50, 50)], [[(20, 10)]], (100, 100), Ground(np.zeros((10, 10), bool), 10))[0][0]
    0
    """
    used = list(taken)
    # the spots that labels name must stay visible, and so must the lines that lead there
    marks = [_mark(spot) for spot in anchors]
    lines: list[Box] = []
    placed: list[tuple[int, Box] | None] = []
    for number, (anchor, wordings) in enumerate(zip(anchors, sizes, strict=True)):
        others = marks[:number] + marks[number + 1 :] + lines
        choice = next(
            ((i, box) for i, size in enumerate(wordings) if (box := _best(anchor, size, page, ground, used, others))),
            None,
        )
        placed.append(choice)
        if choice:
            used.append(choice[1])
            lines += _leader(choice[1], anchor)
    return placed


def _mark(spot: tuple[float, float]) -> Box:
    return Box(spot[0] - 3, spot[1] - 3, 6, 6)


def _leader(box: Box, spot: tuple[float, float]) -> list[Box]:
    """Return small boxes along the line from a label to what it names."""
    x, y = nearest_on(box, spot)
    return [_mark((x + (spot[0] - x) * t, y + (spot[1] - y) * t)) for t in (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)]


def nearest_on(box: Box, spot: tuple[float, float]) -> tuple[float, float]:
    """Return the point of a box that is nearest to a spot.

    >>> nearest_on(Box(0, 0, 2, 2), (5.0, 1.0))
    (2.0, 1.0)
    """
    return (
        float(min(max(spot[0], box.left), box.left + box.width)),
        float(min(max(spot[1], box.bottom), box.bottom + box.height)),
    )


def _best(
    anchor: tuple[float, float],
    size: tuple[float, float],
    page: tuple[float, float],
    ground: Ground,
    used: list[Box],
    marks: list[Box],
) -> Box | None:
    best, lowest = None, np.inf
    for reach in _REACHES:
        if best is not None and lowest < _FAR_COST * reach:
            break
        for angle in _ANGLES:
            x = anchor[0] + np.cos(angle) * (size[0] / 2 + size[1] * (reach - 0.6))
            y = anchor[1] + np.sin(angle) * (size[1] * reach)
            box = Box(float(x - size[0] / 2), float(y - size[1] / 2), *size)
            if not box.inside(*page) or any(box.overlaps(other, 5.0) for other in used):
                continue
            cost = _FAR_COST * reach + _CHANGE_COST * ground.share(box)
            if cost >= lowest:
                continue
            cost += _HIDE_COST * sum(box.overlaps(mark) for mark in marks)
            cost += _HIDE_COST * sum(other.overlaps(mark) for mark in _leader(box, anchor) for other in used)
            if cost < lowest:
                best, lowest = box, cost
    return best
