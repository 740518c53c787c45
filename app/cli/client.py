"""`volcal submit`, `status`, `cancel`, `fetch`: the command line as a client of a server somewhere."""

import functools
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import click
from rich.console import Console

from app.cli.inputs import check, find
from app.cli.journey import Journey
from app.cli.show import print_summary
from app.client import ClientError, Refused, TaskFailed, TaskStatus, TransferFailed, Unreachable, VolcalClient
from app.client.memory import Memory, fingerprint, state_folder
from app.client.models import UploadState
from pipeline.errors import InputInvalid, PipelineError

P = ParamSpec("P")
R = TypeVar("R")

OK, DEFECT, UNUSABLE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
_DEFECTS = {"INTERNAL", "LOST"}
_EXIT = """
    \b
    Exit status: 0 done; 2 the input cannot be used or the server refused (one line says why);
    3 the server does not answer; 1 a defect; 130 stopped by Ctrl-C.
"""


def fail(code: str, message: str, status: int) -> NoReturn:
    """Say what is wrong in one line, and end the command."""
    click.echo(f"error[{code}]: {' '.join(message.split())}", err=True)
    sys.exit(status)


def status_of(error: ClientError) -> int:
    """Return the exit status that tells an error."""
    if isinstance(error, Unreachable):
        return UNREACHABLE
    if isinstance(error, TaskFailed):
        return DEFECT if error.code in _DEFECTS else UNUSABLE
    return DEFECT if isinstance(error, Refused) and error.status >= 500 else UNUSABLE


