"""`volcal doctor`: asks every configured part whether it answers, and says what to mend."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import httpx

from app.cli.parts import read_settings
from app.settings import Settings

_FREE = 2 * 2**30
_SCIENCE = "import numba, pipeline.volume_change.run as run; print(numba.config.CACHE_DIR or 'beside the code')"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found.

    Args:
        good: Whether nothing needs to be done.
        said: What was found.
        remedy: What to do about it.
        fatal: Whether the service cannot work because of it.
    """

    good: bool
    said: str
    remedy: str = ""
    fatal: bool = True


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Folder of `volcal up`.  [default: var]")
@click.option("--url", help="Where the gateway should answer.  [default: VOLCAL_PUBLIC_URL]")
def doctor(data: Path | None, url: str | None) -> None:
    r"""Check that every configured part answers, and say what to mend.

    \b
    Exit status: 0 if all is well or only something optional is missing; 1 if something must be mended.
    """
    settings = read_settings(data_dir=data, public_url=url)
    sick = False
    for name, look in LOOKS.items():
        try:
            found = look(settings)
        except Exception as error:  # noqa: BLE001  (a doctor does not die of what it finds)
            found = Finding(good=False, said=f"{type(error).__name__}: {error}", remedy="See the message.")
        mark = (
            click.style("ok  ", fg="green") if found.good else click.style("MEND" if found.fatal else "note", fg="red")
        )
        click.echo(f"{mark} {name:<10} {found.said}")
        if not found.good:
            click.echo(f"{'':15} → {found.remedy}")
            sick = sick or found.fatal
    sys.exit(1 if sick else 0)


def _folder(settings: Settings) -> Finding:
    root = settings.data_dir.resolve()
    place = next(path for path in (root, *root.parents) if path.exists())
    remedy = f"Make {root} a folder that this user can write to, or set VOLCAL_DATA_DIR."
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"volcal")
    except OSError as error:
        return Finding(good=False, said=f"{place} cannot be written: {os.strerror(error.errno or 0)}", remedy=remedy)
    return Finding(good=True, said=f"{root} can be written" + ("" if place == root else " once it is made"))


def _disk(settings: Settings) -> Finding:
    root = settings.data_dir.resolve()
    free = shutil.disk_usage(next(path for path in (root, *root.parents) if path.exists())).free
    said = f"{free / 2**30:.1f} GiB are free"
    return Finding(good=free >= _FREE, said=said, remedy="Free space: a run needs several times the size of its files.")


def _database(settings: Settings) -> Finding:
    from app.db import migrate
    from app.db.session import make_engine
    from app.wiring import database_url

    url = database_url(settings)
    kind = url.partition(":")[0]
    if kind == "sqlite" and not Path(url.removeprefix("sqlite:///")).exists():
        return Finding(good=False, said="there is none yet", remedy="`volcal up` makes it, or `volcal db upgrade`.")
    engine = make_engine(url)
    try:
        current = migrate.is_current(engine)
    except Exception as error:  # noqa: BLE001  (of whichever driver)
        reason = str(error).splitlines()[0]
        return Finding(good=False, said=f"{kind} does not answer: {reason}", remedy="Start it, or mend DATABASE_URL.")
    finally:
        engine.dispose()
    remedy = "Run `volcal db upgrade`."
    return Finding(good=current, said=f"{kind}, tables {'up to date' if current else 'out of date'}", remedy=remedy)


def _broker(settings: Settings) -> Finding:
    from app.queue.celery import CeleryQueue
    from app.wiring import broker_url

    url = broker_url(settings)
    kind = "a folder" if url.startswith("filesystem:") else url.partition(":")[0]
    try:
        CeleryQueue(url).check()
    except Exception as error:  # noqa: BLE001  (of whichever broker's library)
        remedy = "Start it, or mend CELERY_BROKER_URL. Meanwhile tasks wait; none is lost."
        return Finding(good=False, said=f"{kind} does not answer: {error}", remedy=remedy)
    return Finding(good=True, said=f"{kind} answers")


def _worker(settings: Settings) -> Finding:
    from app.queue.celery import CeleryQueue
    from app.wiring import broker_url

    names = CeleryQueue(broker_url(settings)).answering()
    if not names:
        return Finding(good=False, said="none answers", remedy="Start one: `volcal up`, or `volcal work`.")
    return Finding(good=True, said=f"{', '.join(names)} answers")


def _gateway(settings: Settings) -> Finding:
    url = settings.public_url.rstrip("/")
    remedy = "Start it (`volcal up`), or give its address by --url or VOLCAL_PUBLIC_URL."
    try:
        answer = httpx.get(f"{url}/readyz", timeout=5.0, follow_redirects=True)
        problems = answer.json()["problems"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        return Finding(good=False, said=f"{url} does not answer ({type(error).__name__})", remedy=remedy)
    if problems:
        return Finding(good=False, said=f"{url} is not ready: {'; '.join(problems)}", remedy="Mend what it says.")
    return Finding(good=True, said=f"{url} is ready")


def _science(_settings: Settings) -> Finding:
    # In a process of its own, as a run has it: a broken native library may take the whole process with it.
    tried = subprocess.run(
        [sys.executable, "-P", "-c", _SCIENCE], capture_output=True, text=True, timeout=300, check=False
    )
    if tried.returncode == 0:
        return Finding(good=True, said=f"imports; compiled code is kept {tried.stdout.strip()}")
    last = (tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"])[-1]
    return Finding(good=False, said=last, remedy="Install the worker's packages: pip install 'volcal-server[worker]'.")


def _open3d(_settings: Settings) -> Finding:
    there = importlib.util.find_spec("open3d") is not None
    remedy = "Only the option registration=open3d needs it: pip install 'volcal-server[open3d]'."
    return Finding(good=there, said="is installed" if there else "is not installed", remedy=remedy, fatal=False)


LOOKS: dict[str, Callable[[Settings], Finding]] = {
    "folder": _folder,
    "disk": _disk,
    "database": _database,
    "broker": _broker,
    "worker": _worker,
    "gateway": _gateway,
    "science": _science,
    "open3d": _open3d,
}
"""Every look, by the name that people see."""
