"""`volcal run`: the volume change of two files on this machine, no server."""

import json
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from app.cli.inputs import gather
from app.cli.show import print_summary
from app.domain.errors import OptionsInvalid
from pipeline.contracts import Report, Run
from pipeline.errors import Defect, PipelineError, StorageFull
from pipeline.registry import CATALOGUE

UNUSABLE, DEFECT = 2, 1


@click.command()
@click.argument("pre", type=click.Path(path_type=Path))
@click.argument("post", type=click.Path(path_type=Path))
@click.option("--stable", required=True, type=click.Path(path_type=Path), help="Shapefile of ground that did not move.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the pipeline; repeatable.")
@click.option("--seed", default=0, show_default=True, help="Makes every random choice repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print the result document on standard output.")
@click.option("--debug", is_flag=True, help="Show the full trace of a failure.")
def run(
    pre: Path, post: Path, stable: Path, out: Path, settings: tuple[str, ...], seed: int, as_json: bool, debug: bool
) -> None:
    r"""Measure the volume change from survey PRE to survey POST.

    PRE and POST are LAS, LAZ, COPC, PLY or XYZ files. Writes results.json, pictures, report.html, report.pdf,
    hulls.geojson, hulls.gpkg, difference.tif and changed_points.laz into the --out folder.

    \b
    Exit status: 0 done; 2 the input cannot be used (one line says why); 1 a defect of the software.
    Options for --set: cell, registration, ground, min_score, …; docs/pipelines.md has them all.
    """
    try:
        params = _params(settings)
        with _result_folder(out) as folder, _progress(quiet=as_json) as report:
            outcome = CATALOGUE.load("volume_change")(
                Run(inputs=gather(pre, post, stable), outdir=folder, seed=seed, report=report), params
            )
    except OptionsInvalid as error:
        _fail(error.code, str(error))
    except PipelineError as error:
        if debug:
            traceback.print_exc()
        _fail(error.code, f"{error.message} {error.remedy}", DEFECT if isinstance(error, Defect) else UNUSABLE)
    except OSError as error:
        _fail(StorageFull.code, f"{error.strerror}: {error.filename or out}. Free space or choose another --out.")
    except Exception as error:  # noqa: BLE001  (the last door: whatever it is becomes one line)
        if debug:
            traceback.print_exc()
        what = f"{type(error).__name__}: {error}."
        _fail(Defect.code, f"{what} This is a defect; please report it with the output of --debug.", DEFECT)
    if as_json:
        click.echo(json.dumps(outcome.document, indent=1, allow_nan=False))
    else:
        print_summary(outcome.document, Console())
        drawn = any(artifact.name == "report.html" for artifact in outcome.artifacts)
        click.echo(f"Results: {out / 'report.html' if drawn else out}")


def _fail(code: str, message: str, status: int = UNUSABLE) -> NoReturn:
    click.echo(f"error[{code}]: {' '.join(message.split())}", err=True)
    sys.exit(status)


def _params(settings: tuple[str, ...]) -> Any:
    model = CATALOGUE["volume_change"].params
    values: dict[str, str] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or key not in model.model_fields:
            known = ", ".join(model.model_fields)
            raise OptionsInvalid([{"field": f"--set {setting}", "message": f"give KEY=VALUE with a key of: {known}"}])
        values[key] = value
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [{"field": ".".join(map(str, e["loc"])), "message": e["msg"]} for e in error.errors()]
        raise OptionsInvalid(problems) from None


@contextmanager
def _result_folder(out: Path) -> Iterator[Path]:
    """Yield a fresh folder that takes the place of ``out`` once all went well; nothing half-done is left."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "results.json").exists())):
        raise StorageFull(
            f"{out} exists and holds something other than results.", remedy="Choose another folder for --out."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield folder
        if out.exists():
            shutil.rmtree(out)
        folder.chmod(0o755)
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Report]:
    """Yield a progress function: a bar on a terminal, silence elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<20}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("starting", total=1.0)
        yield lambda fraction, stage: bar.update(task, completed=fraction, description=stage)
