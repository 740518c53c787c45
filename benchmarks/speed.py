"""Time and peak memory of `volcal run`, next to merely reading the files and to the published pipeline.

    python -m benchmarks.speed [--rounds N] [millions of points a cloud ...]

Prints two Markdown tables: what each run costs, and where its wall time goes. Each command is a fresh process,
kernels compiled beforehand. Machines are shared: reading and both runs take turns, each figure is the median of
the rounds, and ratios are between neighbours in time. The published pipeline's figures were measured once, on two
cores of the same kind (registration, M3C2, hulls and volumes; its coarse search, which needs a GPU, not counted).
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.scenes import SIX_CHANGES, Scene, hills

VOLCAL = Path(sys.executable).with_name("volcal")
PUBLISHED = {0.5: (74, 0.8), 1.0: (146, 1.1), 2.0: (356, 1.8)}  # CPU-s, peak GiB
RUNS = {"volcal run, no pictures": ["--set", "images=false"], "volcal run": []}
STAGES = ("reading", "selecting ground", "registering", "detecting change", "pictures", "files")
READ = "import sys, laspy\nfor p in sys.argv[1:]: laspy.read(p).xyz"


@dataclass
class Cost:
    wall: float
    cpu: float
    peak_gib: float


def measure(*command: str) -> Cost:
    """Run a command; its wall time, CPU time and peak resident memory."""
    start = perf_counter()
    pid = os.posix_spawn(
        command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    )
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return Cost(perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


@dataclass
class Result:
    """What a run found, and the seconds of its stages."""

    hulls: str
    error: float
    stages: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description="What a run costs.")
    parser.add_argument("sizes", type=float, nargs="*", default=[0.5, 1.0, 5.0], help="millions of points a cloud")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(
        "| M points a cloud | | wall s | CPU s | peak GiB | hulls | net error, % of moved | wall, CPU against reading "
        "| CPU against published |\n" + "| --- " * 9 + "|"
    )
    stages = []
    for millions in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            stages += compare(millions, Path(folder), options.rounds)
        if millions in PUBLISHED:
            cpu, peak = PUBLISHED[millions]
            print(f"| {millions:g} | published pipeline | – | {cpu} | {peak} | 0 of 6 | −100 | | 1 |")
    print("\n| M points a cloud | | start, end |", *(f"{stage} |" for stage in STAGES))
    print("| --- " * (len(STAGES) + 3) + "|")
    print("\n".join(stages))


def compare(millions: float, folder: Path, rounds: int) -> list[str]:
    """Measure one size in turns and print its rows; return those of the stages."""
    scene = Scene("hills", hills(), SIX_CHANGES, density=millions * 1e6 / 130**2, seed=7)
    files = [str(path) for path in scene.write(folder)]
    reading: list[Cost] = []
    costs: dict[str, list[Cost]] = {what: [] for what in RUNS}
    results: dict[str, list[Result]] = {what: [] for what in RUNS}
    for _ in range(rounds):
        reading.append(measure(sys.executable, "-c", READ, *files[:2]))
        for what, extra in RUNS.items():
            out = folder / "out"
            costs[what].append(measure(str(VOLCAL), "run", *files[:2], "--stable", files[2], "--out", str(out), *extra))
            results[what].append(found(scene, out))
    row(millions, "reading both with laspy + lazrs", reading, "", "", "1, 1")
    for what in RUNS:
        result = results[what][0]
        row(millions, what, costs[what], result.hulls, f"{result.error:+.2f}", against(costs[what], reading))
    return [stage_row(millions, what, costs[what], results[what]) for what in RUNS]


def found(scene: Scene, out: Path) -> Result:
    document = json.loads((out / "results.json").read_text())
    truth = sum(change.volume for change in scene.changes)
    moved = sum(abs(change.volume) for change in scene.changes)
    error = (document["totals"]["net_volume"] - truth) / moved * 100
    return Result(f"{len(document['hulls'])} of {len(scene.changes)}", error, document["timings"])


def against(costs: list[Cost], reading: list[Cost]) -> str:
    """Return how many times as long as reading a run took, wall and CPU: the median over the rounds."""
    wall = median(cost.wall / read.wall for cost, read in zip(costs, reading, strict=True))
    cpu = median(cost.cpu / read.cpu for cost, read in zip(costs, reading, strict=True))
    return f"{wall:.1f}, {cpu:.1f}"


def row(millions: float, what: str, costs: list[Cost], hulls: str, error: str, ratio: str) -> None:
    wall, cpu, peak = (median(getattr(cost, name) for cost in costs) for name in ("wall", "cpu", "peak_gib"))
    published = f"1 / {PUBLISHED[millions][0] / cpu:.0f}" if millions in PUBLISHED and hulls else ""
    cells = (f"{millions:g}", what, f"{wall:.1f}", f"{cpu:.1f}", f"{peak:.2f}", hulls, error, ratio, published)
    print(f"| {' | '.join(cells)} |", flush=True)


def stage_row(millions: float, what: str, costs: list[Cost], results: list[Result]) -> str:
    seconds = [median(result.stages.get(stage, 0.0) for result in results) for stage in STAGES]
    rest = median(
        cost.wall - sum(result.stages.get(stage, 0.0) for stage in STAGES)
        for cost, result in zip(costs, results, strict=True)
    )
    cells = (f"{millions:g}", what, *(f"{value:.2f}" if value else "" for value in (rest, *seconds)))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
