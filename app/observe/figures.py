"""The service's figures out of its database, the same from whichever process: queues, leases, uploads, runs."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.context import Context
from app.db import counters, vitals
from app.db.models import Task, Upload
from app.domain.tasks import TaskState, UploadState
from app.services import janitor

PREFIX = "volcal_"
_SEEN = timedelta(hours=1)  # a worker that was not seen for so long is not spoken of
_LIVES = timedelta(seconds=60)


def page(context: Context) -> bytes:
    """Return the figures as Prometheus reads them.

    Raises:
        Exception: Whatever the database's driver raises if it does not answer.
    """
    with context.unit_of_work(read_only=True) as work:
        found = [*_gauges(work.session, datetime.now(UTC), context), *_grown(counters.totals(work.session), context)]
    registry = CollectorRegistry()
    registry.register(_Given(found))
    return generate_latest(registry)


class _Given(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Return what was given."""
        return self._metrics


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value)


def _gauges(session: Session, now: datetime, context: Context) -> Iterator[Metric]:
    yield from _tasks(session, now, context)
    yield from _uploads(session, now)
    yield from _signs(session, now)


def _tasks(session: Session, now: datetime, context: Context) -> Iterator[Metric]:
    tasks = GaugeMetricFamily(PREFIX + "tasks", "Tasks by state", labels=["state", "pipeline"])
    counted: dict[tuple[str, str], int] = {(state, name): 0 for state in TaskState for name in context.catalogue}
    for state, pipeline, count in session.execute(
        select(Task.state, Task.pipeline, func.count()).group_by(Task.state, Task.pipeline)
    ):
        counted[state, pipeline] = count
    for labels, count in sorted(counted.items()):
        tasks.add_metric(labels, count)
    yield tasks
    queued, created, lease = (
        session.execute(select(func.min(column)).where(Task.state == state, Task.deleted_at.is_(None))).scalar_one()
        for column, state in (
            (Task.queued_at, TaskState.PENDING),
            (Task.created_at, TaskState.WAITING),
            (Task.lease_until, TaskState.RUNNING),
        )
    )
    yield _gauge("oldest_pending_seconds", "How long the longest queued task has waited; 0 if none", _age(now, queued))
    yield _gauge("oldest_waiting_seconds", "Age of the oldest task that waits for files; 0 if none", _age(now, created))
    renewed = lease - timedelta(seconds=context.policy.lease_s) if lease else None
    text = "How long ago the lease was renewed that was renewed least recently; 0 if nothing runs"
    yield _gauge("oldest_lease_seconds", text, _age(now, renewed))
    yield _gauge("lease_limit_seconds", "Age at which a lease runs out", context.policy.lease_s)


def _uploads(session: Session, now: datetime) -> Iterator[Metric]:
    slots = GaugeMetricFamily(PREFIX + "upload_slots", "Uploads by state", labels=["state"])
    rows = session.execute(select(Upload.state, func.count()).group_by(Upload.state))
    counted = {str(state): 0 for state in UploadState} | {state: count for state, count in rows}  # noqa: C416
    for state, count in sorted(counted.items()):
        slots.add_metric([state], count)
    yield slots
    recent = select(func.count()).where(Upload.state == UploadState.OPEN, Upload.created_at > now - _SEEN)
    text = "Uploads that were opened within the last hour and are not finished"
    yield _gauge("uploads_opened_lately", text, session.execute(recent).scalar_one())


def _signs(session: Session, now: datetime) -> Iterator[Metric]:
    found = vitals.signs(session, since=now - _SEEN)
    workers = [sign for sign in found if sign.kind == "worker"]
    yield _gauge("workers", "Workers seen within the last minute", sum(now - s.seen_at < _LIVES for s in workers))
    seen = GaugeMetricFamily(
        PREFIX + "sign_seconds", "How long ago a worker or reaper was last seen", labels=["kind", "name", "version"]
    )
    for sign in found:
        seen.add_metric([sign.kind, sign.name, sign.version], _age(now, sign.seen_at))
    yield seen


def _age(now: datetime, then: datetime | None) -> float:
    return max(0.0, (now - then).total_seconds()) if then else 0.0


def _grown(totals: Mapping[str, Mapping[tuple[tuple[str, str], ...], float]], context: Context) -> Iterator[Metric]:
    expected = _expected(context)
    for name, counted in counters.COUNTERS.items():
        if counted.buckets:
            yield _histogram(name, counted, totals)
            continue
        family = CounterMetricFamily(PREFIX + name, counted.help, labels=counted.labels)
        values = dict.fromkeys(expected.get(name, ()), 0.0)
        values |= {_values(counted.labels, labels): value for labels, value in totals.get(name, {}).items()}
        for key, value in sorted(values.items()):
            family.add_metric(key, value)
        yield family


def _expected(context: Context) -> dict[str, list[tuple[str, ...]]]:
    """Return the labels that are told before anything was counted: from nothing to 1 is no increase to Prometheus."""
    ends = (TaskState.DONE, TaskState.ERROR, TaskState.KILLED, TaskState.PENDING)
    return {
        "tasks_created": [(name,) for name in context.catalogue],
        "task_transitions": [(name, TaskState.RUNNING, end) for name in context.catalogue for end in ends],
        "uploads": [(UploadState.FINISHED,), (UploadState.REJECTED,)],
        "upload_bytes": [()],
        "put_right": [(name,) for name in janitor.Report.__dataclass_fields__],
    }


def _histogram(
    name: str, counted: counters.Counted, totals: Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]
) -> Metric:
    """Return a histogram; a bucket in the database holds what fell into it alone."""
    family = HistogramMetricFamily(PREFIX + name, counted.help, labels=counted.labels)
    sums = totals.get(f"{name}_sum", {})
    fell: dict[tuple[str, ...], dict[str, float]] = {}
    for labels, value in totals.get(f"{name}_bucket", {}).items():
        fell.setdefault(_values(counted.labels, labels), {})[dict(labels)["le"]] = value
    for labels, total in sorted(sums.items()):
        key, reached = _values(counted.labels, labels), 0.0
        buckets: list[Any] = []
        for bound in [*map(str, counted.buckets), "+Inf"]:
            reached += fell.get(key, {}).get(bound, 0.0)
            buckets.append((bound, reached))
        family.add_metric(key, buckets, total)
    return family


def _values(names: Iterable[str], labels: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    given = dict(labels)
    return tuple(given.get(name, "") for name in names)
