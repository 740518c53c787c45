"""What does the full stack lose when its parts are killed again and again? Nothing, is the claim.

``python benchmarks/soak.py [--tasks 200] [--minutes 10] [--broker redis|rabbitmq] [--seed 1]``: PostgreSQL, broker,
MinIO, tusd, nginx, gateway, two workers and beat on loopback. Clients upload and submit tasks that take up to a few
seconds, some of which are meant to fail or are cancelled. Meanwhile parts are killed with ``kill -9`` at random and
started again a little later. It stops by itself. At the end each task is held against what was asked for.
"""

import argparse
import contextlib
import random
import re
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from tests.servers.base import Server
from tests.servers.stack import SETTLED, FullStack, send

_SCRATCH = re.compile(r"/scratch/([0-9a-f-]{36})-\d+")
GRACE_S = 180.0  # after the last kill, for whatever is still under way
DOWN_S = (0.2, 4.0)


@dataclass
class Wanted:
    """What a client asked for, and when it saw the end."""

    fate: str
    seconds: float
    content: bytes
    begun: float
    id: str = ""
    seen: str = ""
    ended: float = 0.0


@dataclass
class Soak:
    """One run: the stack, what was asked of it, and who was killed when."""

    stack: FullStack
    random: random.Random
    deadline: float
    asked: list[Wanted] = field(default_factory=list)
    kills: list[tuple[float, str]] = field(default_factory=list)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def client(self, count: int, pause_s: float) -> None:
        """Submit tasks one after the other, patiently."""
        chance = random.Random(self.random.random())
        for _ in range(count):
            fate = chance.choices(["done", "error", "killed"], [8, 1, 1])[0]
            wanted = Wanted(fate, chance.uniform(0.2, 4.0), chance.randbytes(chance.randint(1, 300_000)), time.time())
            self.submit(wanted)
            with self.lock:
                self.asked.append(wanted)
            time.sleep(chance.uniform(0, 2 * pause_s))

    def submit(self, wanted: Wanted) -> None:
        """Create a task and send its file, as often as it takes: a task whose answer was lost is created again."""
        options: dict[str, Any] = {"seconds": wanted.seconds, "fail": "error" if wanted.fate == "error" else ""}
        while True:
            try:
                task = self.stack.create(**options)
                wanted.id = task["id"]
                url = task["uploads"]["file"]["url"]
                break
            except httpx.HTTPError:
                time.sleep(0.3)
        offset = 0
        while offset < len(wanted.content):
            offset = self.append(url, wanted, offset)
        if wanted.fate == "killed":
            self.cancel(wanted)

    def append(self, url: str, wanted: Wanted, offset: int) -> int:
        """Send the rest; return where the upload stands then."""
        try:
            answer = send(url, wanted.content[offset:], offset=offset, length=len(wanted.content))
            if answer.status_code == httpx.codes.NO_CONTENT:
                return int(answer.headers["Upload-Offset"])
            asked = httpx.head(url, headers={"Tus-Resumable": "1.0.0"}, timeout=10, trust_env=False)
            if asked.is_success:
                return int(asked.headers["Upload-Offset"])
        except httpx.HTTPError:
            pass
        time.sleep(0.3)
        return offset

    def cancel(self, wanted: Wanted) -> None:
        """Cancel a task, as often as it takes; one that was faster keeps its result."""
        while True:
            try:
                answer = httpx.post(f"{self.stack.url}/api/v1/tasks/{wanted.id}/cancel", timeout=10, trust_env=False)
            except httpx.HTTPError:
                time.sleep(0.3)
                continue
            if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                if answer.status_code == httpx.codes.CONFLICT:
                    wanted.fate = "done"
                return
            time.sleep(0.3)

    def watch(self, stop: threading.Event) -> None:
        """Note when each task is seen to have ended."""
        while not stop.wait(0.2):
            with self.lock:
                open_ = [wanted for wanted in self.asked if not wanted.seen]
            for wanted in open_:
                try:
                    status = self.stack.task(wanted.id)["status"]
                except httpx.HTTPError:
                    break
                if status in SETTLED:
                    wanted.seen, wanted.ended = status, time.time()

    def havoc(self) -> None:
        """Kill something every few seconds, until it is time."""
        while time.time() < self.deadline:
            time.sleep(self.random.uniform(1, 6))
            name = self.random.choice(["run", "run", "pool", "worker", "worker", "gateway", "beat", *SERVERS])
            if name in {"run", "pool"}:
                self.kill_below(name)
            else:
                self.kill_server(name)

    def kill_below(self, name: str) -> None:
        """Kill the process of a run, or the pool's process that supervises it."""
        worker = self.random.choice(self.stack.workers)
        if worker.process is None:
            return
        pools = _children(psutil.Process(worker.process.pid))
        doomed = pools if name == "pool" else [child for pool in pools for child in _children(pool)]
        if doomed:
            victim = self.random.choice(doomed)
            held = self.held_by(victim)
            try:
                victim.kill()
            except psutil.NoSuchProcess:
                return
            self.kills.append((time.time(), name))
            self.measure(name, held)

    def kill_server(self, name: str) -> None:
        """Kill a server or a part of ours, and start it again a little later."""
        servers: dict[str, Server] = {
            "worker": self.random.choice(self.stack.workers),
            "gateway": self.stack.gateway,
            "beat": self.stack.beat,
            "broker": self.stack.broker,
            "database": self.stack.postgres,
            "store": self.stack.minio,
            "tusd": self.stack.tusd,
            "nginx": self.stack.nginx,
        }
        server = servers[name]
        held = self.held_by(psutil.Process(server.process.pid)) if name == "worker" and server.process else None
        server.kill()
        killed = time.time()
        self.kills.append((killed, name))
        time.sleep(self.random.uniform(*DOWN_S))
        server.start()
        if name == "worker":
            self.measure(name, held, killed)
        else:
            self.recoveries.setdefault(f"{name}: a task can be created", []).append(self.until_created() - killed)

    def held_by(self, process: psutil.Process) -> tuple[str, int] | None:
        """Return the task that a process or one below it runs, and which attempt it is."""
        lines = []
        for each in [process, *_descendants(process)]:
            with contextlib.suppress(psutil.Error):
                lines.append(" ".join(each.cmdline()))
        found = _SCRATCH.search("\n".join(lines))
        try:
            return None if found is None else (found[1], int(self.stack.task(found[1])["attempts"]))
        except httpx.HTTPError:
            return None

    def measure(self, name: str, held: tuple[str, int] | None, since: float | None = None) -> None:
        """Wait in the background until a task whose run was killed is at its next attempt, or over."""
        if held is None:
            return
        began = since or time.time()

        def wait() -> None:
            while time.time() - began < GRACE_S:
                try:
                    task = self.stack.task(held[0])
                except httpx.HTTPError:
                    task = {"status": "", "attempts": 0}
                if task["status"] in SETTLED:
                    return  # it was another worker's, or it was over already
                if task["attempts"] > held[1]:
                    self.recoveries.setdefault(f"{name}: its task is at the next attempt", []).append(
                        time.time() - began
                    )
                    return
                time.sleep(0.1)

        threading.Thread(target=wait, daemon=True).start()

    def until_created(self) -> float:
        """Return when a task can be created again."""
        while True:
            try:
                self.stack.create()
                return time.time()
            except httpx.HTTPError:
                time.sleep(0.1)


