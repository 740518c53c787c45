from typing import Any
from uuid import UUID, uuid4

import pytest

from app.db.models import LogLine, Task
from app.domain.tasks import TaskState
from app.services import tasks
from app.services.following import logbook
from app.services.following.logbook import MOST_BYTES, MOST_LINES, OVERHEAD, Line
from tests.app.conftest import NOW


def write(world: Any, task_id: UUID, *messages: str) -> bool:
    with world.context.unit_of_work() as work:
        done = logbook.write(work, task_id, [Line(NOW, message) for message in messages])
        work.commit()
        return done


def read(world: Any, task_id: UUID, first: int = 0) -> list[LogLine]:
    with world.context.unit_of_work(read_only=True) as work:
        return logbook.read(work, task_id, first=first)


def test_lines_of_many_who_write_at_once_are_numbered_without_gaps(any_world: Any, together: Any) -> None:
    task_id = any_world.add()
    together([lambda i=i: write(any_world, task_id, f"{i} a", f"{i} b") for i in range(8)])
    lines = read(any_world, task_id)
    assert [line.number for line in lines] == list(range(16))
    pairs = [(first.message[0], second.message[0]) for first, second in zip(lines[::2], lines[1::2], strict=True)]
    assert all(first == second for first, second in pairs)  # those of one transaction are together
    assert any_world.task(task_id).log_lines == 16


def test_the_newest_lines_stay_where_there_are_too_many(any_world: Any) -> None:
    task_id = any_world.add()
    write(any_world, task_id, *(str(i) for i in range(MOST_LINES)))
    assert len(read(any_world, task_id)) == MOST_LINES
    write(any_world, task_id, "one more", "and one")
    lines = read(any_world, task_id)
    assert [lines[0].number, lines[-1].number, len(lines)] == [2, MOST_LINES + 1, MOST_LINES]


def test_the_newest_bytes_stay_where_there_are_too_many(world: Any) -> None:
    task_id = world.add()
    for _ in range(4):
        write(world, task_id, *("x" * 1936 for _ in range(60)))  # 2000 bytes each
    lines = read(world, task_id)
    assert sum(len(line.message) + OVERHEAD for line in lines) <= MOST_BYTES  # and one more would be too many
    assert len(lines) == MOST_BYTES // 2000
    assert lines[-1].number == 239


@pytest.mark.parametrize("message", ["a\x00b", "half \ud800 of one", "\x1b[2J\x07", "ö" * 5000, ""])
def test_any_text_can_be_written(any_world: Any, message: str) -> None:
    task_id = any_world.add()
    assert write(any_world, task_id, message)
    (line,) = read(any_world, task_id)
    assert len(line.message) <= logbook.LONGEST
    assert line.message.isprintable()


def test_what_is_rolled_back_was_never_written(world: Any) -> None:
    task_id = world.add()
    with world.context.unit_of_work() as work:
        logbook.note(work, task_id, NOW, "no")
    write(world, task_id, "yes")
    assert [(line.number, line.message) for line in read(world, task_id)] == [(0, "yes")]


def test_a_line_for_a_task_that_is_not_so_is_not_written(world: Any) -> None:
    assert not write(world, uuid4(), "nobody's")
    task_id = world.add(TaskState.RUNNING)
    with world.context.unit_of_work() as work:
        assert not logbook.write(work, task_id, [Line(NOW, "late")], Task.fence == 7)
        work.commit()
    assert read(world, task_id) == []


def test_a_log_goes_with_its_task(any_world: Any) -> None:
    task_id = any_world.add(TaskState.DONE)
    write(any_world, task_id, "here")
    tasks.delete_task(any_world.context, task_id)
    assert read(any_world, task_id) == []
