from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from app.db.migrate import config, downgrade, is_current, upgrade
from app.db.models import Base, Task, Upload
from app.db.session import UnitOfWork, make_engine
from app.domain.tasks import TaskState


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new folder' / 'volcal.db'}"
    found: str = request.getfixturevalue("postgres_url")
    return found


def fill(url: str) -> None:
    engine = make_engine(url)
    now = datetime.now(UTC)
    with UnitOfWork(engine) as work:
        task = Task(id=uuid4(), pipeline="constant", options={"a": 1}, state=TaskState.WAITING, created_at=now)
        task.uploads.append(Upload(id="u1", label="file", key="k", state="open", created_at=now))
        work.session.add(task)
        work.commit()
    engine.dispose()


def test_the_migrated_tables_are_the_models_tables(url: str) -> None:
    upgrade(url)
    engine = make_engine(url)
    with engine.connect() as connection:
        migration = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(migration, Base.metadata) == []
    engine.dispose()


def test_each_step_goes_up_and_down_and_up_again_with_data(url: str) -> None:
    revisions = [script.revision for script in ScriptDirectory.from_config(config()).walk_revisions("base", "head")]
    upgrade(url)
    fill(url)
    for revision in revisions[1:]:
        downgrade(url, revision)
    upgrade(url)
    engine = make_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM uploads")).scalar() == 1
    engine.dispose()
    downgrade(url, "base")
    upgrade(url)
    engine = make_engine(url)
    assert is_current(engine)
    engine.dispose()


def test_a_database_without_tables_is_not_current(url: str) -> None:
    engine = make_engine(url)
    assert not is_current(engine)
    engine.dispose()


def test_processes_that_start_together_migrate_once(url: str, together: Any) -> None:
    together([lambda: upgrade(url)] * 6)
    engine = make_engine(url)
    assert is_current(engine)
    engine.dispose()


def test_a_migration_that_fails_half_way_leaves_the_database_as_it_was(url: str, monkeypatch: Any) -> None:
    import app.db.migrate as migrate

    def half(settings: Any, revision: str) -> None:
        real(settings, revision)
        raise RuntimeError("power cut")

    real = migrate.command.upgrade
    monkeypatch.setattr(migrate.command, "upgrade", half)
    with pytest.raises(RuntimeError, match="power cut"):
        upgrade(url)
    engine = make_engine(url)
    assert not is_current(engine)
    engine.dispose()
