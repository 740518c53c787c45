"""How is the full stack run on loopback, each part a process that a test may kill?"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import kombu.pools
import psutil
import psycopg2

from app.queue.celery import CeleryQueue
from tests.servers.base import PATIENCE_S, Server, wait_for
from tests.servers.cut import Cut
from tests.servers.minio import Minio
from tests.servers.nginx import Nginx
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis
from tests.servers.tusd import EVENTS, Tusd

HOOK_SECRET = "sesame-open-for-tests"
QUICK = {
    "VOLCAL_LEASE_S": "2",
    "VOLCAL_HEARTBEAT_S": "0.3",
    "VOLCAL_REAP_INTERVAL_S": "0.5",
    "VOLCAL_REDISPATCH_S": "2",
    "VOLCAL_MAX_ATTEMPTS": "3",
    "VOLCAL_RUN_MEMORY_MB": "400",
    "VOLCAL_RUN_TIMEOUT_S": "60",
}
SETTLED = {"done", "error", "killed"}


class Part(Server):
    """One process of ours: ``volcal serve``, ``work`` or ``beat``.

    Args:
        verb: Which.
        environment: Its settings.
        folder: Where its log and its data go.
        program: Python to run instead of the command line's.
    """

    def __init__(self, verb: str, environment: dict[str, str], folder: Path, program: str = "") -> None:
        self.name = verb
        super().__init__(folder)
        self._settings = environment
        self._program = ["-c", program] if program else ["-m", "app.cli"]
        self.worker_name = f"w{self.port}@volcal"

    def command(self) -> list[str]:
        """Return the command line."""
        more = {"serve": ["--port", str(self.port)], "work": ["--name", self.worker_name], "beat": []}
        return [sys.executable, "-P", *self._program, self.name, *more[self.name]]

    def environment(self) -> dict[str, str]:
        """Return the settings, with a data folder of its own, as on a machine of its own."""
        return {"VOLCAL_DATA_DIR": str(self.folder / "data"), "PYTHONUNBUFFERED": "1", **self._settings}

    @property
    def url(self) -> str:
        """Where the gateway listens."""
        return f"http://127.0.0.1:{self.port}"

    def runs(self, mark: str = "") -> list[psutil.Process]:
        """Return what runs pipelines for this worker, the leader of each session first."""
        scratch = str(self.folder / "data" / "scratch")
        found = [p for p in psutil.process_iter() if any(scratch in word and mark in word for word in _words(p))]
        return sorted(found, key=lambda process: process.pid)

    def scratch(self) -> list[str]:
        """Name the folders of runs under way."""
        folder = self.folder / "data" / "scratch"
        return [path.name for path in folder.iterdir() if path.is_dir()] if folder.exists() else []

    def says(self) -> str:
        """Return everything that it has logged."""
        return self.log.read_text(errors="replace")

    def answers(self) -> bool:
        """Say whether it serves."""
        match self.name:
            case "serve":
                try:
                    return httpx.get(f"{self.url}/livez", timeout=5, trust_env=False).is_success
                except httpx.TransportError:
                    return False
            case "work":
                broker = self._settings["CELERY_BROKER_URL"]
                asked = CeleryQueue(broker)._celery.control
                try:
                    return bool(asked.ping([self.worker_name], timeout=1.0, limit=1))
                except Exception:  # noqa: BLE001  (of whichever broker's library: its line was cut meanwhile)
                    kombu.pools.reset()
                    return False
            case _:
                return self.process is not None and self.process.poll() is None


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


class FullStack:
    """PostgreSQL, a broker, MinIO, tusd, nginx, gateway, workers and beat, as the compose file has them.

    Args:
        broker: ``redis`` or ``rabbitmq``.
        workers: How many; more may be added by ``add_worker``.
        lines: Which of ``database``, ``broker``, ``store``, ``tusd`` are reached through a line that can be cut.
        postgres: A server to use instead of one of its own.
        events: The hooks that tusd sends.
        tusd_options: Further flags of tusd.
        settings: Further variables of the environment of our parts.
    """

    def __init__(
        self,
        *,
        broker: str = "redis",
        workers: int = 1,
        lines: tuple[str, ...] = (),
        postgres: Postgres | None = None,
        events: str = EVENTS,
        tusd_options: tuple[str, ...] = (),
        **settings: str,
    ) -> None:
        self._close = ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="volcal-stack-"))
        self.postgres = postgres or Postgres()
        self._own_postgres = postgres is None
        self.broker: Redis | RabbitMQ = Redis() if broker == "redis" else RabbitMQ()
        self.minio = Minio()
        self._wanted = lines
        self.lines: dict[str, Cut] = {}
        self._settings = settings
        self._tusd_flags = {"events": events, "options": tusd_options}
        self._workers = workers
        self._extras = 0
        self.workers: list[Part] = []
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything and leave nothing behind."""
        self._close.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        enter = self._close.enter_context
        if self._own_postgres:
            enter(self.postgres)
        enter(self.broker)
        enter(self.minio)
        self.database = enter(self.postgres.database())
        self.gateway = Part("serve", self.environment, self.folder / "gateway")
        self.beat = Part("beat", self.environment, self.folder / "beat")
        hooks = f"{self.gateway.url}/tusd_hook?secret={HOOK_SECRET}"
        self.tusd = Tusd(self.minio, hooks=hooks, **self._tusd_flags)  # type: ignore[arg-type]
        tusd_port = self._line("tusd", self.tusd.port)
        self.nginx = Nginx(gateway=self.gateway.port, tusd=tusd_port, store=self.minio.port)
        self.environment |= {
            "DATABASE_URL": self.database.replace(
                f":{self.postgres.port}/", f":{self._line('database', self.postgres.port)}/"
            ),
            "CELERY_BROKER_URL": self.broker.url.replace(
                f":{self.broker.port}/", f":{self._line('broker', self.broker.port)}/"
            ),
            **self.minio.settings(),
            "VOLCAL_S3_ENDPOINT": f"http://127.0.0.1:{self._line('store', self.minio.port)}",
            "VOLCAL_S3_PUBLIC_ENDPOINT": self.nginx.store_url,
            "TUS_ENDPOINT": f"http://127.0.0.1:{self.tusd.port}/files",
            "VOLCAL_PUBLIC_URL": self.nginx.url,
            "VOLCAL_HOOK_SECRET": HOOK_SECRET,
            "VOLCAL_SECRET_KEY": "links-and-callbacks-of-tests",  # which all parts share
            **QUICK,
            **self._settings,
        }
        self.volcal("setup")
        enter(self.tusd)
        ours = [self.gateway, self.beat, *(self._worker() for _ in range(self._workers))]
        for part in ours:  # side by side
            self._close.callback(part.close)
            part.launch()
        enter(self.nginx)
        for part in ours:
            part.wait_ready()

    def _line(self, name: str, port: int) -> int:
        """Return the port by which a server is reached: its own, or that of a line that can be cut."""
        if name not in self._wanted:
            return port
        self.lines[name] = self._close.enter_context(Cut(port))
        return self.lines[name].port

    @property
    def url(self) -> str:
        """Where clients go: nginx."""
        return self.nginx.url

    def add_worker(self) -> Part:
        """Start one more worker."""
        return self._close.enter_context(self._worker())

    def _worker(self) -> Part:
        worker = Part("work", self.environment, self.folder / f"worker{len(self.workers)}")
        self.workers.append(worker)
        return worker

    def part(self, verb: str, program: str = "", **settings: str) -> Part:
        """Return one more process of ours, with settings of its own; a context manager that runs it."""
        self._extras += 1
        return Part(verb, {**self.environment, **settings}, self.folder / f"{verb}-{self._extras}", program)

    @contextmanager
    def away(self, *servers: Server) -> Iterator[None]:
        """Kill -9 servers and start them again after the block."""
        for server in servers:
            server.kill()
        try:
            yield
        finally:
            for server in servers:
                server.start()

    @contextmanager
    def frozen(self, *servers: Server) -> Iterator[None]:
        """Let servers stand still for as long as the block lasts."""
        for server in servers:
            server.freeze()
        try:
            yield
        finally:
            for server in servers:
                server.thaw()

    def volcal(self, *words: str, status: int = 0) -> str:
        """Run a command with the settings of our parts; return what it prints."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "app.cli", *words],
            env={**os.environ, "VOLCAL_DATA_DIR": str(self.folder / "cli"), **self.environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S * 2,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def create(self, pipeline: str = "constant", **options: Any) -> dict[str, Any]:
        """Create a task."""
        body = {"pipeline": pipeline, "options": options}
        answer = httpx.post(f"{self.url}/api/v1/tasks", json=body, timeout=30, trust_env=False)
        created: dict[str, Any] = answer.raise_for_status().json()
        return created

    def submit(self, content: bytes = b"12345", **options: Any) -> str:
        """Create a task of the pipeline that costs nothing and upload its file; return its id."""
        task = self.create(**options)
        assert send(task["uploads"]["file"]["url"], content).status_code == 204
        return str(task["id"])

    def task(self, task_id: str) -> dict[str, Any]:
        """Look at a task."""
        answer = httpx.get(f"{self.url}/api/v1/tasks/{task_id}", timeout=30, trust_env=False)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def until(self, task_id: str, look: Callable[[dict[str, Any]], object], what: str) -> dict[str, Any]:
        """Wait until a task looks as wanted; a gateway that is away just now is waited for."""

        seen: dict[str, Any] = {}

        def see() -> bool:
            try:
                seen.update(self.task(task_id))
            except httpx.HTTPError:
                return False
            return bool(look(seen))

        try:
            wait_for(see, f"task {task_id} to be {what}")
        except AssertionError as error:
            raise AssertionError(f"{error}; it was last seen as {seen}") from None
        return seen

    def running(self, task_id: str, attempt: int = 1) -> dict[str, Any]:
        """Wait until an attempt at a task is at work."""
        wanted = {"status": "running", "attempts": attempt, "stage": "working"}
        return self.until(task_id, lambda task: wanted.items() <= task.items(), f"running, attempt {attempt}")

    def settled(self, task_id: str) -> dict[str, Any]:
        """Wait until a task has come to its end, whichever."""
        return self.until(task_id, lambda task: task["status"] in SETTLED, "over")

    def sql(self, command: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask the database itself, past every line."""
        connection = psycopg2.connect(self.database)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(command, values)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def results(self, task_id: str) -> dict[str, Any]:
        """Return the result of a task that is done."""
        answer = httpx.get(f"{self.url}/api/v1/tasks/{task_id}/results", timeout=30, trust_env=False)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def outputs(self, task_id: str) -> list[str]:
        """Name the result files of a task in the bucket, each with its attempt's number."""
        prefix = f"tasks/{task_id}/out/"
        return sorted(key.removeprefix(prefix) for key in self.objects(prefix))

    def objects(self, prefix: str = "") -> list[str]:
        """Name what is in the bucket."""
        client = self.minio.client()
        try:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket="uploads", Prefix=prefix)
            return [found["Key"] for page in pages for found in page.get("Contents", [])]
        finally:
            client.close()


def send(url: str, content: bytes, *, offset: int = 0, length: int | None = None, **options: Any) -> httpx.Response:
    """PATCH bytes to an upload, as a client by tus does; the length is declared with the first."""
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
    }
    if offset == 0:
        headers["Upload-Length"] = str(len(content) if length is None else length)
    return httpx.patch(url, content=content, headers=headers, timeout=60, trust_env=False, **options)
