"""Both surveys at the same time, where the run may use more than one thread."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from numba import config

T = TypeVar("T")


def both(work: Callable[..., T], first: tuple[Any, ...], second: tuple[Any, ...]) -> tuple[T, T]:
    """Return the work's results for two sets of arguments; what either gives never depends on the other.

    Args:
        work: Spends its time in compiled code that lets other threads run; calls no kernel that is itself parallel.
        first: Arguments; if both fail, this one's failure is raised.
        second: Arguments of the other call.

    >>> both(lambda a, b: a - b, (5, 3), (2, 2))
    (2, 0)
    """
    if config.NUMBA_NUM_THREADS < 2:  # type: ignore[attr-defined]  # numba sets it from the environment
        return work(*first), work(*second)
    with ThreadPoolExecutor(1) as other:
        later = other.submit(work, *second)
        return work(*first), later.result()
