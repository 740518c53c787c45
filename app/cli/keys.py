"""`volcal keys`: make, list, revoke and exchange keys of the API, on the database that the settings name."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click
from sqlalchemy.exc import SQLAlchemyError

from app.cli.parts import read_settings, stop_with
from app.domain.access import OWNER, Scope
from app.domain.errors import KeyNotFound, KeyOver
from app.observe import logs

if TYPE_CHECKING:
    from app.db.models import Key
    from app.db.session import UnitOfWork

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


@click.group()
def keys() -> None:
    """Make, list, revoke and exchange keys of the API; see docs/keys.md."""


@contextmanager
def _work() -> Iterator["UnitOfWork"]:
    """Yield a transaction on the service's database; ends the command with one line if it cannot be used."""
    from app.db.session import UnitOfWork, make_engine
    from app.wiring import database_url

    settings = read_settings()
    logs.set_up(level="WARNING", form=settings.log_format)
    logging.getLogger("volcal.audit").setLevel(logging.INFO)
    engine = make_engine(database_url(settings))
    try:
        with UnitOfWork(engine) as work:
            yield work
            work.commit()
    except (KeyNotFound, KeyOver) as error:
        stop_with(error.code, str(error), "`volcal keys list` shows all.")
    except SQLAlchemyError as error:
        reason = " ".join(str(error).split("\n")[0].split())
        stop_with("DATABASE", f"The database cannot be used: {reason}.", "`volcal db upgrade` makes its tables.")
    finally:
        engine.dispose()


def _span(_ctx: click.Context, _param: click.Parameter, text: str | None) -> timedelta | None:
    """Read a time span such as 90m, 12h or 90d."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,5})([mhd])", text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is not a time such as 90m, 12h or 90d")
    return int(found[1]) * _UNITS[found[2]]


def _owner(_ctx: click.Context, _param: click.Parameter, text: str) -> str:
    if OWNER.fullmatch(text) is None:
        raise click.BadParameter("an owner is up to 64 letters, digits and ._@+-, and begins with a letter or digit")
    return text


_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@keys.command()
@click.argument("name")
@click.option("--owner", required=True, callback=_owner, help="Whose tasks it sees and creates; keys may share one.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=["write"],
    show_default=True,
    type=click.Choice([str(scope) for scope in Scope]),
    help="What it is good for; write includes read, admin both. Repeatable.",
)
@click.option("--expires", callback=_span, metavar="SPAN", help="When it stops working: 12h, 90d.  [default: never]")
@click.option(
    "--rate",
    type=click.IntRange(0, 1_000_000),
    help="Requests a minute; 0 is no limit.  [default: VOLCAL_RATE_PER_KEY]",
)
@_json
def create(
    name: str, owner: str, scopes: tuple[str, ...], expires: timedelta | None, rate: int | None, as_json: bool
) -> None:
    """Make a key called NAME; it is printed now and never again."""
    from app.services import keys as service

    name = " ".join(name.split())
    if not name or len(name) > 100 or not name.isprintable():
        raise click.BadParameter("a name has 1 to 100 letters", param_hint="NAME")
    expires_at = None if expires is None else datetime.now(UTC) + expires
    with _work() as work:
        row, key = service.create(work, name=name, owner=owner, scopes=scopes, expires_at=expires_at, rate=rate)
    _show_new(row, key, as_json=as_json)


@keys.command("list")
@_json
def list_(*, as_json: bool) -> None:
    """List all keys, also revoked ones, by owner and age; the keys themselves are kept nowhere."""
    from app.services import keys as service

    with _work() as work:
        rows = service.everything(work)
    if as_json:
        click.echo(json.dumps([_plain(row) for row in rows], indent=1))
        return
    for row in rows:
        click.echo(f"{row.prefix}  {_standing(row):<19}  {row.owner}  {row.scopes.replace(' ', ',')}  {row.name}")
    if not rows:
        click.echo('There is no key. `volcal keys create "My laptop" --owner me` makes one.')


@keys.command()
@click.argument("prefix")
def revoke(prefix: str) -> None:
    """Make the key PREFIX useless, within seconds on every gateway; doing so twice is harmless."""
    from app.services import keys as service

    with _work() as work:
        row = service.revoke(work, _public(prefix))
    click.echo(f"Key {row.prefix} of {row.owner} is revoked.")


@keys.command()
@click.argument("prefix")
@click.option("--grace", callback=_span, metavar="SPAN", help="How long PREFIX goes on working.  [default: not at all]")
@_json
def rotate(prefix: str, grace: timedelta | None, as_json: bool) -> None:
    """Put a fresh key with the same rights in the place of the key PREFIX."""
    from app.services import keys as service

    with _work() as work:
        row, key = service.rotate(work, _public(prefix), grace=grace or timedelta(0))
    _show_new(row, key, as_json=as_json)


def _public(text: str) -> str:
    """Return the public part, also if somebody gave the whole key."""
    return text.removeprefix("vk_").partition("_")[0]


def _show_new(row: "Key", key: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_plain(row) | {"key": key}, indent=1))
        return
    click.echo(f"Key {row.prefix} of {row.owner} ({row.scopes.replace(' ', ', ')}). It is shown only now:", err=True)
    click.echo(key)


def _standing(row: "Key") -> str:
    if row.revoked_at is not None:
        return "revoked"
    if row.expires_at is None:
        return "valid"
    return f"{'expired' if row.expires_at <= datetime.now(UTC) else 'until'} {row.expires_at:%Y-%m-%d}"


def _plain(row: "Key") -> dict[str, object]:
    times = {
        name: None if (moment := getattr(row, name)) is None else moment.isoformat()
        for name in ("created_at", "expires_at", "revoked_at", "used_at")
    }
    about = {"prefix": row.prefix, "name": row.name, "owner": row.owner, "scopes": row.scopes.split()}
    return {**about, "rate": row.rate, **times}
