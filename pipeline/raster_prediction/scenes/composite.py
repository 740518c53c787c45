"""What was the ground like at a time step, clouds left out? One picture out of several scenes."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
"""Shape (bands, rows, columns); NaN in all bands where nothing was seen."""


def least_cloudy(read: Sequence[Callable[[], Picture | None]], empty: Picture) -> Picture:
    """Return the clear cells of the first scene, then those of the next where it has none, and so on.

    Args:
        read: Read a scene each, the best first; None if that cannot be read. Once nothing is missing no more are read.
        empty: What there is without any scene.

    >>> a, b = np.array([[[1, np.nan]]], np.float32), np.array([[[5, 6]]], np.float32)
    >>> least_cloudy([lambda: a, lambda: b], np.full((1, 1, 2), np.nan, np.float32)).tolist()
    [[[1.0, 6.0]]]
    """
    picture = empty.copy()
    for each in read:
        missing = np.isnan(picture[0])
        if not missing.any():
            break
        if (seen := each()) is not None:
            picture[:, missing] = seen[:, missing]
    return picture


def median(read: Sequence[Callable[[], Picture | None]], empty: Picture) -> Picture:
    """Return the median of the scenes in which a cell is clear, each band by itself.

    >>> scenes = [np.full((1, 1, 1), value, np.float32) for value in (1, 9, np.nan, 2)]
    >>> median([lambda s=s: s for s in scenes], np.full((1, 1, 1), np.nan, np.float32)).item()
    2.0
    """
    seen = [picture for each in read if (picture := each()) is not None]
    if not seen:
        return empty.copy()
    stack = np.sort(np.stack(seen), axis=0)  # NaN last
    count = (~np.isnan(stack)).sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, np.maximum(count // 2, 0)
    high = np.minimum(high, np.maximum(count - 1, 0))
    pick = (np.take_along_axis(stack, at[None], axis=0)[0] for at in (low, high))
    result: Picture = (sum(pick) / 2).astype(np.float32)
    return result


COMPOSITES: dict[Literal["least_cloudy", "median"], Callable[..., Picture]] = {
    "least_cloudy": least_cloudy,
    "median": median,
}
