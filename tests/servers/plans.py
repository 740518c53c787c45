"""How does PostgreSQL find what a piece of code asks for? And a table of tasks that is large enough to tell."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event, text

OWNERS = 10
PIPELINES = ("volume_change", "constant", "relay")

_FILL = """
INSERT INTO tasks (id, owner, pipeline, name, options, state, step, queue, stage, progress, attempts, fence, worker,
                   cancel_requested, created_at, queued_at, document)
SELECT md5(n::text)::uuid, 'owner-' || n % :owners,
       (ARRAY['volume_change', 'volume_change', 'constant', 'relay'])[1 + n / 10 % 4],
       'Survey ' || n, '{"min_score": 0.5}',
       CASE WHEN n % 1000 < 20 THEN 'pending' WHEN n % 1000 < 40 THEN 'error' ELSE 'done' END,
       0, '', '', 1.0, 1, 1, '', false,
       timestamptz '2026-05-01' + n * interval '7 seconds', timestamptz '2026-05-01' + n * interval '7 seconds',
       CASE WHEN n % 1000 >= 40 THEN json_build_object('hulls', json_build_array(repeat('x', 2000))) END
FROM generate_series(1, :count) AS n
"""


def fill(engine: Engine, count: int) -> None:
    """Add so many tasks of ``OWNERS`` owners, one in fifty pending, one in fifty failed, each with a result of 2 kB."""
    with engine.begin() as connection:
        connection.execute(text(_FILL), {"count": count, "owners": OWNERS})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE tasks"))


@dataclass(frozen=True)
class Plan:
    """What PostgreSQL did for one statement.

    Args:
        said: As ``EXPLAIN (ANALYZE, BUFFERS)`` prints it.
        scans: How tables were read, each with its index if it has one.
        read: Rows that were read from tables and indexes, those included that a filter threw away.
    """

    said: str
    scans: tuple[str, ...]
    read: int


def explain(engine: Engine, ask: Callable[[], object]) -> list[Plan]:
    """Do something, and say how each of its SELECTs was answered."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: bool) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        ask()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return [_plan(engine, statement, given) for statement, given in asked if statement.lstrip().startswith("SELECT")]


def _plan(engine: Engine, statement: str, parameters: Any) -> Plan:
    with engine.connect() as connection:
        told = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters
        ).scalar_one()
        lines = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS) {statement}", parameters).scalars()
        scans = [node for node in _nodes(told[0]["Plan"]) if "Scan" in node["Node Type"]]
        return Plan(
            said="\n".join(lines),
            scans=tuple(" ".join(filter(None, [node["Node Type"], node.get("Index Name")])) for node in scans),
            read=sum(
                round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
                for node in scans
            ),
        )


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from _nodes(below)
