"""What this machine, or the container on it, can give to runs."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

import psutil

MIB = 2**20
SHARE = 0.8  # of the memory, for runs; the rest is for the worker and the files' cache
LOW_DISK = MIB
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_SECRETS = (
    "DATABASE_URL",
    "CELERY_BROKER_URL",
    "CELERY_RESULT_BACKEND",
    "API_KEY",
    "MINIO_",
    "AWS_",
    "VOLCAL_",
    "PG",
    "EARTHDATA_",
)


def memory_cap_mb(wanted_mb: int, *, runs: int) -> int:
    """Return the memory cap of one run, MiB: the wanted one, or a fair share of what there is.

    >>> memory_cap_mb(512, runs=3)
    512
    """
    return wanted_mb or max(256, int(SHARE * memory_mb() / max(1, runs)))


def memory_mb() -> int:
    """Return the memory of this machine, or of the container if that has less, MiB."""
    total: int = psutil.virtual_memory().total
    for path in _LIMITS:
        with suppress(OSError, ValueError):
            total = min(total, int(Path(path).read_text()))
    return total // MIB


def threads(*, runs: int) -> int:
    """Return how many threads each of ``runs`` runs at a time may start."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, runs))


def oom_kills() -> int:
    """Return how often the kernel has killed a process for want of memory since it started; 0 if it does not say."""
    for path, word in (("/sys/fs/cgroup/memory.events", "oom_kill"), ("/proc/vmstat", "oom_kill")):
        with suppress(OSError, ValueError):
            for line in Path(path).read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == word:
                    return int(count)
    return 0


def is_full(folder: Path) -> bool:
    """Return whether the disk of a folder has no room left."""
    try:
        return shutil.disk_usage(folder).free < LOW_DISK
    except OSError:
        return False


def is_secret(name: str) -> bool:
    """Return whether an environment variable may hold what a run must not know.

    >>> is_secret("VOLCAL_SECRET_KEY"), is_secret("PATH")
    (True, False)
    """
    return name.startswith(_SECRETS)
