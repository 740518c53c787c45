"""`volcal doctor` against the full stack: each part that is killed is named, with what to do."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis
from tests.servers.stack import FullStack

pytestmark = pytest.mark.service

Found = dict[str, tuple[str, str]]
Ask = Callable[..., Found]


@pytest.fixture(scope="module")
def stack() -> Iterator[FullStack]:
    with FullStack() as found:
        yield found


# In a process of its own, as people start it; without the science, which has a test of its own and takes seconds.
_CODE = """
import sys
from app.cli import doctor, main
only, doctor.PATIENCE_S = sys.argv[1].split(","), float(sys.argv[2])
every = only == [""]
doctor.LOOKS = {name: look for name, look in doctor.LOOKS.items() if name in only or (every and name != "science")}
main(["doctor"])
"""


@pytest.fixture
def ask(stack: FullStack) -> Ask:
    """Asks the doctor; returns for each look its mark and all that it says, the remedy included."""

    def _ask(
        only: str = "", *, status: int = 0, patience_s: float = 40.0, **settings: str
    ) -> dict[str, tuple[str, str]]:
        asked = subprocess.run(
            [sys.executable, "-P", "-c", _CODE, only, str(patience_s)],
            env={**os.environ, **stack.environment, "VOLCAL_DATA_DIR": str(stack.folder / "cli"), **settings},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert asked.returncode == status, asked.stdout + asked.stderr
        found: Found = {}
        name = ""
        for line in asked.stdout.splitlines():
            if line.startswith(" "):
                found[name] = (found[name][0], f"{found[name][1]} {line.strip()}")
            else:
                mark, name, rest = line.split(None, 2)
                found[name] = (mark, rest)
        return found

    return _ask


def test_a_whole_stack_is_well(stack: FullStack, ask: Ask) -> None:
    found = ask()
    assert {name for name, (mark, _) in found.items() if mark == "MEND"} == set()
    well = {"database", "store", "uploads", "clock", "worker", "beat", "gateway"}
    assert {name: found[name] for name in well if found[name][0] != "ok"} == {}
    assert "its links work" in found["store"][1]
    assert "for nobody else" in found["uploads"][1]
    assert "keeps its messages on disk" in found["broker"][1]
    assert not [key for key in stack.objects() if "doctor" in key]  # it leaves nothing behind


def test_a_worker_and_a_reaper_that_stopped_are_missed(stack: FullStack, ask: Ask) -> None:
    for part in (stack.beat, *stack.workers):
        part.stop()
    try:
        found = ask(status=1)
        assert {name for name, (mark, _) in found.items() if mark == "MEND"} == {"worker", "beat"}
        assert "volcal work" in found["worker"][1]
        assert "volcal beat" in found["beat"][1]
        assert "no worker was seen" in found["gateway"][1]
    finally:
        for part in (stack.beat, *stack.workers):
            part.start()
    assert "MEND" not in {mark for mark, _ in ask().values()}


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
    stack: FullStack, ask: Ask, part: str, looks: set[str], said: str
) -> None:
    with stack.away(getattr(stack, part)):
        found = ask(status=1)
    sick = {name: text for name, (mark, text) in found.items() if mark == "MEND"}
    assert looks <= set(sick)
    assert said in sick[min(looks)]
    assert "not-a-secret-at-all" not in str(found)
    for other in {"folder", "disk"}:
        assert found[other][0] == "ok"


def test_a_redis_that_may_drop_messages_is_told(ask: Ask) -> None:
    careless_flags = ("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "no")
    with Redis(options=careless_flags) as careless:
        mark, said = ask("broker", CELERY_BROKER_URL=careless.url)["broker"]
    assert mark == "note"
    assert "maxmemory-policy noeviction" in said
    assert "appendonly yes" in said


def test_a_rabbitmq_is_told_how_long_it_must_wait(ask: Ask, rabbitmq: RabbitMQ) -> None:
    mark, said = ask("broker", CELERY_BROKER_URL=rabbitmq.url, VOLCAL_RUN_TIMEOUT_S="3600")["broker"]
    assert mark == "ok"
    assert "at least 7200000 ms" in said


def test_a_tusd_whose_hook_has_another_secret_is_told(ask: Ask) -> None:
    mark, said = ask("uploads", status=1, VOLCAL_HOOK_SECRET="another-secret-than-tusd-has")["uploads"]
    assert mark == "MEND"
    assert "VOLCAL_HOOK_SECRET" in said


def test_a_link_that_clients_could_not_follow_is_told(ask: Ask) -> None:
    mark, said = ask("store", VOLCAL_S3_PUBLIC_ENDPOINT="http://127.0.0.1:9")["store"]
    assert mark == "note"
    assert "a link to http://127.0.0.1:9 does not: ConnectError" in said


def test_a_database_that_hangs_does_not_hang_the_doctor(stack: FullStack, ask: Ask) -> None:
    with stack.frozen(stack.postgres):
        assert "did not answer within 1 s" in ask("database", status=1, patience_s=1.0)["database"][1]
    assert ask("database")["database"][0] == "ok"


def test_a_database_without_tables_is_told(postgres_url: str, ask: Ask) -> None:
    mark, said = ask("database", status=1, DATABASE_URL=postgres_url)["database"]
    assert mark == "MEND"
    assert "volcal setup" in said
