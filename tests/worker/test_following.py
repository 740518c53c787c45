"""What a run tells of itself reaches whoever follows its task, and no more of it than is good."""

import random
from typing import Any
from uuid import UUID

import pytest

from app.db.models import LogLine
from app.services import runs
from app.services.following import logbook
from worker.runner import run_task
from worker.runs.journal import HEAD_BYTES, TAIL_BYTES, Journal
from worker.runs.lines import Lines
from worker.runs.supervisor import EndKind, _Supervision


def log_of(bench: Any, task_id: UUID) -> list[LogLine]:
    with bench.context.unit_of_work(read_only=True) as work:
        return logbook.read(work, task_id)


@pytest.mark.service
def test_a_log_tells_the_run_from_its_stages_to_its_end(bench: Any) -> None:
    task_id = bench.pending(fail="defect")
    assert run_task(bench.context, task_id, bench.here) is EndKind.FAILED
    lines = log_of(bench, task_id)
    assert [line.number for line in lines] == list(range(len(lines)))
    told = [(line.level, line.stage, line.message) for line in lines]
    assert told[0] == ("info", "", "A worker has taken it.")
    for stage in ("fetching", "starting", "working"):
        assert ("info", stage, "begins") in told
        assert any(level == "info" and name == stage and said.startswith("took ") for level, name, said in told)
    assert ("output", "working", "ZeroDivisionError: a defect, as asked") in told
    assert told[-1][0] == "error"
    assert told[-1][2].endswith("[INTERNAL]")
    everything = "\n".join(line.message for line in lines)
    assert str(bench.root) not in everything
    assert 'File "pipeline/testing/run.py"' in everything


@pytest.mark.service
def test_megabytes_that_a_run_writes_are_a_few_kilobytes_of_log(bench: Any) -> None:
    task_id = bench.pending(fail="noise")
    assert run_task(bench.context, task_id, bench.here) is EndKind.DONE
    lines = log_of(bench, task_id)
    written = [line for line in lines if line.level == "output"]
    assert sum(len(line.message.encode()) for line in written) <= HEAD_BYTES + TAIL_BYTES
    assert any("lines that it wrote are left out here" in line.message for line in lines)
    assert lines[-1].message == "Done."


def test_the_first_and_the_last_of_what_a_run_writes_are_kept_in_order() -> None:
    journal = Journal(1)
    for number in range(5000):
        journal.feed(f"line {number}\r\n".encode())
    journal.feed(b"the end, without a line's end")
    journal.close()
    with journal.handing_over() as lines:
        messages = [line.message for line in lines]
    left_out = next(i for i, message in enumerate(messages) if "left out" in message)
    assert messages[:left_out] == [f"line {number}" for number in range(200)]
    assert messages[-1] == "the end, without a line's end"
    assert messages[left_out + 1 : -1] == [f"line {number}" for number in range(4801, 5000)]
    assert messages[left_out] == f"{4801 - 200:,} lines that it wrote are left out here."


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("opened /srv/volcal/scratch/7/in/pre.laz", "opened …/pre.laz"),
        ("see https://example.com/a/b and a/b", "see https://example.com/a/b and a/b"),
        ("postgresql://volcal:hush@db/volcal", "postgresql://volcal:***@db/volcal"),
        ("vk_3f9a1c07be_" + "x" * 43, "vk_3f9a1c07be_***"),
    ],
)
def test_neither_secrets_nor_folders_are_told(said: str, told: str) -> None:
    assert Journal(1).clean(said) == told


def test_lines_that_could_not_be_written_wait_for_the_next_time() -> None:
    journal = Journal(1)
    journal.say("one")
    with pytest.raises(OSError, match="away"), journal.handing_over():
        raise OSError("away")
    journal.say("two")
    with journal.handing_over() as lines:
        assert [line.message for line in lines] == ["one", "two"]
    with journal.handing_over() as lines:
        assert lines == []


HOSTILE = [
    "0.5", "-1", "7", "NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400, "true", "null",
    '"x"', "0.2", "[]", "1e-9",
]  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_progress_never_falls_within_an_attempt_whatever_the_run_says(bench: Any, seed: int) -> None:
    rng = random.Random(seed)
    supervision = object.__new__(_Supervision)  # its ear alone: no process
    supervision._progress, supervision._on_stage = (0.0, ""), str
    hear = Lines(supervision._hear)
    task_id = bench.pending()
    with bench.context.unit_of_work() as work:
        lease = runs.acquire(work, task_id, worker="w", now=work.now(), lease_s=60)
        assert lease is not None
        work.commit()
    seen = [0.0]
    for _ in range(30):
        fraction = rng.choice([*HOSTILE, str(rng.random())])
        stage = rng.choice(['"reading"', '"a\\u0000b"', '"\\ud800"', "7"])
        hear.feed(f'{{"event": "progress", "fraction": {fraction}, "stage": {stage}}}\n'.encode())
        told, doing = supervision._progress
        assert 0 <= told <= 1
        with bench.context.unit_of_work() as work:
            told = rng.choice([told, rng.uniform(-1, 2), float("nan")])  # nor whatever a worker makes of it
            runs.heartbeat(work, lease, progress=told, stage=doing, now=work.now(), lease_s=60)
            work.commit()
        seen.append(bench.task(task_id).progress)
    assert seen == sorted(seen)
    assert 0 <= seen[-1] <= 1
