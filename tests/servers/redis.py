"""What does a test need of a real Redis, or of a Redis that Sentinels watch over?"""

import socket
from pathlib import Path

from tests.servers.base import Server, program


def ask(port: int, *words: str) -> str:
    """Send one command; return the first line of the answer, without its type."""
    request = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(request.encode())
        with connection.makefile("rb") as answer:
            line = answer.readline().decode().strip()
            if line[:1] in {"*", "$"} and line[1:] != "-1":  # the first element of a list, or a long string
                line = answer.readline().decode().strip()
                if line[:1] == "$":
                    line = answer.readline().decode().strip()
    return line.removeprefix("+").removeprefix(":")


class Redis(Server):
    """A Redis as the compose file runs it: append-only file, nothing evicted.

    Args:
        folder: As for ``Server``.
        password: Asked of every client.
        options: Further options of ``redis-server``, as on its command line.
    """

    name = "redis"

    def __init__(self, folder: Path | None = None, *, password: str = "", options: tuple[str, ...] = ()) -> None:
        super().__init__(folder)
        self.password = password
        self.options = options

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return f"redis://{f':{self.password}@' if self.password else ''}127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Return the command line: every write is on disk before it is answered, as far as a kill -9 goes."""
        fixed = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]
        secret = ["--requirepass", self.password, "--masterauth", self.password] if self.password else []
        return [program("redis-server"), *fixed, *durable, *secret, *self.options]

    def answers(self) -> bool:
        """Say whether it has loaded its data; with a password it says that it wants one."""
        return ask(self.port, "PING").startswith(("PONG", "-NOAUTH"))

    def flush(self) -> None:
        """Let it forget everything."""
        import redis

        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    empty = flush


class Sentinel(Server):
    """One of the watchers that make a replica the master when the master is gone.

    Args:
        master: Who is watched.
        quorum: So many watchers must agree.
        group: The master's name among the Sentinels.
        folder: As for ``Server``.
    """

    name = "sentinel"

    def __init__(self, master: Redis, *, quorum: int = 1, group: str = "mymaster", folder: Path | None = None) -> None:
        super().__init__(folder)
        self.group = group
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"dir {self.folder}",
            f"sentinel monitor {group} 127.0.0.1 {master.port} {quorum}",
            f"sentinel down-after-milliseconds {group} 700",
            f"sentinel failover-timeout {group} 4000",
            *([f"sentinel auth-pass {group} {master.password}"] if master.password else []),
        ]
        self._config = self.folder / "sentinel.conf"  # it writes into this file what it learns
        self._config.write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        """Return the command line: the same program in another mode."""
        return [program("redis-server"), str(self._config), "--sentinel"]

    def answers(self) -> bool:
        """Say whether it serves."""
        return ask(self.port, "PING") == "PONG"

    def knows(self) -> tuple[int, int]:
        """Return how many replicas and how many other Sentinels it knows."""
        import redis

        with redis.Redis(port=self.port, decode_responses=True) as client:
            state = client.sentinel_master(self.group)
        return int(state["num-slaves"]), int(state["num-other-sentinels"])

    def master_port(self) -> int:
        """Return the port of whom it holds to be the master."""
        import redis

        with redis.Redis(port=self.port, decode_responses=True) as client:
            return int(client.sentinel_get_master_addr_by_name(self.group)[1])


class Replica(Redis):
    """A Redis that copies another one and may take its place."""

    name = "replica"

    def __init__(self, master: Redis, folder: Path | None = None) -> None:
        super().__init__(folder, password=master.password, options=("--replicaof", "127.0.0.1", str(master.port)))

    def in_step(self) -> bool:
        """Say whether it has all that its master has."""
        import redis

        with redis.Redis.from_url(self.url, decode_responses=True) as client:
            state = client.info("replication")
        return bool(state.get("master_link_status") == "up")
