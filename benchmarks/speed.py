"""Time and peak memory of `volcal run`, next to merely reading the files and to the published pipeline.

    python benchmarks/speed.py [millions of points a cloud ...]

Prints a Markdown table. Each row is a fresh process, kernels compiled beforehand; CPU seconds are the ones to
compare, because machines are shared. The published pipeline's figures were measured once, on two cores of the
same kind (registration, M3C2, hulls and volumes; its coarse search, which needs a GPU, not counted).
"""

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from scenes import SIX_CHANGES, Scene, hills

VOLCAL = Path(sys.executable).with_name("volcal")
PUBLISHED = {0.5: (74, 0.8), 1.0: (146, 1.1), 2.0: (356, 1.8)}  # CPU-s, peak GiB
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


def main() -> None:
    sizes = [float(size) for size in sys.argv[1:]] or [0.5, 1.0, 5.0]
    print("| M points a cloud | | wall s | CPU s | peak GiB | hulls | net error, % of moved | CPU against published |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for millions in sizes:
        with tempfile.TemporaryDirectory() as folder:
            scene = Scene("hills", hills(), SIX_CHANGES, density=millions * 1e6 / 130**2, seed=7)
            pre, post, shp = (str(path) for path in scene.write(Path(folder)))
            truth = sum(change.volume for change in scene.changes)
            moved = sum(abs(change.volume) for change in scene.changes)
            row(millions, "reading both with laspy + lazrs", measure(sys.executable, "-c", READ, pre, post))
            for what, extra in (("volcal run, no pictures", ["--set", "images=false"]), ("volcal run", [])):
                out = f"{folder}/out"
                cost = measure(str(VOLCAL), "run", pre, post, "--stable", shp, "--out", out, *extra)
                document = json.loads((Path(out) / "results.json").read_text())
                error = (document["totals"]["net_volume"] - truth) / moved * 100
                row(millions, what, cost, f"{len(document['hulls'])} of {len(scene.changes)}", f"{error:+.2f}")
            if millions in PUBLISHED:
                cpu, peak = PUBLISHED[millions]
                print(f"| {millions:g} | published pipeline | – | {cpu} | {peak} | 0 of 6 | −100 | 1 |")


def row(millions: float, what: str, cost: Cost, hulls: str = "", error: str = "") -> None:
    ratio = f"1 / {PUBLISHED[millions][0] / cost.cpu:.0f}" if millions in PUBLISHED and hulls else ""
    cells = (f"{millions:g}", what, f"{cost.wall:.1f}", f"{cost.cpu:.1f}", f"{cost.peak_gib:.2f}", hulls, error, ratio)
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
