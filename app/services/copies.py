"""Every object of the store into a folder, and back: a backup that needs no other tool."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from app.domain.inventory import Stored
from app.domain.keys import check_key

if TYPE_CHECKING:
    from app.domain.ports import ObjectStore

T = TypeVar("T")

_OURS = "tasks/"
_TOGETHER = 8  # most objects are small pictures, and the time goes into asking
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Copied:
    """What was done.

    Args:
        objects: How many were copied.
        size: Their bytes.
        there: How many were there already.
        dropped: How many were deleted at the target, since the source has them no more.
    """

    objects: int = 0
    size: int = 0
    there: int = 0
    dropped: int = 0


def save(store: "ObjectStore", folder: Path, *, mirror: bool = False) -> Copied:
    """Copy every object into a folder; what is there already, and as new, is not copied again.

    An object that is deleted meanwhile is left out.

    Args:
        store: Where from.
        folder: Made if absent; an object's key is its path below it.
        mirror: Whether to delete files below the folder that the store has no more.

    Raises:
        OSError: If the store does not answer or the disk is full; what was copied stays, so it may be repeated.
    """
    seen: set[Path] = set()

    def objects() -> Iterator[Stored]:
        for found in store.listed(_OURS):
            if _is_key(found.key):
                seen.add(folder / found.key)
                yield found

    def copy(found: Stored) -> int | None:
        target = folder / found.key
        if target.is_file() and _is_same(target, found):
            return None
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{uuid4().hex}.saving")
        try:
            store.fetch(found.key, partial)
            os.utime(partial, (found.changed_at.timestamp(),) * 2)
            partial.replace(target)
        except FileNotFoundError:
            return None
        finally:
            partial.unlink(missing_ok=True)
        return found.size

    done = _together(copy, objects())
    gone = [path for path in _files(folder / _OURS) if path not in seen] if mirror else []
    for path in gone:
        path.unlink(missing_ok=True)
    return Copied(done.objects, done.size, done.there, len(gone))


def load(store: "ObjectStore", folder: Path) -> Copied:
    """Copy every file of a folder that ``save`` filled into the store; objects of the same size are left alone.

    Raises:
        OSError: If the store does not answer or a file cannot be read; it may be repeated.
    """

    def copy(path: Path) -> int | None:
        key, size = path.relative_to(folder).as_posix(), path.stat().st_size
        if store.size(key) == size:
            return None
        store.put(key, path)
        return size

    return _together(copy, _files(folder / _OURS))


def _together(copy: Callable[[T], int | None], things: Iterable[T]) -> Copied:
    """Copy things, some at a time; None from ``copy`` means that there was nothing to do."""
    objects = size = there = 0
    remaining = iter(things)
    with ThreadPoolExecutor(_TOGETHER) as pool:
        while batch := list(islice(remaining, _AT_ONCE)):
            for copied in pool.map(copy, batch):
                objects += copied is not None
                there += copied is None
                size += copied or 0
    return Copied(objects, size, there)


def _is_key(key: str) -> bool:
    """Return whether an object is one of ours; no other name becomes a path."""
    try:
        check_key(key)
    except ValueError:
        return False
    return True


def _is_same(path: Path, found: Stored) -> bool:
    about = path.stat()
    return about.st_size == found.size and about.st_mtime >= found.changed_at.timestamp() - 1e-3


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place) / name for name in sorted(names) if not name.endswith(".saving"))
