"""`volcal demo`: the whole service, once, on a real pair of surveys that comes with it."""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources import as_file, files
from pathlib import Path

import click
from rich.console import Console

from app.cli.inputs import check, gather
from app.cli.journey import Journey
from app.cli.remote.options import telling
from app.cli.show import print_summary
from app.client import VolcalClient

_SAMPLE = ("pre_2015.laz", "post_2023.laz", "stable_area.shp", "stable_area.shx", "stable_area.dbf", "stable_area.prj")
_SETTINGS = (
    "DATABASE_URL",
    "CELERY_BROKER_URL",
    "CELERY_RESULT_BACKEND",
    "API_KEY",
    "API_KEYS",
    "APP_ENV",
    "LEGACY_AUTH",
    "TUS_ENDPOINT",
    "MINIO_ENDPOINT",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
)


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("volcal-demo"),
    show_default=True,
    help="Folder for the results.",
)
@telling
def demo(out: Path) -> None:
    r"""Try the whole service on real surveys of a shore in 2015 and 2023: about half a minute, no server needed.

    Starts gateway, worker and reaper in a folder of their own, uploads the surveys by tus as a phone would, waits,
    downloads the result into --out, and stops all of it again, also after Ctrl-C.

    \b
    Exit status: 0 done; 2 it cannot start (one line says why); 1 a defect; 130 stopped by Ctrl-C.
    """
    began = time.monotonic()
    say = Console(stderr=True, highlight=False, soft_wrap=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell started it deaf to Ctrl-C
        signal.signal(number, _interrupt)
    with ExitStack() as kept:
        sample = kept.enter_context(_sample())
        folder = kept.enter_context(_service_folder())
        say.print("Volcal demo: the two lidar surveys of a lake shore that come with it, 2015 and 2023.")
        say.print("1. Starting the service (gateway, worker, reaper) ...")
        url = kept.enter_context(_service(folder))
        client = kept.enter_context(VolcalClient(url, patience_s=30.0))
        journey = Journey(client)
        say.print(f"   It listens on {url}")
        say.print("2. Creating a task and uploading the surveys by tus ...")
        inputs = gather(sample / _SAMPLE[0], sample / _SAMPLE[1], sample / _SAMPLE[2])
        check(inputs)
        task = client.create(name="demo")
        journey.upload(task, inputs)
        say.print("3. Measuring what moved (the very first run also compiles its numerical kernels) ...")
        journey.wait(task.id)
        say.print(f"4. Downloading the result into {out} ...")
        fresh = folder / "results"  # beside the old result until all of the new one is there
        journey.fetch(task.id, fresh)
        document = client.results(task.id)
        _replace(out, fresh)
    print_summary(document, Console())
    for what, name in (("Report", "report.html"), ("Picture", "overview.png"), ("Numbers", "results.json")):
        click.echo(f"{what + ':':<9}{out / name}")
    say.print(f"The service is stopped again; it took {time.monotonic() - began:.0f} s. To keep one: volcal up")


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def _sample() -> Iterator[Path]:
    """Yield a folder with the sample's files, also if the package is not unpacked."""
    with ExitStack() as kept:
        found = [kept.enter_context(as_file(files("app.samples") / "ttp" / name)) for name in _SAMPLE]
        if len({path.parent for path in found}) == 1:
            yield found[0].parent
            return
        folder = Path(kept.enter_context(tempfile.TemporaryDirectory(prefix="volcal-sample-")))
        for name, path in zip(_SAMPLE, found, strict=True):
            shutil.copyfile(path, folder / name)
        yield folder


@contextmanager
def _service_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="volcal-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def _service(folder: Path) -> Iterator[str]:
    """Run the service of a fresh folder and yield its URL; whatever this machine is configured for is left alone."""
    from app.cli.keeper import Stack
    from app.settings import Settings

    for name in [name for name in os.environ if name.startswith("VOLCAL_") or name in _SETTINGS]:
        del os.environ[name]
    # said in the environment, these win over a .env file in the folder where the demo is started
    os.environ["VOLCAL_DATA_DIR"] = str(folder)
    os.environ["VOLCAL_DATABASE_URL"] = f"sqlite:///{folder / 'volcal.db'}"
    os.environ["VOLCAL_APP_ENV"] = "development"
    os.environ["VOLCAL_AUTH"] = os.environ["VOLCAL_LEGACY_AUTH"] = "open"
    os.environ["VOLCAL_BROKER_URL"] = f"filesystem://{folder / 'queue'}"
    with Stack(Settings(), port=0) as stack:
        yield stack.local_url


def _replace(out: Path, fresh: Path) -> None:
    """Put the new result in the place of an older one; anything else that is there stays."""
    if (out / "results.json").exists():
        shutil.rmtree(out / "hulls", ignore_errors=True)  # there may be fewer hulls now
    out.mkdir(parents=True, exist_ok=True)
    for source in sorted(fresh.rglob("*")):
        if source.is_file():
            target = out / source.relative_to(fresh)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
