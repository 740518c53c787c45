"""How fast is the task API with many tasks in PostgreSQL, and how does PostgreSQL find them?

``python -m benchmarks.tasks [--tasks 100000] [--clients 8] [--seconds 10]``: one real gateway process and PostgreSQL on
loopback, tasks of ten owners put in at once, and clients with the key of one owner, which run on the same cores. Each
kind of request is measured by itself; then the plans of the lists are shown. It stops by itself.
"""

import argparse
import asyncio
import itertools
import platform
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import psutil

from app.db.migrate import upgrade
from app.db.session import UnitOfWork, make_engine
from app.domain.tasks import TaskState
from app.services import tasks
from tests.servers.plans import OWNERS, explain, fill
from tests.servers.postgres import Postgres
from tests.servers.stack import Part

KEY = "of-this-benchmark-alone-0123456789"
OWNER = "owner-3"
TASKS = "/api/v1/tasks"
PAGES = 20
FILTERS: dict[str, dict[str, object]] = {
    "": {},
    ", status=error": {"status": TaskState.ERROR},
    ", pipeline=constant": {"pipeline": "constant"},
}
Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


@dataclass
class Known:
    """What the requests name: ids, and the cursors of the pages of a list, first to last."""

    ids: list[str]
    cursors: list[str] = field(default_factory=list)


async def know(http: httpx.AsyncClient) -> Known:
    """Walk through the whole list once."""
    known, cursor = Known([]), None
    while True:
        query = {"limit": 200, **({"cursor": cursor} if cursor else {})}
        page = (await http.get(TASKS, params=query)).raise_for_status().json()
        known.ids += [task["id"] for task in page["tasks"]]
        if (cursor := page["next"]) is None:
            return known
        known.cursors.append(cursor)


def kinds(known: Known) -> dict[str, Ask]:
    """Return the requests that are measured; each names another task or page than the one before."""
    ids, deep = itertools.cycle(known.ids), itertools.cycle(known.cursors[-PAGES:])
    return {
        "create": lambda http: http.post(TASKS, json={"pipeline": "constant"}),
        "get": lambda http: http.get(f"{TASKS}/{next(ids)}"),
        "list, first page of 50": lambda http: http.get(TASKS),
        "list, the last pages of 50": lambda http: http.get(TASKS, params={"cursor": next(deep)}),
        "list, status=error": lambda http: http.get(TASKS, params={"status": "error"}),
        "list, pipeline=constant": lambda http: http.get(TASKS, params={"pipeline": "constant"}),
    }


async def measure(http: httpx.AsyncClient, ask: Ask, clients: int, seconds: float) -> list[float]:
    """Return the seconds of each request that so many clients make one after another."""
    until, took = time.perf_counter() + seconds, []

    async def client() -> None:
        while (began := time.perf_counter()) < until:
            (await ask(http)).raise_for_status()
            took.append(time.perf_counter() - began)

    await asyncio.gather(*(client() for _ in range(clients)))
    return took


async def load(url: str, clients: int, seconds: float) -> None:
    """Measure each kind, and print a table."""
    headers = {"Authorization": f"Bearer {KEY}"}
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60, trust_env=False, limits=limits) as http:
        known = await know(http)
        print(f"{len(known.ids)} tasks are this owner's\n")
        print("| request | requests/s | p50 ms | p99 ms |\n| --- | --- | --- | --- |")
        for name, ask in kinds(known).items():
            took = await measure(http, ask, clients, seconds)
            cuts = statistics.quantiles(took, n=100)
            print(f"| {name} | {len(took) / seconds:.0f} | {cuts[49] * 1e3:.1f} | {cuts[98] * 1e3:.1f} |", flush=True)


def show_plans(url: str, count: int) -> None:
    """Print how PostgreSQL finds the pages."""
    engine = make_engine(url)
    deep = datetime.fromtimestamp(datetime(2026, 5, 1, tzinfo=UTC).timestamp() + 7 * count / 10, UTC), UUID(int=0)
    for name, asked in FILTERS.items():

        def ask(asked: dict[str, object] = asked) -> None:
            with UnitOfWork(engine, read_only=True, owner=OWNER) as work:
                tasks.list_tasks(work, before=deep, limit=51, **asked)  # type: ignore[arg-type]

        (plan,) = explain(engine, ask)
        print(f"\nThe page after nine tenths of the list{name}: {plan.read} rows read\n\n```\n{plan.said}\n```")
    engine.dispose()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    busy = psutil.cpu_percent(interval=2.0)
    machine = f"{psutil.cpu_count()} cores, {busy:.0f} % busy before"
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {machine}")
    print(f"{given.tasks} tasks of {OWNERS} owners, {given.clients} clients, {given.seconds:.0f} s each; ", end="")
    with Postgres() as postgres, tempfile.TemporaryDirectory() as folder:
        url = f"{postgres.url}/postgres"
        upgrade(url)
        engine = make_engine(url)
        fill(engine, given.tasks)
        engine.dispose()
        environment = {"DATABASE_URL": url, "VOLCAL_API_KEYS": f"{OWNER}:{KEY}", "VOLCAL_RATE_PER_KEY": "0"}
        with Part("serve", environment, Path(folder)) as gateway:
            asyncio.run(load(gateway.url, given.clients, given.seconds))
        show_plans(url, given.tasks)


if __name__ == "__main__":
    main()
