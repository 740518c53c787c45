"""`volcal up`: the whole service in one command, on this machine, with no server beside it."""

import signal
import sys
from pathlib import Path

import click

from app.cli.keeper import Stack
from app.cli.parts import read_settings


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for phones as well."
)
@click.option("--port", default=8000, show_default=True, help="Port to listen on; 0 finds a free one.")
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), help="Folder for all data.  [default: var]")
@click.option("--public-url", help="Base URL that clients use, if a proxy or another name is in front.")
@click.option("--concurrency", default=1, show_default=True, type=click.IntRange(1), help="Runs at a time.")
def up(host: str, port: int, data: Path | None, public_url: str | None, concurrency: int) -> None:
    r"""Start the whole service: gateway, worker and reaper, with SQLite and local files.

    Nothing else needs to be installed or configured. With --host 0.0.0.0 it prints the address that a phone on the
    same network can use, and its QR code. Ctrl-C stops all of it within seconds; runs under way are taken up again
    at the next start.

    \b
    Exit status: 0 stopped by Ctrl-C or SIGTERM; 2 it cannot start (one line says why); 1 a part failed to start.
    """
    calls = _Calls()
    settings = read_settings(data_dir=data)
    if public_url is None and "public_url" in settings.model_fields_set:
        public_url = settings.public_url
    stack = Stack(settings, host=host, port=port, public_url=public_url, concurrency=concurrency)
    try:
        with stack:
            calls.ready = True
            _greet(stack)
            stack.watch(lambda: calls.count > 0, lambda line: click.echo(line, err=True))
            click.echo("Stopping.")
            stack.close(hurry=lambda: calls.count > 1)
    except KeyboardInterrupt:  # while starting
        sys.exit(130)


class _Calls:
    """Counts how often somebody asked to stop; until all has started, the first call is an interrupt."""

    def __init__(self) -> None:
        self.count = 0
        self.ready = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._more)

    def _more(self, _number: int, _frame: object) -> None:
        self.count += 1
        if not self.ready:
            raise KeyboardInterrupt


def _greet(stack: Stack) -> None:
    lines = [
        "Volcal is running.",
        f"  API docs   {stack.url}/docs",
        f"  data       {stack.data}",
        f"  logs       {stack.logs}  ({', '.join(part.name for part in stack.parts)})",
    ]
    click.echo("\n".join(lines))
    if stack.url != stack.local_url and not stack.url.startswith(("http://127.", "http://localhost")):
        click.echo(f"  phones     {stack.url}\n")
        click.echo(_qr(stack.url))
    for problem in stack.problems():
        click.echo(f"Not ready: {problem}.", err=True)
    click.echo("Ctrl-C stops all of it.")


def _qr(text: str) -> str:
    import io

    import segno

    drawn = io.StringIO()
    segno.make(text, error="m").terminal(drawn, compact=True)
    return drawn.getvalue()
