"""What does a test need of a real PostgreSQL?"""

import contextlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2

from tests.servers.base import Server, absent, program


class Postgres(Server):
    """A PostgreSQL that trusts everybody on loopback and waits for no disk.

    Its folder is always a temporary one: PostgreSQL refuses to run as root, and another user must get there.

    Args:
        settings: Further settings, ``name=value``.
    """

    name = "postgres"
    stop_signal = signal.SIGINT  # "fast": no waiting for clients

    def __init__(self, *settings: str) -> None:
        self._programs = max(
            Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: int(path.parent.name)
        )
        if self._programs is None:
            absent("PostgreSQL")
        self._settings = settings
        super().__init__()

    @property
    def url(self) -> str:
        """The URL of the server, without a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Return the command line; the first time, a cluster is made."""
        assert self._programs is not None
        data = self.folder / "data"
        as_owner: list[str] = []
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            as_owner = [program("setpriv"), "--reuid=postgres", "--regid=postgres", "--init-groups", "--"]
        if not data.exists():
            make = [str(self._programs / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres", "-N"]
            subprocess.run([*as_owner, *make], check=True, stdout=subprocess.DEVNULL, cwd=self.folder)
        options = [f"unix_socket_directories={self.folder}", "fsync=off", "max_connections=100", *self._settings]
        chosen = [part for option in options for part in ("-c", option)]
        if as_owner:  # changing the user forgets who is to die with whom
            as_owner[-1:] = ["--pdeathsig", "KILL", "--"]
        return [*as_owner, str(self._programs / "postgres"), "-D", str(data), *self._listen(), *chosen]

    def _listen(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self.port)]

    def answers(self) -> bool:
        """Say whether a client can log in."""
        try:
            psycopg2.connect(f"{self.url}/postgres", connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    @contextlib.contextmanager
    def database(self, *options: str) -> Iterator[str]:
        """Make an empty database for as long as the block lasts, with options of CREATE DATABASE; give its URL."""
        name = f"t{time.monotonic_ns()}"
        self._say(f"CREATE DATABASE {name} {' '.join(options)}")
        yield f"{self.url}/{name}"
        self._say(f"DROP DATABASE {name} WITH (FORCE)")

    def _say(self, command: str) -> None:
        connection = psycopg2.connect(f"{self.url}/postgres")
        connection.autocommit = True  # databases are not made inside transactions
        try:
            with connection.cursor() as cursor:
                cursor.execute(command)
        finally:
            connection.close()
