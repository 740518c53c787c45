"""Bring a database to the present tables, and say whether it is there."""

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

import migrations
from app.db.session import make_engine

_LOCK = 0x766F6C63  # any number that only this product uses


def config() -> Config:
    """Return Alembic's configuration; the migrations lie beside the code in a checkout and in the wheel."""
    found = Config()
    found.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    return found


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at ``url`` to ``revision``, in one transaction.

    Processes that start at the same time take turns; the later ones find nothing to do.
    """
    _migrate(url, revision, down=False)


def downgrade(url: str, revision: str) -> None:
    """Take the database at ``url`` back to ``revision``, in one transaction."""
    _migrate(url, revision, down=True)


def _migrate(url: str, revision: str, *, down: bool) -> None:
    # Rebuilding a table on SQLite drops the old one: with foreign keys on, that would empty its children.
    engine = make_engine(url, foreign_keys=False)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            settings = config()
            settings.attributes["connection"] = connection
            (command.downgrade if down else command.upgrade)(settings, revision)
    finally:
        engine.dispose()


@cache
def _heads() -> frozenset[str]:
    return frozenset(ScriptDirectory.from_config(config()).get_heads())


def newest() -> str:
    """Return the revision that this version needs."""
    return ", ".join(sorted(_heads()))


def revision(url: str) -> str:
    """Return the revision that the database at ``url`` has; empty if it has no tables."""
    engine = make_engine(url)
    try:
        with engine.connect() as connection:
            return ", ".join(sorted(MigrationContext.configure(connection).get_current_heads()))
    finally:
        engine.dispose()


def is_current(engine: Engine) -> bool:
    """Return whether the database has the present tables."""
    with engine.connect() as connection:
        return frozenset(MigrationContext.configure(connection).get_current_heads()) == _heads()
