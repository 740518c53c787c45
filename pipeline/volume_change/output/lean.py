"""Loads libraries without the optional parts of theirs that no run uses and that take longer to load than the rest."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Let imports inside find these modules missing, unless they are loaded already.

    Args:
        names: Modules that the libraries imported inside can do without, and say so by catching ``ImportError``.

    >>> with without("this"):
    ...     import this
    Traceback (most recent call last):
    ModuleNotFoundError: import of this halted; None in sys.modules
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is how Python says: do not import
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
