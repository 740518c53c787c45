"""How does the service feel to each of many clients? Latencies, throughput and memory while 100 upload and poll.

``python benchmarks/load.py [--clients 100] [--seconds 60] [--kib 1024] [--only embedded|stack]``: first the embedded
service with its own upload endpoint, then the full stack (PostgreSQL, Redis, MinIO, tusd, nginx), on loopback, each
under the same clients, which run on the same cores. A client creates a task, sends its file in two pieces, polls
until the task is done, and begins again. It stops by itself.
"""

import argparse
import asyncio
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from app.cli.keeper import Stack
from app.settings import Settings
from tests.servers.stack import SETTLED, FullStack

TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
POLL_S = 1.0


@dataclass
class Measured:
    """Seconds of each kind of request, bytes sent, errors, and the gateway's memory over time (MiB)."""

    times: dict[str, list[float]] = field(default_factory=dict)
    sent: int = 0
    tasks: int = 0
    errors: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    seconds: float = 0.0


async def ask(
    http: httpx.AsyncClient, found: Measured, kind: str, method: str, url: str, **more: object
) -> httpx.Response:
    """Send one request and note how long it took."""
    began = time.perf_counter()
    answer = await http.request(method, url, **more)  # type: ignore[arg-type]
    found.times.setdefault(kind, []).append(time.perf_counter() - began)
    answer.raise_for_status()
    return answer


async def client(base: str, content: bytes, until: float, found: Measured) -> None:
    """Be one client until it is time."""
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        while time.perf_counter() < until:
            try:
                await one_task(http, base, content, until, found)
            except httpx.HTTPError as error:
                found.errors.append(f"{type(error).__name__}: {error}"[:200])
                await asyncio.sleep(POLL_S)


async def one_task(http: httpx.AsyncClient, base: str, content: bytes, until: float, found: Measured) -> None:
    """Create, upload, poll."""
    body = {"pipeline": "constant"}
    created = (await ask(http, found, "create", "POST", f"{base}/api/v1/tasks", json=body)).json()
    url, half = created["uploads"]["file"]["url"], len(content) // 2
    for offset, piece in ((0, content[:half]), (half, content[half:])):
        headers = {**TUS, "Upload-Offset": str(offset), **({} if offset else {"Upload-Length": str(len(content))})}
        await ask(http, found, "PATCH", "PATCH", url, headers=headers, content=piece)
        found.sent += len(piece)
    while time.perf_counter() < until:
        task = (await ask(http, found, "query", "GET", f"{base}/query_task/{created['id']}")).json()
        if task["status"] in SETTLED:
            assert task["status"] == "done", task
            found.tasks += 1
            return
        await asyncio.sleep(POLL_S)


async def watch(gateway: psutil.Process, until: float, found: Measured) -> None:
    """Note the gateway's memory."""
    while time.perf_counter() < until:
        family = [gateway, *gateway.children(recursive=True)]
        found.memory.append(sum(process.memory_info().rss for process in family) / 2**20)
        await asyncio.sleep(0.5)


async def load(base: str, gateway: psutil.Process, clients: int, seconds: float, content: bytes) -> Measured:
    """Let all clients loose for a while."""
    found = Measured()
    began = time.perf_counter()
    until = began + seconds
    await asyncio.gather(watch(gateway, until, found), *(client(base, content, until, found) for _ in range(clients)))
    found.seconds = time.perf_counter() - began
    return found


@contextmanager
def embedded(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Run `volcal up`."""
    with Stack(Settings(_env_file=None, data_dir=folder), port=0) as stack:
        part = next(part for part in stack.parts if part.name == "gateway")
        assert part.process is not None
        yield stack.local_url, psutil.Process(part.process.pid)


@contextmanager
def full(_folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Run the full stack."""
    with FullStack() as stack:
        assert stack.gateway.process is not None
        yield stack.url, psutil.Process(stack.gateway.process.pid)


WORLDS = {"embedded": embedded, "stack": full}


def row(name: str, found: Measured) -> str:
    """Return one row of the table."""
    cells = [name]
    for kind in ("create", "query", "PATCH"):
        cuts = statistics.quantiles(found.times.get(kind, [math.nan] * 2), n=100)
        cells.append(f"{cuts[49] * 1e3:.0f} / {cuts[94] * 1e3:.0f} / {cuts[98] * 1e3:.0f}")
    quarter = max(1, len(found.memory) // 4)
    memory = f"{max(found.memory[:quarter]):.0f} → {max(found.memory[-quarter:]):.0f}"
    requests = sum(map(len, found.times.values())) / found.seconds
    throughput = found.sent / found.seconds / 1e6
    cells += [
        f"{requests:.0f}",
        f"{throughput:.0f}",
        f"{found.tasks / found.seconds:.1f}",
        memory,
        str(len(found.errors)),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kib", type=int, default=1024, help="size of each file")
    parser.add_argument("--only", choices=list(WORLDS))
    given = parser.parse_args()
    content = os.urandom(given.kib << 10)
    print(f"{given.clients} clients, {given.seconds:.0f} s, files of {given.kib} KiB\n")
    print(
        "| service | create ms p50 / p95 / p99 | query ms | PATCH ms | requests/s | upload MB/s | tasks/s | "
        "gateway MiB, first → last quarter | errors |"
    )
    print("|" + " --- |" * 9)
    for name in [given.only] if given.only else WORLDS:
        with tempfile.TemporaryDirectory() as folder, WORLDS[name](Path(folder)) as (base, gateway):
            found = asyncio.run(load(base, gateway, given.clients, given.seconds, content))
        print(row(name, found), flush=True)
        for error in sorted(set(found.errors))[:5]:
            print(f"  {error}")


if __name__ == "__main__":
    main()
