"""`volcal doctor` against the full stack: each part that is killed is named, with what to do."""

from collections.abc import Iterator

import pytest

from tests.servers.base import wait_for
from tests.servers.postgres import Postgres
from tests.servers.redis import Redis
from tests.servers.stack import FullStack

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def stack() -> Iterator[FullStack]:
    with FullStack() as found:
        yield found


def findings(said: str) -> dict[str, tuple[str, str]]:
    """Return for each look its mark and all that it says, the remedy included."""
    found: dict[str, tuple[str, str]] = {}
    name = ""
    for line in said.splitlines():
        if line.startswith(" "):
            found[name] = (found[name][0], f"{found[name][1]} {line.strip()}")
        else:
            mark, name, rest = line.split(None, 2)
            found[name] = (mark, rest)
    return found


def test_a_whole_stack_is_well(stack: FullStack) -> None:
    found = findings(stack.volcal("doctor"))
    assert {name for name, (mark, _) in found.items() if mark == "MEND"} == set()
    well = {"database", "store", "uploads", "clock", "worker", "beat", "gateway"}
    assert {name: found[name] for name in well if found[name][0] != "ok"} == {}
    assert "its links work" in found["store"][1]
    assert "for nobody else" in found["uploads"][1]
    assert "keeps its messages on disk" in found["broker"][1]
    assert not [key for key in stack.objects() if "doctor" in key]  # it leaves nothing behind


@pytest.mark.parametrize(
    ("part", "looks", "said"),
    [
        ("postgres", {"database"}, "mend DATABASE_URL"),
        ("minio", {"store"}, "mend MINIO_ENDPOINT"),
        ("tusd", {"uploads"}, "mend TUS_ENDPOINT"),
        ("broker", {"broker"}, "mend CELERY_BROKER_URL"),
        ("gateway", {"gateway", "uploads"}, "VOLCAL_PUBLIC_URL"),
    ],
)
def test_a_part_that_is_killed_is_named_with_its_remedy(
    stack: FullStack, part: str, looks: set[str], said: str
) -> None:
    with stack.away(getattr(stack, part)):
        found = findings(stack.volcal("doctor", status=1))
    sick = {name: text for name, (mark, text) in found.items() if mark == "MEND"}
    assert looks <= set(sick)
    assert said in sick[min(looks)]
    assert "not-a-secret-at-all" not in str(found)
    for other in {"folder", "disk"}:
        assert found[other][0] == "ok"


def test_a_worker_and_a_reaper_that_stopped_are_missed(stack: FullStack) -> None:
    for part in (stack.beat, *stack.workers):
        part.stop()
    try:
        found = findings(stack.volcal("doctor", status=1))
        assert {name for name, (mark, _) in found.items() if mark == "MEND"} == {"worker", "beat"}
        assert "volcal work" in found["worker"][1]
        assert "volcal beat" in found["beat"][1]
        assert "no worker was seen" in found["gateway"][1]
    finally:
        for part in (stack.beat, *stack.workers):
            part.start()
    wait_for(lambda: "MEND" not in stack.volcal("doctor"), "the stack to be well again")


def test_a_redis_that_may_drop_messages_is_told() -> None:
    from app.cli.doctor import LOOKS
    from app.settings import Settings

    careless_flags = ("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "no")
    with Redis(options=careless_flags) as careless:
        found = LOOKS["broker"](Settings(broker_url=careless.url))
        assert found is not None
        assert not found.good
        assert not found.fatal
        assert "maxmemory-policy noeviction" in found.remedy
        assert "appendonly yes" in found.remedy


def test_a_tusd_without_its_hook_is_told(stack: FullStack) -> None:
    wrong = stack.environment | {"VOLCAL_HOOK_SECRET": "another-secret-than-tusd-has"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in wrong.items():
            patch.setenv(name, value)
        from app.cli.doctor import LOOKS
        from app.settings import Settings

        found = LOOKS["uploads"](Settings())
    assert found is not None
    assert not found.good
    assert "VOLCAL_HOOK_SECRET" in found.remedy


def test_a_database_that_hangs_does_not_hang_the_doctor(
    stack: FullStack, postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from app.cli import doctor, main

    with postgres_server.database() as url, stack.frozen(stack.postgres):
        for name, value in {**stack.environment, "VOLCAL_DATA_DIR": str(stack.folder / "cli")}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(doctor, "LOOKS", {"database": doctor.LOOKS["database"]})
        monkeypatch.setattr(doctor, "PATIENCE_S", 1.0)
        asked = CliRunner().invoke(main, ["doctor"])
        assert asked.exit_code == 1
        assert "did not answer within 1 s" in asked.output
        monkeypatch.setenv("DATABASE_URL", url)
        assert "out of date" in CliRunner().invoke(main, ["doctor"]).output
