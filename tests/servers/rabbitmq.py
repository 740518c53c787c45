"""What does a test need of a real RabbitMQ?"""

import os
import subprocess
from pathlib import Path

import amqp

from tests.servers.base import Server, free_port, leashed, program

_PLACE = "/usr/lib/rabbitmq/bin"


class RabbitMQ(Server):
    """A RabbitMQ with a node name, ports, a cookie and a port mapper of its own.

    Args:
        folder: As for ``Server``.
        consumer_timeout_ms: A message that stays unacknowledged for so long closes its channel; looked at every
            ``tick_ms``.
        tick_ms: How often that is looked at; RabbitMQ's own default is a minute.
    """

    name = "rabbitmq"

    def __init__(
        self, folder: Path | None = None, *, consumer_timeout_ms: int = 18_000_000, tick_ms: int = 60_000
    ) -> None:
        super().__init__(folder)
        self._mapper_port, self._dist_port = free_port(), free_port()
        self._mapper: subprocess.Popen[bytes] | None = None
        lines = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            f"consumer_timeout = {consumer_timeout_ms}",
            "disk_free_limit.absolute = 10MB",
            "vm_memory_high_watermark.absolute = 400MB",
        ]
        (self.folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        (self.folder / "advanced.config").write_text(f"[{{rabbit, [{{channel_tick_interval, {tick_ms}}}]}}].\n")
        (self.folder / "enabled_plugins").write_text("[].\n")
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text("VOLCALTESTS")
        cookie.chmod(0o600)

    @property
    def url(self) -> str:
        """The URL of its first virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def environment(self) -> dict[str, str]:
        """Return what keeps this node apart from every other one on the machine."""
        folder = str(self.folder)
        return {
            "HOME": folder,
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"volcal{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config",
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            # two schedulers and no busy waiting: a test shares its machine
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        }

    def command(self) -> list[str]:
        """Return the command line; Debian's wrapper, which changes the user, is passed by."""
        path = f"{_PLACE}/rabbitmq-server"
        return [path if Path(path).exists() else program("rabbitmq-server")]

    def launch(self) -> None:
        """Start the node and, the first time, its port mapper."""
        program("rabbitmq-server")
        if self._mapper is None:
            mapper = [*leashed(), program("epmd"), "-port", str(self._mapper_port), "-address", "127.0.0.1"]
            self._mapper = subprocess.Popen(mapper, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        super().launch()

    def answers(self) -> bool:
        """Say whether a client can log in."""
        try:
            with amqp.Connection(f"127.0.0.1:{self.port}", "guest", "guest", connect_timeout=2, read_timeout=5):
                return True
        except amqp.AMQPError:
            return False

    def empty(self, queue: str = "celery") -> None:
        """Let it forget all messages of a queue that nobody holds."""
        with amqp.Connection(f"127.0.0.1:{self.port}", "guest", "guest") as connection:
            channel = connection.channel()
            channel.queue_declare(queue, durable=True, auto_delete=False)
            channel.queue_purge(queue)

    def ctl(self, *words: str) -> str:
        """Run ``rabbitmqctl``; return what it prints."""
        command = [program("rabbitmqctl", _PLACE), "--quiet", *words]
        if Path(f"{_PLACE}/rabbitmqctl").exists():
            command[0] = f"{_PLACE}/rabbitmqctl"
        done = subprocess.run(command, env={**os.environ, **self.environment()}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        """End the node and its port mapper."""
        self.kill()
        if self._mapper is not None:
            self._mapper.kill()
            self._mapper.wait()
            self._mapper = None
        super().close()