SERVERS = ("broker", "database", "store", "tusd", "nginx")


def judge(soak: Soak) -> dict[str, int]:
    """Hold what became of each task against what was asked for."""
    found: Counter[str] = Counter()
    for wanted in soak.asked:
        task = soak.stack.task(wanted.id)
        found[f"{wanted.fate} as wanted" if task["status"] == wanted.fate else "wrong end"] += 1
        if task["status"] not in SETTLED:
            found["lost"] += 1
        outputs = {key.split("/out/")[1].split("/")[0] for key in soak.stack.objects(f"tasks/{wanted.id}/out/")}
        if task["status"] == "done":
            result = soak.stack.results(wanted.id)
            right = (result["answer"], result["bytes"]) == (42, len(wanted.content))
            found["wrong result"] += not right
            found["duplicated results"] += len(outputs) > 1
        else:
            found["results of tasks that have none"] += bool(outputs)
        if task["status"] != wanted.fate:
            print(f"wrong: {wanted.id} should be {wanted.fate}, is {task['status']}: {task['error']}")
    return dict(found)


def run(tasks: int, minutes: float, broker: str, seed: int) -> None:
    """Soak the stack and print the tables."""
    settings = {"VOLCAL_MAX_ATTEMPTS": "50", "VOLCAL_LEASE_S": "5", "VOLCAL_HEARTBEAT_S": "1"}
    with FullStack(broker=broker, workers=2, **settings) as stack:
        began = time.time()
        soak = Soak(stack, random.Random(seed), began + minutes * 60)
        stop = threading.Event()
        watcher = threading.Thread(target=soak.watch, args=(stop,))
        watcher.start()
        pause_s = minutes * 60 / (tasks / CLIENTS) * 0.8
        shares = [tasks // CLIENTS + (n < tasks % CLIENTS) for n in range(CLIENTS)]
        clients = [threading.Thread(target=soak.client, args=(share, pause_s)) for share in shares]
        for client in clients:
            client.start()
        soak.havoc()
        for client in clients:
            client.join()
        while time.time() < soak.deadline + GRACE_S and not all(wanted.seen for wanted in soak.asked):
            time.sleep(0.5)
        stop.set()
        watcher.join()
        found = judge(soak)
        report(soak, found, time.time() - began)


CLIENTS = 5


def report(soak: Soak, found: dict[str, int], seconds: float) -> None:
    """Print what came of it."""
    print(f"\n{len(soak.asked)} tasks, {len(soak.kills)} kills in {seconds / 60:.1f} min\n")
    print("| killed | times |\n| --- | --- |")
    for name, count in sorted(Counter(name for _, name in soak.kills).items()):
        print(f"| {name} | {count} |")
    print("\n| outcome | tasks |\n| --- | --- |")
    names = ["lost", "wrong end", "wrong result", "duplicated results", "results of tasks that have none"]
    for name in [*sorted(name for name in found if name.endswith("as wanted")), *names]:
        print(f"| {name} | {found.get(name, 0)} |")
    waits = [wanted.ended - wanted.begun for wanted in soak.asked if wanted.seen]
    soak.recoveries["(every task: from its submission to its end)"] = waits
    print(f"\nParts stay down for {DOWN_S[0]} to {DOWN_S[1]:.0f} s before they are started again; this is counted in.")
    print("\n| seconds from the kill until | n | p50 | p95 | max |\n| --- | --- | --- | --- | --- |")
    for name, times in sorted(soak.recoveries.items()):
        print(f"| {name} | {len(times)} | {statistics.median(times):.1f} | {_p95(times):.1f} | {max(times):.1f} |")


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children())
    except psutil.NoSuchProcess:
        return []


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20, method="inclusive")[-1] if len(times) > 1 else times[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--broker", choices=["redis", "rabbitmq"], default="redis")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    run(given.tasks, given.minutes, given.broker, given.seed)
