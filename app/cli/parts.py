"""The parts of the service, each on its own, as containers start them: serve, work, beat; and db, openapi."""

import json
import logging
import re
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import click
from pydantic import SecretStr, ValidationError

from app.observe import logs, tracing
from app.settings import Settings

SECRETS = (
    "POSTGRES_PASSWORD",
    "REDIS_PASSWORD",
    "MINIO_SECRET_KEY",
    "VOLCAL_HOOK_SECRET",
    "VOLCAL_SECRET_KEY",
    "FLOWER_PASSWORD",
    "GRAFANA_PASSWORD",
)
"""Every secret of the full stack, by the name that the compose file gives it."""

_ASK_DOCTOR = "`volcal doctor` says more."
_YOUNGEST = timedelta(hours=1)


def stop_with(code: str, message: str, remedy: str, *, status: int = 2) -> NoReturn:
    """Say in one line what is wrong and what to do, and end the command."""
    click.echo(f"error[{code}]: {message} {remedy}", err=True)
    sys.exit(status)


def read_settings(**overrides: Any) -> Settings:
    """Read the environment; options of the command line win. Ends the command if a setting cannot be used."""
    try:
        return Settings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(
            ": ".join(filter(None, [".".join(map(str, e["loc"])).upper(), e["msg"].removeprefix("Value error, ")]))
            for e in error.errors()
        )
        stop_with("SETTINGS", f"A setting cannot be used: {problems}.", "See docs/settings.md.")


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket; ends the command with ``PORT_IN_USE`` if somebody else listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except (OSError, OverflowError) as error:
        listening.close()
        code = "PORT_IN_USE" if "in use" in str(error) else "ADDRESS"
        remedy = "Choose another port, such as --port 8001; --port 0 finds a free one."
        stop_with(code, f"Cannot listen on {host} port {port}: {getattr(error, 'strerror', None) or error}.", remedy)
    return listening


_parent = click.option("--parent", type=int, hidden=True, help="End when this process ends.")


def _begin(settings: Settings, parent: int | None) -> None:
    logs.set_up(level=settings.log_level, form=settings.log_format, secrets=hidden(settings))
    tracing.start(f"volcal-{click.get_current_context().info_name}")
    if parent is not None:
        from pipeline.guard import follow

        follow(parent)


