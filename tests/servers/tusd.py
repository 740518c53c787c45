"""What does a test need of a tusd that keeps uploads in S3? The stand-in's, or a real one's."""

import os
import socket
from pathlib import Path

from tests.servers.base import Server, program
from tests.servers.minio import Minio

_STAND_IN = Path(__file__).parents[1] / "tusd" / "server.mjs"
EVENTS = "pre-create,pre-finish,post-finish,post-receive"


class Tusd(Server):
    """A tusd with the flags of the compose file; the stand-in of ``tests/tusd``, or the program that the environment
    variable ``VOLCAL_TEST_TUSD`` names.

    Args:
        store: Its S3 service; its bucket must exist by the time of the first upload.
        hooks: URL that is told of uploads.
        port: Of the S3 service, if it is reached through a line; None means the service's own.
        bucket: Where uploads go.
        events: Which hooks are sent.
        options: Further flags; they come last, so that they win.
        folder: As for ``Server``.
    """

    name = "tusd"

    def __init__(
        self,
        store: Minio,
        *,
        hooks: str,
        port: int | None = None,
        bucket: str = "uploads",
        events: str = EVENTS,
        options: tuple[str, ...] = (),
        folder: Path | None = None,
    ) -> None:
        super().__init__(folder)
        self._store = store
        self._endpoint = f"http://127.0.0.1:{port or store.port}"
        self._hooks, self._bucket, self._events, self._options = hooks, bucket, events, options

    @property
    def url(self) -> str:
        """Its endpoint, as the gateway's setting wants it."""
        return f"http://127.0.0.1:{self.port}/files"

    @property
    def real(self) -> bool:
        """Whether this is a real tusd."""
        return "VOLCAL_TEST_TUSD" in os.environ

    def environment(self) -> dict[str, str]:
        """Return the keys of the S3 service."""
        return {
            "AWS_ACCESS_KEY_ID": self._store.access_key,
            "AWS_SECRET_ACCESS_KEY": self._store.secret_key,
            "AWS_REGION": self._store.region,
            "TMPDIR": str(self.folder),  # a real one writes parts there before it sends them
        }

    def command(self) -> list[str]:
        """Return the command line."""
        start = [os.environ["VOLCAL_TEST_TUSD"]] if self.real else [program("node"), str(_STAND_IN)]
        flags = {
            "host": "127.0.0.1",
            "port": str(self.port),
            "base-path": "/files/",
            "hooks-http": self._hooks,
            "hooks-enabled-events": self._events,
            "s3-bucket": self._bucket,
            "s3-endpoint": self._endpoint,
            "max-size": str(1 << 30),
        }
        switches = ["-behind-proxy", "-disable-download", "-disable-termination"]
        return [*start, *(f"-{name}={value}" for name, value in flags.items()), *switches, *self._options]

    def answers(self) -> bool:
        """Say whether it tells what it can."""
        request = b"OPTIONS /files/ HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(request)
            return b"200" in connection.recv(64)
