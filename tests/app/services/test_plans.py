"""However many tasks there are, a page of a list and a place in the queue are read off an index."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from app.context import Context
from app.db.models import Task
from app.domain.access import Caller
from app.domain.tasks import TaskState
from app.services import queries, tasks
from tests.app.conftest import World
from tests.servers.plans import Plan, explain, fill

COUNT, LIMIT = 20_000, 51
DEEP = datetime(2026, 5, 1, 2, tzinfo=UTC), UUID(int=0)  # nine tenths of all are newer, and on pages before
pytestmark = pytest.mark.service


@pytest.fixture
def context(postgres_world: World) -> Context:
    fill(postgres_world.context.engine, COUNT)
    return replace(postgres_world.context, viewer=Caller("owner-3", "0123456789", "x", frozenset()))


CASES: list[tuple[str | None, dict[str, Any], set[str]]] = [
    ("owner-3", {}, {"ix_tasks_owner_created", "ix_tasks_created"}),
    ("owner-3", {"status": TaskState.ERROR}, {"ix_tasks_owner_state"}),
    ("owner-3", {"pipeline": "constant"}, {"ix_tasks_owner_pipeline"}),
    (None, {}, {"ix_tasks_created"}),
    (None, {"status": TaskState.ERROR}, {"ix_tasks_state_created"}),
    (None, {"pipeline": "constant"}, {"ix_tasks_created"}),
]


def test_a_page_reads_few_rows_off_an_index_at_any_depth(context: Context) -> None:
    def read(viewer: str | None, asked: dict[str, Any], before: Any) -> Plan:
        seen_by = context if viewer else context.seen_by(None)

        def ask() -> None:
            with seen_by.unit_of_work(read_only=True) as work:
                assert tasks.list_tasks(work, before=before, limit=LIMIT, **asked)

        (plan,) = explain(context.engine, ask)
        return plan

    for viewer, asked, indexes in CASES:
        first, deep = read(viewer, asked, None), read(viewer, asked, DEEP)
        for plan in (first, deep):
            assert {scan.rpartition(" ")[2] for scan in plan.scans} - {"Scan"} <= indexes, plan.said
            assert not any(scan.startswith("Seq") for scan in plan.scans), plan.said
            assert plan.read <= 12 * LIMIT, plan.said  # of 20 000
        assert deep.read <= first.read + LIMIT, deep.said


def test_a_place_in_the_queue_is_counted_within_the_index_of_those_that_wait(context: Context) -> None:
    def ask() -> None:
        with context.unit_of_work(read_only=True) as work:
            waiting = select(Task).where(Task.state == TaskState.PENDING, Task.owner == "owner-3").limit(1)
            task = work.session.execute(waiting.order_by(Task.created_at.desc())).scalar_one()
            assert queries.queue_position(work, task) == 393

    plan = explain(context.engine, ask)[-1]
    assert plan.scans == ("Index Only Scan ix_tasks_line",), plan.said
    assert plan.read == 392
