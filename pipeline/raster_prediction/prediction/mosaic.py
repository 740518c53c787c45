"""How are the answers for overlapping chips put together?"""

import numpy as np
from numpy.typing import NDArray


class Mosaic:
    """Answers for a whole grid, each cell's the mean of those of its chips, weighted by how far it is from their edge.

    Args:
        channels: Of an answer.
        height: Cells down.
        width: Cells across.
        size: Edge of a chip, cells.
        overlap: Cells that neighbouring chips share; within so many of a chip's edge its word counts less.
    """

    def __init__(self, channels: int, height: int, width: int, *, size: int, overlap: int) -> None:
        self._sum = np.zeros((channels, height, width), np.float32)
        self._weight = np.zeros((height, width), np.float32)
        edge = ramp(size, overlap)
        self._edge = np.outer(edge, edge).astype(np.float32)

    def add(self, row: int, column: int, answer: NDArray[np.float32]) -> None:
        """Add the answer for the chip that begins there; what reaches beyond the grid is left out."""
        weight = self._weight[row : row + answer.shape[1], column : column + answer.shape[2]]
        edge = self._edge[: weight.shape[0], : weight.shape[1]]
        part = self._sum[:, row : row + weight.shape[0], column : column + weight.shape[1]]
        part += answer[:, : weight.shape[0], : weight.shape[1]] * edge
        weight += edge

    def whole(self) -> NDArray[np.float32]:
        """Return the answers, shape (channels, height, width); NaN where no chip was added."""
        with np.errstate(invalid="ignore"):
            result: NDArray[np.float32] = self._sum / self._weight
        return result


def ramp(size: int, overlap: int) -> NDArray[np.float64]:
    """Return weights along a chip's side: they rise over the overlap, and two neighbours' add up to the same.

    >>> ramp(6, 2).tolist(), (ramp(6, 2)[-2:] + ramp(6, 2)[:2]).round(9).tolist()
    ([0.25, 0.75, 1.0, 1.0, 0.75, 0.25], [1.0, 1.0])
    """
    weights = np.ones(size)
    rise = (np.arange(overlap) + 0.5) / overlap if overlap else np.empty(0)
    weights[:overlap] = rise
    weights[size - overlap :] = np.minimum(weights[size - overlap :], rise[::-1])
    return weights
