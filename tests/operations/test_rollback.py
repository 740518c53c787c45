"""An operator takes the database back to what an older version needs, and forward again: what is kept?"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.db.migrate import newest
from app.db.models import Task, Upload
from app.db.session import UnitOfWork, make_engine
from app.domain.tasks import TaskState, UploadState

Volcal = Callable[..., Result]
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
DOCUMENT = {"answer": 42, "nested": {"a": [1, 2.5, None, "é"]}}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.service)])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url: str = (
        f"sqlite:///{tmp_path / 'volcal.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    )
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("VOLCAL_DATA_DIR", str(tmp_path))
    return url


@pytest.fixture
def volcal(url: str) -> Volcal:
    return lambda *words: CliRunner().invoke(main, list(words))


def fill(url: str) -> None:
    done = Task(
        id=uuid4(),
        pipeline="constant",
        name="Kiesgrube Süd",
        options={"seconds": 1.5},
        state=TaskState.DONE,
        fence=2,
        document=DOCUMENT,
        artifacts=[{"name": "a.png", "key": "tasks/1/out/2/a.png", "media_type": "image/png", "title": "", "size": 3}],
        created_at=NOW,
        finished_at=NOW,
    )
    done.uploads.append(
        Upload(
            id="u1", handle="key+multipart", label="file", key="key", state=UploadState.FINISHED, size=5, created_at=NOW
        )
    )
    engine = make_engine(url)
    with UnitOfWork(engine) as work:
        work.session.add(done)
        work.commit()
    engine.dispose()


def look(url: str) -> tuple[Task, Upload]:
    engine = make_engine(url)
    with UnitOfWork(engine, read_only=True) as work:
        [task] = work.session.query(Task).all()
        [upload] = task.uploads
    engine.dispose()
    return task, upload


@pytest.mark.parametrize("revision", ["0003", "0002", "0001"])
def test_results_survive_the_way_back_and_forth(url: str, volcal: Volcal, revision: str) -> None:
    assert volcal("db", "upgrade").exit_code == 0
    fill(url)
    assert volcal("db", "downgrade", revision).output == f"The database has {revision} now.\n"
    assert volcal("db", "current").output == f"The database has {revision}; this version needs {newest()}.\n"
    assert volcal("setup").exit_code == 0
    task, upload = look(url)
    assert (task.state, task.name, task.fence, task.finished_at) == (TaskState.DONE, "Kiesgrube Süd", 2, NOW)
    assert task.document == DOCUMENT
    assert task.artifacts is not None
    assert task.artifacts[0]["key"] == "tasks/1/out/2/a.png"
    assert (upload.key, upload.size, upload.state) == ("key", 5, UploadState.FINISHED)
    # 0001 knows nothing of tusd: uploads that were under way are begun anew.
    assert upload.handle == ("u1" if revision == "0001" else "key+multipart")


def test_before_any_migration_the_database_says_so(volcal: Volcal) -> None:
    assert volcal("db", "current").output == f"The database has no tables; this version needs {newest()}.\n"


def test_a_revision_that_does_not_exist_is_one_line_and_changes_nothing(url: str, volcal: Volcal) -> None:
    volcal("db", "upgrade")
    fill(url)
    failed = volcal("db", "downgrade", "9999")
    assert failed.exit_code == 2
    assert failed.stderr.startswith("error[DATABASE]: The database cannot be taken back to 9999: ")
    assert len(failed.stderr.splitlines()) == 1
    assert look(url)[0].document == DOCUMENT


def test_a_database_that_is_away_is_one_line(volcal: Volcal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:secret-word@127.0.0.1:9/none")
    for words in (["db", "current"], ["db", "downgrade", "0001"], ["db", "upgrade"]):
        failed = volcal(*words)
        assert failed.exit_code == 2
        assert failed.stderr.startswith("error[DATABASE]: ")
        assert len(failed.stderr.splitlines()) == 1
        assert "secret-word" not in failed.stderr
