"""What this gateway's processes did: requests by route, counted in memory, or in shared files if there are several."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.observe.shared import FOLDER

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)

_registry = CollectorRegistry()
_seconds = Histogram(
    "volcal_http_request_seconds",
    "Requests by route, method and status, and how long they took",
    ("route", "method", "status"),
    buckets=_BUCKETS,
    registry=_registry,
)
_under_way = Gauge(
    "volcal_http_requests_under_way",
    "Requests that are being answered",
    registry=_registry,
    multiprocess_mode="livesum",
)
_followers = Gauge(
    "volcal_followers",
    "Connections by which clients follow tasks, by their kind",
    ("kind",),
    registry=_registry,
    multiprocess_mode="livesum",
)


@contextmanager
def following(kind: str) -> Iterator[None]:
    """Count a connection that follows a task for as long as the block lasts: ``sse`` or ``websocket``."""
    _followers.labels(kind).inc()
    try:
        yield
    finally:
        _followers.labels(kind).dec()


def begin() -> None:
    """Count a request that has come."""
    _under_way.inc()


def end(route: str, method: str, status: int, seconds: float) -> None:
    """Count a request that is over.

    Args:
        route: Its template, such as ``/query_task/{task_id}``; never the path itself, of which there is no end.
        method: Its method.
        status: Of the answer; 0 if the client went away before.
        seconds: From its first byte to the answer's last.
    """
    _under_way.dec()
    _seconds.labels(route, method if method in _METHODS else "OTHER", str(status)).observe(seconds)


def page() -> bytes:
    """Return it as Prometheus reads it, summed over the gateway's processes."""
    registry, pids = _registry, {os.getpid()}
    if (folder := os.environ.get(FOLDER)) and Path(folder).is_dir():
        for path in Path(folder).glob("gauge_live*.db"):
            if not psutil.pid_exists(_pid(path)):  # killed: what it was answering is not under way any more
                path.unlink(missing_ok=True)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        pids = {_pid(path) for path in Path(folder).glob("*.db")}
    processes = CollectorRegistry()
    processes.register(_Processes(pids))
    return generate_latest(registry) + generate_latest(processes)


def _pid(path: Path) -> int:
    return int(path.stem.rpartition("_")[2])


class _Processes(Collector):
    """The gateway's own processes: how many, how large, how busy."""

    def __init__(self, pids: set[int]) -> None:
        self._pids = pids

    def collect(self) -> list[Metric]:
        """Return the figures of those that live."""
        count, held, files = 0, 0, 0
        born = time.time()
        busy = CounterMetricFamily("volcal_gateway_cpu_seconds", "Processor time of a gateway process", labels=["pid"])
        for pid in sorted(self._pids):
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    spent = process.cpu_times()
                    held += process.memory_info().rss
                    files += process.num_fds()
                    born = min(born, process.create_time())
            except psutil.Error:
                continue
            count += 1
            busy.add_metric([str(pid)], spent.user + spent.system)
        return [
            GaugeMetricFamily("volcal_gateway_processes", "Processes of this gateway", count),
            GaugeMetricFamily("volcal_gateway_resident_bytes", "Memory that the gateway's processes hold", held),
            GaugeMetricFamily("volcal_gateway_open_files", "Files and sockets that they have open", files),
            GaugeMetricFamily("volcal_gateway_start_time_seconds", "When the oldest of them started, epoch", born),
            busy,
        ]
