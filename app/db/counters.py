"""Numbers that only grow, kept in the database beside what they count, so that they are right with many processes.

A transaction that changes a task adds to them in the same breath: what is rolled back was never counted, and deleting
a task later takes nothing away. Each number is spread over a few rows, of which a transaction takes any one, so that
busy writers seldom wait for each other.
"""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.db.vitals import Counter

SHARDS = 8
Key = tuple[str, str]
"""Name, and labels as canonical JSON."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a counter counts.

    Args:
        help: For people.
        labels: Names of its labels, in order.
        buckets: Upper bounds, if it is a histogram.
    """

    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


_SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0)
_MIB = (64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0)

COUNTERS: Mapping[str, Counted] = {
    "tasks_created": Counted("Tasks created", ("pipeline",)),
    "task_transitions": Counted("Changes of a task's state", ("pipeline", "before", "after")),
    "task_failures": Counted("Tasks that ended in error or killed", ("pipeline", "code")),
    "uploads": Counted("Files whose last byte came, by what a first look found", ("outcome",)),
    "upload_bytes": Counted("Bytes of files whose last byte came", ()),
    "put_right": Counted("What the reaper did, in tasks", ("what",)),
    "callbacks": Counted("Attempts to tell receivers that tasks ended, by what came of them", ("outcome",)),
    "queue_seconds": Counted("How long queued tasks waited for a worker", ("pipeline",), _SECONDS),
    "run_seconds": Counted("How long runs took, fetching and storing included", ("pipeline", "outcome"), _SECONDS),
    "run_stage_seconds": Counted("How long each stage of a run took", ("pipeline", "stage"), _SECONDS),
    "run_peak_mib": Counted("Most memory that a run's processes held together, MiB", ("pipeline",), _MIB),
}
"""Every counter, by its name without ``volcal_`` and ``_total``."""


class Counts:
    """What one transaction adds."""

    def __init__(self) -> None:
        self._added: dict[Key, float] = {}

    def add(self, name: str, amount: float, labels: Mapping[str, str]) -> None:
        """Add to a counter.

        Raises:
            KeyError: If there is no such counter, or its labels are others.
        """
        if set(labels) != set(COUNTERS[name].labels):
            raise KeyError(f"{name} has the labels {COUNTERS[name].labels}")
        self._bump(name, labels, amount)

    def observe(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Add a value to a histogram."""
        bound = next((str(bound) for bound in COUNTERS[name].buckets if value <= bound), "+Inf")
        self._bump(f"{name}_bucket", {**labels, "le": bound}, 1.0)
        self._bump(f"{name}_sum", labels, value)

    def _bump(self, name: str, labels: Mapping[str, str], amount: float) -> None:
        # as text: an enum of words is a word
        key = name, json.dumps({k: str(v)[:64] for k, v in labels.items()}, sort_keys=True, separators=(",", ":"))
        self._added[key] = self._added.get(key, 0.0) + amount

    def write(self, session: Session) -> None:
        """Add it all up in the database; the last thing that a transaction does.

        The rows are locked in one order by everybody, so no two transactions wait for each other in a circle.
        """
        if not self._added:
            return
        shard = random.randrange(SHARDS)  # noqa: S311  (spreads load, guards nothing)
        rows: list[dict[str, Any]] = [
            {"name": name, "labels": labels, "shard": shard, "value": value}
            for (name, labels), value in sorted(self._added.items())
        ]
        insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        wanted = insert(Counter).values(rows)
        session.execute(
            wanted.on_conflict_do_update(
                index_elements=[Counter.name, Counter.labels, Counter.shard],
                set_={"value": Counter.value + wanted.excluded.value},
            ),
            execution_options={"synchronize_session": False},
        )
        self.clear()

    def clear(self) -> None:
        """Forget it all."""
        self._added.clear()


def totals(session: Session) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return every counter's value, by its name and then by its labels."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    rows = session.execute(
        select(Counter.name, Counter.labels, func.sum(Counter.value)).group_by(Counter.name, Counter.labels)
    )
    for name, labels, value in rows:
        found.setdefault(name, {})[tuple(json.loads(labels).items())] = value
    return found
