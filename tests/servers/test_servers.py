"""The servers that tests start are real, keep their data over a kill -9, and leave nothing behind."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
from celery import Celery

from tests.servers.base import Server, free_port, lives, wait_for
from tests.servers.minio import Minio
from tests.servers.postgres import Postgres
from tests.servers.rabbitmq import RabbitMQ
from tests.servers.redis import Redis, Replica, Sentinel, ask

pytestmark = pytest.mark.service


def keeps_redis(server: Redis) -> Callable[[], object]:
    assert ask(server.port, "SET", "key", "kept") == "OK"
    return lambda: ask(server.port, "GET", "key") == "kept"


def keeps_rabbitmq(server: RabbitMQ) -> Callable[[], object]:
    celery = Celery("test", set_as_current=False, broker=server.url)
    celery.conf.update(broker_transport_options={"confirm_publish": True}, task_default_queue="kept")
    with celery.connection_for_write() as connection, connection.SimpleQueue("kept") as queue:
        queue.put("a message")

    def read() -> bool:
        with celery.connection_for_read() as connection, connection.SimpleQueue("kept") as queue:
            message = queue.get(timeout=10)
            message.ack()
            return bool(message.payload == "a message")

    return read


def keeps_minio(server: Minio) -> Callable[[], object]:
    client = server.client()
    client.create_bucket(Bucket="kept")
    client.put_object(Bucket="kept", Key="a/b", Body=b"bytes")

    def read() -> bool:
        found = client.get_object(Bucket="kept", Key="a/b")["Body"].read()
        client.close()
        return bool(found == b"bytes")

    return read


def keeps_postgres(server: Postgres) -> Callable[[], object]:
    say(server, "CREATE TABLE kept AS SELECT 42 AS answer")
    return lambda: say(server, "SELECT answer FROM kept") == [(42,)]


def say(server: Postgres, command: str) -> Any:
    connection = psycopg2.connect(f"{server.url}/postgres")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(command)
            return cursor.fetchall() if cursor.description else None
    finally:
        connection.close()


KINDS: dict[type[Server], Callable[[Any], Callable[[], object]]] = {
    Redis: keeps_redis,
    RabbitMQ: keeps_rabbitmq,
    Minio: keeps_minio,
    Postgres: keeps_postgres,
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_server_comes_back_after_kill_9_with_its_data_at_the_same_port(kind: type[Server]) -> None:
    with kind() as server:
        still_there = KINDS[kind](server)
        port, family = server.port, processes(server)
        server.kill()
        assert [process for process in family if lives(process)] == []
        server.start()
        assert server.port == port
        assert still_there()
        server.stop()
        folder = server.folder
    assert processes(server) == []
    assert not folder.exists()


def processes(server: Server) -> list[psutil.Process]:
    """Return what runs in a server's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(server.folder) in part for part in [process.cwd(), *process.cmdline()]):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if lives(process)]


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from tests.servers.redis import Redis;"
        "server = Redis(Path(sys.argv[1])).start(); print(server.process.pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    pid = int(done.stdout)
    wait_for(lambda: not psutil.pid_exists(pid) or not lives(psutil.Process(pid)), "its end")


def test_two_servers_of_a_kind_live_side_by_side() -> None:
    with Redis(password="one") as first, Redis(password="two") as second:
        assert ask(first.port, "AUTH", "one") == ask(second.port, "AUTH", "two") == "OK"
        assert ask(first.port, "AUTH", "two").startswith("-WRONGPASS")
        second.empty()


def test_a_server_that_cannot_start_says_what_it_printed() -> None:
    server = Redis(options=("--no-such-option", "1"))
    with pytest.raises(RuntimeError, match="no-such-option"), server:
        pass
    assert not server.folder.exists()


def test_a_replica_takes_the_place_of_a_master_that_is_killed() -> None:
    with Redis(password="quiet") as master, Replica(master) as replica, Sentinel(master) as sentinel:
        wait_for(lambda: replica.in_step() and sentinel.knows() == (1, 0), "the replica")
        assert sentinel.master_port() == master.port
        master.kill()
        wait_for(lambda: sentinel.master_port() == replica.port, "the failover")


def test_free_ports_are_not_among_those_that_clients_are_given() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert all(free_port() < low for _ in range(50))