def telling(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a command raises into one line and an exit status."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ClientError as error:
            fail(error.code, f"{error.message} {error.remedy}", status_of(error))
        except PipelineError as error:
            fail(error.code, f"{error.message} {error.remedy}", UNUSABLE)
        except OSError as error:
            fail("STORAGE", f"{error.strerror or error}: {error.filename or ''}.", UNUSABLE)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            sys.exit(INTERRUPTED)

    return run


_server = click.option(
    "--server",
    envvar="VOLCAL_SERVER",
    default="http://127.0.0.1:8000",
    show_default=True,
    show_envvar=True,
    help="The server's base URL.",
)
_key = click.option(
    "--key",
    "--token",
    "key",
    envvar=["VOLCAL_API_KEY", "VOLCAL_TOKEN"],
    show_envvar=True,
    help="Your key, if the server asks for one.",
)
_patience = click.option(
    "--patience",
    default=120.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds that the server, or the line to it, may be away at a stretch.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, and no progress.")


@click.command(epilog=_EXIT)
@click.argument("pre")
@click.argument("post")
@click.argument("stable")
@click.option("--input", "more", multiple=True, metavar="LABEL=FILE", help="A further file or URL, or another one.")
@_server
@_key
@_patience
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Wait, and download all files here.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the pipeline; repeatable.")
@click.option("--name", default="", help="A name for people, such as 'Quarry, week 14'.")
@click.option("--new", is_flag=True, help="Start afresh, also if these files were being uploaded before.")
@_json
@telling
def submit(
    pre: str,
    post: str,
    stable: str,
    more: tuple[str, ...],
    server: str,
    key: str | None,
    patience: float,
    wait: bool,
    out: Path | None,
    settings: tuple[str, ...],
    name: str,
    new: bool,
    as_json: bool,
) -> None:
    r"""Upload two surveys PRE and POST and a shapefile STABLE of ground that did not move, and start a task.

    PRE and POST are LAS, LAZ, COPC, PLY or XYZ files; the .shx of STABLE, and its .dbf and .prj if they are there,
    are found beside it. All files are looked at before the first byte is sent. An upload that was interrupted goes
    on where it stopped when the same command is given again.

    Each of them may be a URL (https, http, or s3 where the server allows it), which the server fetches; the .shx of a
    STABLE that is one is supposed beside it, unless --input shx=URL says where it is.
    """
    found = find(pre, post, stable, more)
    files = found.files
    check(files)
    options = parse_settings(settings)
    print_ = fingerprint(server, files, {**options, "inputs": found.urls} if found.urls else options)
    memory = Memory(state_folder())
    with VolcalClient(server, key=key, patience_s=patience) as client:
        journey = Journey(client, quiet=as_json)
        task = None if new else _begun(client, memory, print_)
        if task is None:
            task = client.create(options=options, name=name, inputs=found.urls)
            memory.keep(print_, task.id)
            journey.note(f"Task {task.id}")
        else:
            journey.note(f"Task {task.id}, continued")
        try:
            journey.upload(task, files)
        except KeyboardInterrupt:
            again = shlex.join(["volcal", *sys.argv[1:]])
            click.echo(f"\nStopped; what arrived is kept. The same command goes on from there: {again}", err=True)
            sys.exit(INTERRUPTED)
        except (TaskFailed, TransferFailed):
            memory.forget(print_)
            raise
        memory.forget(print_)
        if wait or out is not None:
            _finish(client, journey, task.id, out, as_json=as_json)
        elif as_json:
            click.echo(client.task(task.id).model_dump_json(indent=1))
        else:
            hosts = ", ".join(found.hosts)
            journey.note(f"The server fetches from {hosts}." if hosts else "All files are there.")
            journey.note(f"`volcal status {task.id}` tells how far it is,")
            journey.note(f"`volcal fetch {task.id} --out DIR` waits for the result and downloads it.")


def _begun(client: VolcalClient, memory: Memory, print_: str) -> TaskStatus | None:
    """Return the task that an earlier, interrupted command began with the same files, if it still can go on."""
    task_id = memory.recall(print_)
    if task_id is None:
        return None
    try:
        task = client.task(task_id)
    except Refused:
        task = None
    if task is not None and task.status not in {"error", "killed"}:
        return task
    memory.forget(print_)
    return None


def _finish(client: VolcalClient, journey: Journey, task_id: str, out: Path | None, *, as_json: bool) -> None:
    try:
        journey.wait(task_id)
        if out is not None:
            journey.fetch(task_id, out)
    except KeyboardInterrupt:
        click.echo(
            f"\nStopped waiting; the task goes on. `volcal fetch {task_id} --out DIR` gets the result, "
            f"`volcal cancel {task_id}` stops it.",
            err=True,
        )
        sys.exit(INTERRUPTED)
    show_result(client.results(task_id), out, as_json=as_json)


def show_result(document: Mapping[str, Any], out: Path | None, *, as_json: bool = False) -> None:
    """Print a result document, as a table where it has hulls."""
    if as_json or "hulls" not in document:
        click.echo(json.dumps(document, indent=1, allow_nan=False))
        return
    print_summary(document, Console())
    if out is not None:
        for name in ("report.html", "overview.png"):
            if (out / name).is_file():
                click.echo(f"{name.partition('.')[0].capitalize()}: {out / name}")


@click.command(epilog=_EXIT)
@click.argument("task_id", metavar="ID")
@_server
@_key
@_patience
@_json
@click.option("--follow", is_flag=True, help="Go on telling until it has ended, a line for each news.")
@telling
def status(task_id: str, server: str, key: str | None, patience: float, as_json: bool, follow: bool) -> None:
    """Say how far task ID is, what it waits for, or why it failed."""
    with VolcalClient(server, key=key, patience_s=patience) as client:
        if follow:
            from app.cli.following import tell

            tell(client, task_id, as_json=as_json)
            return
        task = client.task(task_id)
    if as_json:
        click.echo(task.model_dump_json(indent=1))
        return
    click.echo(f"{task.id}: {task.status}{f', {task.stage}' if task.stage else ''} ({task.progress:.0%})")
    if task.queue_position:
        click.echo(f"  in the queue: number {task.queue_position}")
    for label, upload in task.uploads.items():
        whole = upload.length if upload.size is None else upload.size
        size = f" of {whole:,}" if whole is not None else ""
        here = "?" if upload.offset is None else f"{upload.offset:,}"
        click.echo(f"  {label}: {upload.state}, {here}{size} bytes {upload.filename}{_source(upload)}".rstrip())
    if task.error is not None:
        error = TaskFailed(task.status, task.error)
        click.echo(f"  error[{error.code}]: {error.message} {error.remedy}")


def _source(upload: UploadState) -> str:
    return f" from {upload.source}" if upload.source else ""


@click.command(epilog=_EXIT)
@click.argument("task_id", metavar="ID")
@_server
@_key
@_patience
@_json
@telling
def cancel(task_id: str, server: str, key: str | None, patience: float, as_json: bool) -> None:
    """Stop task ID; a run ends within seconds."""
    with VolcalClient(server, key=key, patience_s=patience) as client:
        task = client.cancel(task_id)
    if as_json:
        click.echo(task.model_dump_json(indent=1))
    else:
        click.echo(f"Task {task.id} is {'cancelled' if task.status == 'killed' else 'being stopped'}.")


@click.command(epilog=_EXIT)
@click.argument("task_id", metavar="ID")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the files.  [default: volcal-ID]",
)
@_server
@_key
@_patience
@_json
@telling
def fetch(task_id: str, out: Path | None, server: str, key: str | None, patience: float, as_json: bool) -> None:
    """Wait for the result of task ID and download its files; those that are there already are not sent again."""
    folder = out or Path(f"volcal-{task_id[:8]}")
    with VolcalClient(server, key=key, patience_s=patience) as client:
        _finish(client, Journey(client, quiet=as_json), task_id, folder, as_json=as_json)


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """Return the options in KEY=VALUE words; numbers and true, false, null are read as JSON has them.

    Raises:
        InputInvalid: If a word has another form.

    >>> parse_settings(("cell=0.5", "ground=all"))
    {'cell': 0.5, 'ground': 'all'}
    """
    options: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise InputInvalid(f"--set {setting} is not KEY=VALUE.", remedy="Write it as in --set cell=0.5.")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options