def hidden(settings: Settings) -> Iterator[str]:
    """Yield the values that no log may show."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif name.endswith(("_url", "_backend", "_endpoint")) and value:
            yield urlsplit(value).password or ""
    yield from (key for _, key in settings.fixed_keys())


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 means all.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on; 0 finds a free one.")
@click.option("--public-url", help="Base URL that clients use (VOLCAL_PUBLIC_URL).")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes that serve.")
@click.option("--fd", type=int, hidden=True, help="Serve on this listening socket instead.")
@_parent
def serve(host: str, port: int, public_url: str | None, workers: int, fd: int | None, parent: int | None) -> None:
    """Run the gateway alone: the HTTP API, uploads and links.

    The database must be there: run `volcal db upgrade` first. SIGTERM stops it within seconds; clients that were
    uploading resume. With --workers several processes share the socket, and one that dies is started again.
    """
    from app.observe.shared import figures_together
    from app.serving import Crew, server

    settings = read_settings(public_url=public_url)
    _begin(settings, parent)
    listening = bind(host, port) if fd is None else socket.socket(fileno=fd)
    logging.getLogger(__name__).info("listening on %s", listening.getsockname())
    if workers > 1:
        known = () if public_url is None else ("--public-url", public_url)
        with figures_together():
            sys.exit(Crew(("serve", *known), workers, listening).run())

    from app.main import create_app
    from app.wiring import build_context

    app = create_app(build_context(settings))
    server(app, trusted_proxies=settings.trusted_proxies).run(sockets=[listening])


@click.command()
@click.option(
    "--queues",
    default=None,
    help="Queues to take jobs from, with commas; all that there are by default.",
)
@click.option("--concurrency", default=1, show_default=True, type=click.IntRange(1), help="Runs at a time.")
@click.option("--name", default="volcal@%h", show_default=True, help="Of this worker; %h is the host's name.")
@_parent
def work(queues: str | None, concurrency: int, name: str, parent: int | None) -> None:
    """Run a worker alone: takes tasks and runs their pipelines, each in a capped process of its own.

    SIGTERM ends the runs under way and gives their tasks back; another worker, or this one later, takes them up.
    """
    from worker.celery_app import all_queues
    from worker.celery_app import work as take_jobs

    settings = read_settings()
    _begin(settings, parent)
    sys.exit(
        take_jobs(
            settings, queues=queues or settings.queues or ",".join(all_queues()), concurrency=concurrency, name=name
        )
    )


@click.command()
@_parent
def beat(parent: int | None) -> None:
    """Run the reaper alone: finds tasks whose worker, hook or message was lost, and puts them right.

    It also does what leads outside: tells receivers that tasks ended, and fetches files that are named by URLs.

    Once a day it also deletes what nobody needs from the store, as `volcal tidy` does. One is enough; several do no
    harm.
    """
    from app.wiring import build_context
    from worker.beat import beat as reap
    from worker.tidying import tidying

    settings = read_settings()
    _begin(settings, parent)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    context = build_context(settings)
    tidying(context, every_s=settings.tidy_interval_s, stop=stop)
    fetching = settings.data_dir.resolve() / "fetching"
    reap(context, every_s=settings.reap_interval_s, stop=stop, fetching=fetching)


@click.group()
def db() -> None:
    """Manage the database."""


@db.command()
def upgrade() -> None:
    """Bring the database to the tables that this version needs; harmless if it is there already."""
    from app.wiring import database_url

    migrate_or_exit(database_url(read_settings()))
    click.echo("The database is up to date.")


@db.command()
def current() -> None:
    """Print which revision the database has, and which one this version needs."""
    from app.db import migrate
    from app.wiring import database_url

    url = database_url(read_settings())
    with _or_exit("DATABASE", "The database does not answer", _ASK_DOCTOR):
        click.echo(f"The database has {migrate.revision(url) or 'no tables'}; this version needs {migrate.newest()}.")


@db.command()
@click.argument("revision")
def downgrade(revision: str) -> None:
    """Take the database back to REVISION, which an older version needs: stop every part, then run this with the newer.

    What only the newer version keeps is lost. `volcal db current` of the older version names the revision.
    """
    from app.db import migrate
    from app.wiring import database_url

    url = database_url(read_settings())
    with _or_exit("DATABASE", f"The database cannot be taken back to {revision}", _ASK_DOCTOR):
        migrate.downgrade(url, revision)
    click.echo(f"The database has {revision} now.")


@contextmanager
def _or_exit(code: str, what: str, remedy: str) -> Iterator[None]:
    """End the command with one line if something fails."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (of whichever driver: all mean the same to the operator)
        reason = " ".join(str(error).split("\n")[0].split()) or type(error).__name__
        stop_with(code, f"{what}: {reason}.", remedy)


@click.command()
def setup() -> None:
    """Make ready what the service needs: the database's tables, the object store's bucket; harmless if they are there.

    Run it once before the parts of the full stack start, and again after each upgrade.
    """
    from app.wiring import prepare

    settings = read_settings()
    _begin(settings, None)
    with _or_exit("SETUP", "The database or the object store cannot be made ready", _ASK_DOCTOR):
        prepare(settings)
    click.echo("The database and the object store are ready.")


