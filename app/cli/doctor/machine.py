"""Looks at this machine: its folder, its disk, its secrets, the science that is installed on it."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from urllib.parse import urlsplit

from app.cli.doctor.finding import Finding, note
from app.settings import Settings

_FREE = 2 * 2**30
_SCIENCE = "import numba, pipeline.volume_change.run as run; print(numba.config.CACHE_DIR or 'beside the code')"


def folder(settings: Settings) -> Finding:
    """Try to write into the data folder."""
    root = settings.data_dir.resolve()
    place = next(path for path in (root, *root.parents) if path.exists())
    remedy = f"Make {root} a folder that this user can write to, or set VOLCAL_DATA_DIR."
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"volcal")
    except OSError as error:
        return Finding(good=False, said=f"{place} cannot be written: {os.strerror(error.errno or 0)}", remedy=remedy)
    return Finding(good=True, said=f"{root} can be written" + ("" if place == root else " once it is made"))


def disk(settings: Settings) -> Finding:
    """Look for room."""
    root = settings.data_dir.resolve()
    free = shutil.disk_usage(next(path for path in (root, *root.parents) if path.exists())).free
    said = f"{free / 2**30:.1f} GiB are free"
    return Finding(good=free >= _FREE, said=said, remedy="Free space: a run needs several times the size of its files.")


def secrets(settings: Settings) -> Finding:
    """Look for secrets that anybody could guess; in production the service would not even start with them."""
    weak = settings.weak_secrets()
    if weak:
        said = f"{', '.join(weak)} {'is' if len(weak) == 1 else 'are'} short or known to all"
        return note(said, "Before others can reach this machine: `volcal secrets >> .env`, and APP_ENV=production.")
    return Finding(good=True, said="none is known to all")


def keys(settings: Settings) -> Finding:
    """Look whether strangers are asked for a key, where there can be some."""
    closed = settings.auth == "required" or settings.app_env == "production" or settings.fixed_keys()
    host = urlsplit(settings.public_url).hostname or ""
    if closed or host == "localhost" or host.startswith("127.") or host == "::1":
        return Finding(good=True, said="asked for" if closed else "asked for once there is one; for this machine only")
    return note(
        f"whoever reaches {host} is asked for none, unless `volcal keys list` shows one",
        'Where strangers are: `volcal keys create "My laptop" --owner me`, or VOLCAL_AUTH=required. See docs/keys.md.',
    )


def science(_settings: Settings) -> Finding:
    """Import what a run imports."""
    # In a process of its own, as a run has it: a broken native library may take the whole process with it.
    tried = subprocess.run(
        [sys.executable, "-P", "-c", _SCIENCE], capture_output=True, text=True, timeout=300, check=False
    )
    if tried.returncode == 0:
        return Finding(good=True, said=f"imports; compiled code is kept {tried.stdout.strip()}")
    if importlib.util.find_spec("numba") is None and importlib.util.find_spec("fastapi") is not None:
        return note("is not installed", "Only workers need it: pip install 'volcal-server[worker]'.")
    last = (tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"])[-1]
    return Finding(good=False, said=last, remedy="Install the worker's packages: pip install 'volcal-server[worker]'.")


def open3d(_settings: Settings) -> Finding:
    """Look for what one option needs."""
    there = importlib.util.find_spec("open3d") is not None
    remedy = "Only the option registration=open3d needs it: pip install 'volcal-server[open3d]'."
    return Finding(good=there, said="is installed" if there else "is not installed", remedy=remedy, fatal=False)
