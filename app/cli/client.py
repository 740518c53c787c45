"""`volcal submit`, `status`, `cancel`, `fetch`: the command line as a client of a server somewhere."""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from app.cli.inputs import check, find
from app.cli.journey import Journey
from app.cli.remote.following import tell
from app.cli.remote.options import (
    EXIT_STATUS,
    INTERRUPTED,
    json_option,
    key_option,
    patience_option,
    server_option,
    telling,
)
from app.cli.show import print_summary
from app.client import Refused, TaskFailed, TaskStatus, TransferFailed, VolcalClient
from app.client.memory import Memory, fingerprint, state_folder
from app.client.models import UploadState
from pipeline.errors import InputInvalid


@click.command(epilog=EXIT_STATUS)
@click.argument("pre")
@click.argument("post")
@click.argument("stable")
@click.option("--input", "more", multiple=True, metavar="LABEL=FILE", help="A further file or URL, or another one.")
@server_option
@key_option
@patience_option
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Wait, and download all files here.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="An option of the pipeline; repeatable.")
@click.option("--name", default="", help="A name for people, such as 'Quarry, week 14'.")
@click.option("--new", is_flag=True, help="Start afresh, also if these files were being uploaded before.")
@json_option
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


@click.command(epilog=EXIT_STATUS)
@click.argument("task_id", metavar="ID")
@server_option
@key_option
@patience_option
@json_option
@click.option("--follow", is_flag=True, help="Go on telling until it has ended, a line for each news.")
@telling
def status(task_id: str, server: str, key: str | None, patience: float, as_json: bool, follow: bool) -> None:
    """Say how far task ID is, what it waits for, or why it failed."""
    with VolcalClient(server, key=key, patience_s=patience) as client:
        if follow:
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


@click.command(epilog=EXIT_STATUS)
@click.argument("task_id", metavar="ID")
@server_option
@key_option
@patience_option
@json_option
@telling
def cancel(task_id: str, server: str, key: str | None, patience: float, as_json: bool) -> None:
    """Stop task ID; a run ends within seconds."""
    with VolcalClient(server, key=key, patience_s=patience) as client:
        task = client.cancel(task_id)
    if as_json:
        click.echo(task.model_dump_json(indent=1))
    else:
        click.echo(f"Task {task.id} is {'cancelled' if task.status == 'killed' else 'being stopped'}.")


@click.command(epilog=EXIT_STATUS)
@click.argument("task_id", metavar="ID")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the files.  [default: volcal-ID]",
)
@server_option
@key_option
@patience_option
@json_option
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