def _age(_ctx: click.Context, _param: click.Parameter, text: str) -> timedelta:
    """Read a time span such as 90m, 12h or 7d."""
    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is not an age such as 90m, 12h or 7d")
    age = int(found[1]) * {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[found[2]]
    if age < _YOUNGEST:
        raise click.BadParameter("what is younger than 1h may be in the making")
    return age


@click.command()
@click.option("--older-than", default="1d", callback=_age, show_default=True, help="Leave younger objects alone.")
@click.option("--delete", is_flag=True, help="Delete what is found; else it is only counted.")
@click.option("--close", is_flag=True, help="Close uploads that cannot go on, so that their clients hear it.")
@click.option("--list", "each", is_flag=True, help="Name every object.")
@click.option("--force", is_flag=True, help="Delete even if most tasks in the store are unknown to the database.")
def tidy(older_than: timedelta, delete: bool, close: bool, each: bool, force: bool) -> None:
    """Find objects in the store that no task needs, and tasks whose objects are gone.

    Needless are: objects of tasks that are not in the database, uploads and results that do not count, uploads in
    parts that nobody goes on with. After a backup was restored, first look with --list.
    """
    from app.services import orphans
    from app.wiring import build_context

    settings = read_settings()
    _begin(settings, None)
    with _or_exit("TIDY", "The store or the database cannot be looked through", _ASK_DOCTOR):
        context = build_context(settings)
        found = orphans.survey(context, datetime.now(UTC), older_than)
    for stray in found.strays if each else ():
        click.echo(f"{stray.found.key}\t{stray.found.size}\t{stray.why}")
    for why, count in sorted(Counter(stray.why for stray in found.strays).items()):
        click.echo(f"{count} objects: {why}")
    for loss in found.losses:
        click.echo(f"gone: {loss.what} of task {loss.task_id} ({loss.state}): {loss.means}")
    if close:
        click.echo(f"{orphans.close(context, found)} uploads closed.")
    if delete:
        if found.is_strange and not force:
            stop_with(
                "TIDY",
                f"{found.unknown} of {found.tasks} tasks in the store are not in the database: one of the two is the "
                "wrong one, or old. Nothing was deleted.",
                "Check DATABASE_URL and the bucket; --force deletes all the same.",
            )
        count, size = orphans.clear(context, found)
        click.echo(f"{count} objects, {size} bytes deleted.")
    else:
        size = sum(stray.found.size for stray in found.strays)
        told = "; --delete deletes them" if found.strays else ""
        click.echo(f"{len(found.strays)} objects, {size} bytes can be deleted{told}.")


@click.group()
def objects() -> None:
    """Copy the objects of the store into a folder, and back."""


@objects.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--mirror", is_flag=True, help="Delete files in FOLDER that the store has no more.")
def save(folder: Path, mirror: bool) -> None:
    """Copy every object of the store to FOLDER; what is there already is not copied again.

    Save the database first: then every row of it finds its objects here. See docs/operations.md.
    """
    from app.services import copies
    from app.wiring import build_context

    settings = read_settings()
    _begin(settings, None)
    with _or_exit("STORAGE", "The objects cannot be saved", "Mend it, and run this again: it goes on where it was."):
        done = copies.save(build_context(settings).store, folder, mirror=mirror)
    dropped = f", {done.dropped} deleted" if mirror else ""
    click.echo(f"{done.objects} objects, {done.size} bytes saved; {done.there} were there already{dropped}.")


@objects.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def load(folder: Path) -> None:
    """Copy every file of FOLDER, which `volcal objects save` filled, into the store."""
    from app.services import copies
    from app.wiring import build_context

    settings = read_settings()
    _begin(settings, None)
    with _or_exit("STORAGE", "The objects cannot be loaded", "Mend it, and run this again: it goes on where it was."):
        done = copies.load(build_context(settings).store, folder)
    click.echo(f"{done.objects} objects, {done.size} bytes loaded; {done.there} were there already.")


@click.command()
@click.option("--callbacks", is_flag=True, help="Instead, print the secret that this service signs callbacks with.")
def secrets(*, callbacks: bool) -> None:
    r"""Print fresh secrets as lines for .env: `volcal secrets >> .env`.

    \b
    Names of the full stack's compose file. Change them on a running installation as docs/operations.md says.
    """
    from secrets import token_urlsafe

    if callbacks:
        from app.wiring import callback_secret

        known = callback_secret(read_settings())
        if known is None:
            stop_with("SETTINGS", "There is no secret to sign with.", "Set VOLCAL_SECRET_KEY or VOLCAL_WEBHOOK_SECRET.")
        click.echo(known)
        return

    for name in SECRETS:
        click.echo(f"{name}={token_urlsafe(24)}")


def migrate_or_exit(url: str) -> None:
    """Bring the database to the present tables; ends the command with ``DATABASE`` if that fails."""
    from app.db import migrate

    with _or_exit("DATABASE", "The database cannot be brought up to date", _ASK_DOCTOR):
        migrate.upgrade(url)


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write; else standard output.")
def openapi(out: Path | None) -> None:
    """Print the OpenAPI schema of the HTTP API; needs no database and no server."""
    from app.main import create_app

    text = json.dumps(create_app().openapi(), indent=1, ensure_ascii=False)
    if out is None:
        click.echo(text)
    else:
        out.write_text(text + "\n")
