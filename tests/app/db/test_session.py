import logging
import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError, StatementError

from app.db import session
from app.db.migrate import upgrade
from app.db.models import Task, Upload
from app.db.session import UnitOfWork, make_engine
from app.domain.tasks import TaskState
from tests.servers.postgres import Postgres


def a_task(**values: Any) -> Task:
    defaults = {"pipeline": "constant", "options": {}, "state": TaskState.WAITING, "created_at": datetime.now(UTC)}
    return Task(id=uuid4(), **{**defaults, **values})


def test_what_is_not_committed_did_not_happen(any_world: Any) -> None:
    rung: list[str] = []
    with any_world.context.unit_of_work() as work:
        work.session.add(task := a_task())
        work.after_commit(lambda: rung.append("bell"))
        work.session.flush()
    with any_world.context.unit_of_work(read_only=True) as work:
        assert work.session.get(Task, task.id) is None
    assert rung == []


def test_a_failure_before_the_commit_rings_no_bell(any_world: Any) -> None:
    rung: list[str] = []

    def fail() -> None:
        with any_world.context.unit_of_work() as work:
            work.session.add(a_task())
            work.after_commit(lambda: rung.append("bell"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert rung == []


def test_bells_ring_once_and_only_after_the_commit(any_world: Any) -> None:
    seen: list[object] = []
    with any_world.context.unit_of_work() as work:
        work.session.add(task := a_task())

        def look() -> None:
            with any_world.context.unit_of_work(read_only=True) as other:
                seen.append(other.session.get(Task, task.id))

        work.after_commit(look)
        work.commit()
        work.commit()
    assert [found.id for found in seen if isinstance(found, Task)] == [task.id]


def test_a_broken_bell_is_logged_and_harms_nothing(any_world: Any, caplog: pytest.LogCaptureFixture) -> None:
    rung: list[str] = []

    def broken() -> None:
        raise ConnectionError("no broker")

    with caplog.at_level(logging.ERROR), any_world.context.unit_of_work() as work:
        work.session.add(task := a_task())
        work.after_commit(broken)
        work.after_commit(lambda: rung.append("bell"))
        work.commit()
    assert any_world.task(task.id).state is TaskState.WAITING
    assert rung == ["bell"]
    assert "callback after commit failed" in caplog.text


def test_a_reader_cannot_commit(any_world: Any) -> None:
    with any_world.context.unit_of_work(read_only=True) as work, pytest.raises(RuntimeError, match="read-only"):
        work.commit()


def test_instants_come_back_in_utc_whatever_zone_they_came_from(any_world: Any) -> None:
    tokyo = datetime(2026, 3, 1, 9, 30, 0, 123456, tzinfo=timezone(timedelta(hours=9)))
    with any_world.context.unit_of_work() as work:
        work.session.add(task := a_task(created_at=tokyo))
        work.commit()
    found = any_world.task(task.id).created_at
    assert found == datetime(2026, 3, 1, 0, 30, 0, 123456, tzinfo=UTC)
    assert found.utcoffset() == timedelta(0)


def test_an_instant_without_a_zone_is_refused(any_world: Any) -> None:
    with any_world.context.unit_of_work() as work:
        work.session.add(a_task(created_at=datetime(2026, 3, 1)))  # noqa: DTZ001
        with pytest.raises(StatementError, match="no time zone"):
            work.commit()


def test_no_error_is_null_in_the_database_not_a_json_null(any_world: Any) -> None:
    with any_world.context.unit_of_work() as work:
        work.session.add(task := a_task(error=None))
        work.commit()
        found = work.session.execute(select(Task.id).where(Task.error.is_(None))).scalars()
        assert list(found) == [task.id]


def test_json_that_no_client_could_read_is_not_stored(any_world: Any) -> None:
    with any_world.context.unit_of_work() as work:
        work.session.add(a_task(document={"net": float("nan")}))
        with pytest.raises(StatementError, match="not JSON compliant"):
            work.commit()


def test_an_upload_belongs_to_a_task(any_world: Any) -> None:
    upload = Upload(id="u", task_id=uuid4(), label="pre", key="k", state="open", created_at=datetime.now(UTC))
    with any_world.context.unit_of_work() as work:
        work.session.add(upload)
        with pytest.raises(IntegrityError):
            work.commit()


def test_the_uploads_of_a_deleted_task_go_with_it(any_world: Any) -> None:
    with any_world.context.unit_of_work() as work:
        task = a_task()
        task.uploads.append(Upload(id="u", label="pre", key="k", state="open", created_at=datetime.now(UTC)))
        work.session.add(task)
        work.commit()
    with any_world.context.unit_of_work() as work:
        work.session.delete(work.session.get(Task, task.id))
        work.commit()
        assert work.session.get(Upload, "u") is None


def test_many_writers_and_readers_never_see_a_locked_database(any_world: Any, together: Any) -> None:
    with any_world.context.unit_of_work() as work:
        work.session.add(task := a_task())
        work.commit()

    def count() -> None:
        for _ in range(15):
            with any_world.context.unit_of_work() as work:
                # read, then write: the upgrade of a lock that SQLite refuses when transactions begin late
                query = select(Task).where(Task.id == task.id).with_for_update()
                seen = work.session.execute(query).scalar_one().attempts
                work.session.execute(update(Task).where(Task.id == task.id).values(attempts=seen + 1))
                work.commit()

    together([count] * 8)
    assert any_world.task(task.id).attempts == 8 * 15


def test_a_reader_does_not_wait_for_a_writer(world: Any) -> None:
    with world.context.unit_of_work() as writer:
        writer.session.add(a_task())
        writer.session.flush()
        with world.context.unit_of_work(read_only=True) as reader:
            assert reader.session.execute(select(Task)).all() == []


def test_sqlite_writes_ahead_and_minds_foreign_keys(tmp_path: Path) -> None:
    engine = make_engine(f"sqlite:///{tmp_path / 'deep' / 'er' / 'x.db'}")
    with UnitOfWork(engine) as work:
        pragmas = [work.session.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "foreign_keys")]
    engine.dispose()
    assert pragmas == ["wal", 1]


class Reluctant:
    """A connection on which another process holds the lock for a while."""

    def __init__(self, *failures: str) -> None:
        self.failures = list(failures)
        self.said: list[str] = []

    def execute(self, statement: str) -> None:
        self.said.append(statement)
        if self.failures:
            raise sqlite3.OperationalError(self.failures.pop(0))


def test_switching_to_write_ahead_waits_for_whoever_does_the_same() -> None:
    session._use_wal(reluctant := Reluctant("database is locked", "database is locked"))  # type: ignore[arg-type]
    assert len(reluctant.said) == 3


def test_switching_to_write_ahead_fails_at_once_for_other_reasons() -> None:
    with pytest.raises(sqlite3.OperationalError, match="disk I/O"):
        session._use_wal(Reluctant("disk I/O error"))  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="in memory cannot be shared"):
        make_engine(url)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_the_usual_names_of_postgresql_are_understood(scheme: str) -> None:
    assert make_engine(f"{scheme}://user:word@db/volcal").dialect.driver == "psycopg2"


@pytest.mark.service
def test_a_database_that_was_made_without_a_locale_takes_any_text(postgres_server: Postgres) -> None:
    with postgres_server.database("ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'") as url:
        upgrade(url)
        engine = make_engine(url)
        with UnitOfWork(engine) as work:
            work.session.add(task := a_task(name="Kiesgrube Süd, −0.41 m"))
            work.commit()
        with UnitOfWork(engine) as work:
            found = work.session.get(Task, task.id)
            assert found is not None
            assert found.name == "Kiesgrube Süd, −0.41 m"
        engine.dispose()
