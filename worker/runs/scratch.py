"""Folders for runs under way: gone when the run is, and swept up when even the worker did not survive."""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

_LOCK = ".lock"


@contextmanager
def scratch_folder(root: Path, name: str) -> Iterator[Path]:
    """Yield a fresh folder, deleted at the end; whoever is killed meanwhile leaves it to the next one's ``sweep``.

    Raises:
        OSError: If it cannot be made, such as on a full disk.
    """
    folder = root / name
    sweep(root)
    with _alone(root):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        held = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(held, fcntl.LOCK_EX)  # the kernel drops it with the process, however that ends
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def sweep(root: Path) -> list[str]:
    """Delete the folders whose owners are gone; return their names."""
    swept = []
    with _alone(root):
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and not _is_held(folder):
                shutil.rmtree(folder, ignore_errors=True)
                swept.append(folder.name)
    if swept:
        log.info("swept up what killed runs left: %s", ", ".join(swept))
    return swept


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Let nobody make or sweep folders meanwhile."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / _LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_held(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
