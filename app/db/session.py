"""The engine, and the unit of work: one transaction, and what happens once it is committed."""

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import URL, Connection, DateTime, Engine, create_engine, event, func, make_url, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from app.db.counters import Counts

BUSY_TIMEOUT_S = 30.0
# A database whose machine is gone without a word is given up after some 20 s; TCP alone would wait for hours.
# A database that was made without a locale takes text of any kind, but its driver would send it ASCII.
_TO_POSTGRESQL = {
    "client_encoding": "utf8",
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}
_READ_ONLY = "volcal_read_only"
_HOLDS = "volcal_holds_the_turn"
log = logging.getLogger(__name__)

_strict_json = partial(json.dumps, allow_nan=False, separators=(",", ":"))


def make_engine(url: str | URL, *, foreign_keys: bool = True) -> Engine:
    """Return an engine for SQLite or PostgreSQL.

    On SQLite writers take turns from the start of their transaction (``BEGIN IMMEDIATE``, waiting up to
    30 s), so none of them ever sees "database is locked" half way through; readers never wait.

    Args:
        url: SQLAlchemy URL; ``postgresql://`` without a driver means psycopg2.
        foreign_keys: Whether SQLite enforces foreign keys; off only while tables are rebuilt by a migration.

    Raises:
        ValueError: If the database is one in memory.
    """
    url = make_url(url)
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername="postgresql+psycopg2")
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url,
            pool_size=15,  # kept open; PostgreSQL takes long to open one
            max_overflow=35,  # more than the threads of a gateway, so that none waits for another's
            pool_pre_ping=True,
            connect_args=_TO_POSTGRESQL if url.get_driver_name() == "psycopg2" else {},
            json_serializer=_strict_json,
            hide_parameters=True,
        )
    if not url.database or url.database == ":memory:":
        raise ValueError("a database in memory cannot be shared by the service's processes; name a file")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        pool_size=10,
        max_overflow=90,
        connect_args={"timeout": BUSY_TIMEOUT_S},
        json_serializer=_strict_json,
        hide_parameters=True,
    )
    event.listen(engine, "connect", partial(_prepare_sqlite, foreign_keys=foreign_keys))
    turn = _Turn()
    event.listen(engine, "begin", turn.begin)
    for end in ("checkin", "invalidate"):
        event.listen(engine, end, turn.end)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any, *, foreign_keys: bool) -> None:
    # The driver's own transaction handling would begin late and break DDL: SQLAlchemy's "begin" does it.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")
    _use_wal(connection)
    connection.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")


def _use_wal(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # Switching the mode does not wait for the busy timeout when another process does the same.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


class _Turn:
    """Lets the writers of one process queue up, before SQLite makes those of several processes wait.

    SQLite's own waiting is sleeping and trying again, ever more rarely: of fifty that want to write some wait for
    seconds while others overtake them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def begin(self, connection: Connection) -> None:
        """Begin the transaction, when it is its turn."""
        if connection.get_execution_options().get(_READ_ONLY, False):
            connection.exec_driver_sql("BEGIN DEFERRED")
            return
        ours = self._lock.acquire(timeout=BUSY_TIMEOUT_S)
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except BaseException:
            if ours:
                self._lock.release()
            raise
        connection.info[_HOLDS] = ours

    def end(self, _driver: Any, record: ConnectionPoolEntry, *_reason: Any) -> None:
        """Let the next one begin: the transaction is over, and its connection back in the pool."""
        if record.info.pop(_HOLDS, False):
            self._lock.release()


class UnitOfWork:
    """One transaction: committed as a whole by ``commit``, else rolled back.

    What must happen outside the database because of it (ringing a doorbell) is given to ``after_commit``
    and never happens on a rollback.

    Args:
        engine: Where to.
        read_only: Promise to change nothing; such a unit never makes a writer wait.
        owner: Whose tasks there are in it; None is everybody's.
    """

    session: Session

    def __init__(self, engine: Engine, *, read_only: bool = False, owner: str | None = None) -> None:
        self.owner = owner
        self._engine = engine.execution_options(**{_READ_ONLY: True}) if read_only else engine
        self._read_only = read_only
        self._callbacks: list[Callable[[], object]] = []
        self._counts = Counts()

    def __enter__(self) -> Self:
        self.session = Session(self._engine, expire_on_commit=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._callbacks.clear()
        self._counts.clear()
        self.session.close()

    def now(self) -> datetime:
        """Return the present, UTC, by the one clock that all share: the database's. SQLite's is this machine's."""
        if self._engine.dialect.name == "sqlite":
            return datetime.now(UTC)
        return self.session.execute(select(func.clock_timestamp(type_=DateTime(timezone=True)))).scalar_one()

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once the transaction is committed; a failure of it is logged, not raised."""
        self._callbacks.append(callback)

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter of ``app.db.counters``, if and when the transaction is committed."""
        self._counts.add(name, amount, labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add a value to a histogram of ``app.db.counters``, if and when the transaction is committed."""
        self._counts.observe(name, value, labels)

    def commit(self) -> None:
        """Make it so, then ring the doorbells.

        Raises:
            RuntimeError: If the unit promised to change nothing.
        """
        if self._read_only:
            raise RuntimeError("this unit of work is read-only")
        self._counts.write(self.session)
        self.session.commit()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                # The row is committed and true; the janitor rings again.
                log.exception("a callback after commit failed")
