"""One worker against two on surveys in tiles: wall time of the task, and whether the results are the same.

    python -m benchmarks.spread [--rounds N] [--folder DIR] [millions of points a cloud ...]

Each worker is pinned to a core of its own, so that two of them have what one has twice. Both ways take turns, with the
same inputs in the same store, a local folder. On a machine that others use as well, the CPU time of the worker that
leads says more than the wall time: it is what two idle cores would take, but for the moments in which the lead waits.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import psutil

from app.context import Context
from app.db import vitals
from app.db.models import Task, Upload
from app.domain.tasks import TaskState, UploadState
from app.settings import Settings
from app.wiring import build_context, prepare
from benchmarks.scale import large, write

PATIENCE_S = 3600.0
VARYING = ("timings", "peak_memory_mb", "parameters")
FILES = {"pre": "pre.laz", "post": "post.laz", "shp": "stable.shp", "shx": "stable.shx"}


@dataclass(frozen=True)
class Cost:
    """What one task took: wall time from the bell to the result, and the CPU time of each worker's runs, seconds."""

    wall: float
    cpu: list[float]
    stages: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description="What a second worker is worth.")
    parser.add_argument("sizes", type=float, nargs="*", default=[20.0], help="millions of points a cloud")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the pairs are kept")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("this takes two cores")
    print(
        "| M points a cloud | workers | wall s | CPU s of each | reading, ground, registering, detecting, drawing s |"
    )
    print("| --- " * 5 + "|")
    with tempfile.TemporaryDirectory() as scratch:
        for millions in options.sizes:
            folder = (options.folder or Path(scratch)) / f"{millions:g}"
            if not (folder / "stable.shp").exists():
                write(large(millions), folder)
            compare(millions, folder, Path(scratch) / uuid4().hex, cores, options.rounds)


def compare(millions: float, folder: Path, data: Path, cores: list[int], rounds: int) -> None:
    """Measure one size in turns; print what each took, and the ratio of the medians of neighbours in time."""
    environment = {**os.environ, "VOLCAL_DATA_DIR": str(data)}
    settings = Settings(data_dir=data)
    prepare(settings)
    context = build_context(settings)
    files = {label: f"tasks/{uuid4()}/in/{label}" for label in FILES}
    for label, key in files.items():
        context.store.put(key, folder / FILES[label])
    ratios, busy, documents = [], [], []
    for _ in range(rounds):
        costs = []
        for workers in (1, 2):
            with ExitStack() as stack:
                pids = [
                    stack.enter_context(_worker(context, environment, core, helpers=workers - 1))
                    for core in cores[:workers]
                ]
                cost, document = _run(context, files, pids)
            costs.append(cost)
            documents.append({name: value for name, value in document.items() if name not in VARYING})
            stages = ", ".join(f"{cost.stages.get(name, 0):.0f}" for name in _STAGES)
            cpu = " + ".join(f"{seconds:.0f}" for seconds in cost.cpu)
            print(f"| {millions:g} | {workers} | {cost.wall:.1f} | {cpu} | {stages} |", flush=True)
        ratios.append(costs[0].wall / costs[1].wall)
        busy.append(max(costs[0].cpu) / max(costs[1].cpu))
    same = "the same to the last digit" if all(each == documents[0] for each in documents) else "NOT THE SAME"
    print(f"\n{millions:g} M: two workers are {median(ratios):.2f} × as fast as one "
          f"(from {min(ratios):.2f} to {max(ratios):.2f} in {rounds} rounds), by the busier one's CPU time "
          f"{median(busy):.2f} × ({min(busy):.2f} to {max(busy):.2f}); all results are {same}.\n")  # fmt: skip
    context.engine.dispose()


_STAGES = ("reading", "selecting ground", "registering", "detecting change", "drawing")


@contextmanager
def _worker(context: Context, environment: dict[str, str], core: int, helpers: int) -> Iterator[int]:
    """Run a worker on one core; yield its process id once it listens."""
    name = f"w{core}-{uuid4().hex[:6]}@bench"
    settings = {"VOLCAL_HELPERS": str(helpers), "VOLCAL_LOG_LEVEL": "ERROR"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "app.cli", "work", "--name", name],
        env={**environment, **settings},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    try:
        while not _lives(context, name):
            if process.poll() is not None:
                raise SystemExit("a worker has ended")
            time.sleep(0.2)
        time.sleep(3.0)  # from its sign of life to its first look at the queue
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _lives(context: Context, name: str) -> bool:
    with context.unit_of_work(read_only=True) as work:
        return any(
            sign.name == name for sign in vitals.signs(work.session, since=datetime.now(UTC) - timedelta(minutes=5))
        )


def _run(context: Context, files: dict[str, str], pids: list[int]) -> tuple[Cost, dict[str, Any]]:
    before = [_cpu(pid) for pid in pids]
    task_id, now, begun = uuid4(), datetime.now(UTC), time.perf_counter()
    uploads = [
        Upload(id=uuid4().hex, task_id=task_id, label=label, key=key, filename=FILES[label],
               state=UploadState.FINISHED, created_at=now)
        for label, key in files.items()
    ]  # fmt: skip
    task = Task(id=task_id, pipeline="volume_change", options={"images": False, "tile_points": 1_000_000},
                state=TaskState.PENDING, created_at=now, queued_at=now, uploads=uploads)  # fmt: skip
    with context.unit_of_work() as work:
        work.session.add(task)
        work.after_commit(lambda: context.queue.submit(task_id))
        work.commit()
    document = _awaited(context, task_id)
    wall = time.perf_counter() - begun
    time.sleep(1.0)  # the runs' processes are counted once they have been waited for
    cpu = [_cpu(pid) - earlier for pid, earlier in zip(pids, before, strict=True)]
    return Cost(wall, cpu, document["timings"]), document


def _awaited(context: Context, task_id: UUID) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with context.unit_of_work(read_only=True) as work:
            task = work.session.get(Task, task_id)
            assert task is not None
            if task.state is TaskState.DONE:
                assert task.document is not None
                return task.document
            if task.state.is_settled:
                raise SystemExit(f"the task ended {task.state}: {task.error}")
        time.sleep(0.1)
    raise SystemExit("the task did not end")


def _cpu(pid: int) -> float:
    """CPU time of the runs of a worker, ended ones included, seconds; what watches them is not counted."""
    total = 0.0
    for pool in psutil.Process(pid).children():
        times = pool.cpu_times()
        total += times.children_user + times.children_system
        for run in pool.children(recursive=True):
            try:
                times = run.cpu_times()
            except psutil.Error:
                continue
            total += times.user + times.system
    return total


if __name__ == "__main__":
    main()
