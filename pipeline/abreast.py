"""Two things at the same time, where the run may use more than one thread."""

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


def meanwhile(work: Callable[..., T], *args: Any) -> Callable[[], T]:
    """Begin work beside what the caller does next; the function that is returned waits for its result.

    Args:
        work: As for :func:`both`; it may call kernels that are parallel if the caller calls none until it has the
            result. With one thread it is done when the result is asked for.
        args: Its arguments.

    >>> meanwhile(max, 5, 3)()
    5
    """
    if config.NUMBA_NUM_THREADS < 2:  # type: ignore[attr-defined]  # numba sets it from the environment
        return lambda: work(*args)
    other = ThreadPoolExecutor(1)
    later = other.submit(work, *args)
    other.shutdown(wait=False)
    return later.result
