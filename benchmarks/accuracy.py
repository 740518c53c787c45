"""How right the whole method is on synthetic pairs whose truth is known: found, missed, false, volumes, intervals.

    python -m benchmarks.accuracy [--set judge] [--count 5] [--jobs 2] [--kinds yard beach] [--json verdicts.json]

Each pair goes through the same stages as `volcal run` with default options. The pairs are drawn by
``benchmarks/worlds``: ``fit`` worlds are there to choose constants by, ``judge`` worlds only to measure. Prints a
Markdown table, a row per kind as "median / worst", what was reached of the targets, and the worst cases.
The same arguments print the same.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.worlds.judge import Verdict, judge
from benchmarks.worlds.kinds import TABLES
from benchmarks.worlds.report import summary, table, worst


def verdicts_of(work: list[tuple[str, str, int]], jobs: int) -> Iterator[Verdict]:
    """Judge each (set, kind, index), in order, in as many processes as asked for."""
    if jobs == 1:
        yield from (judge(*each) for each in work)
        return
    os.environ["NUMBA_NUM_THREADS"] = "1"  # the processes share the cores
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(judge, *zip(*work, strict=True))


def without_nan(value: object) -> object:
    """JSON knows no NaN: None instead."""
    if isinstance(value, dict):
        return {key: without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold the method against synthetic pairs whose truth is known.")
    parser.add_argument("--set", choices=sorted(TABLES), default="judge")
    parser.add_argument("--count", type=int, default=5, help="worlds of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first world of each kind")
    parser.add_argument("--kinds", nargs="*", default=[], help="only these kinds, or those with this in their name")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--worst", type=int, default=12, help="how many failures of each sort to list")
    parser.add_argument("--json", type=Path, help="write every verdict here")
    asked = parser.parse_args()
    exact = [name for name in TABLES[asked.set] if name in asked.kinds]
    kinds = exact or [
        name for name in TABLES[asked.set] if not asked.kinds or any(part in name for part in asked.kinds)
    ]
    work = [(asked.set, name, index) for name in kinds for index in range(asked.first, asked.first + asked.count)]
    if not work:
        parser.error("no kind has such a name")
    found: list[Verdict] = []
    for verdict in verdicts_of(work, asked.jobs):
        found.append(verdict)
        print(f"\r{len(found)} of {len(work)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for part in (table(found), [""], summary(found), worst(found, asked.worst)):
        for line in part:
            print(line)
    if asked.json:
        asked.json.write_text(json.dumps([without_nan(verdict.document()) for verdict in found], indent=1))


if __name__ == "__main__":
    main()
