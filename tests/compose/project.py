"""How is the compose file spoken to? As an operator does, by docker compose."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.compose.engine import Engine, compose_binary
from tests.compose.standins import MINIO

ROOT = Path(__file__).parents[2]
NAME = "volcal-test"
UP_S = 300
_BUILT_HERE = "volcal/"


class Project:
    """The services of docker-compose.yml, unedited; only MinIO's image is the one built from source.

    Args:
        engine: What runs them.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.workers = 1
        self._env = engine.work / "env"
        self._env.write_text(f"MINIO_IMAGE={MINIO}\n")

    def compose(self, *arguments: str, check: bool = True, timeout: float = 900.0, **variables: str) -> str:
        """Run docker compose; return what it printed, standard error included.

        Raises:
            RuntimeError: If it fails.
        """
        command = [str(compose_binary()), "--project-name", NAME, "--env-file", str(self._env), *arguments]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.engine.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"docker compose {' '.join(arguments)} failed:\n{done.stdout[-6000:]}")
        return done.stdout

    def up(self, *arguments: str) -> None:
        """Start what is not started, and wait until all is healthy."""
        scale = f"worker={self.workers}"
        self.compose("up", "--detach", "--no-build", "--wait", f"--wait-timeout={UP_S}", "--scale", scale, *arguments)

    def down(self) -> None:
        """Stop and remove everything, and look whether it is gone."""
        self.compose("down", "--volumes", "--remove-orphans", timeout=240)
        left = {
            "containers": [each["Names"] for each in self.engine.containers()],
            "volumes": self.engine.podman("volume", "ls", "--quiet").split(),
            "networks": [name for name in self.engine.podman("network", "ls", "--quiet").split() if NAME in name],
        }
        assert not any(left.values()), left

    def pulled_images(self) -> set[str]:
        """Return the images that are not built here."""
        services = self.described()["services"].values()
        return {service["image"] for service in services if not service["image"].startswith(_BUILT_HERE)}

    def described(self) -> dict[str, Any]:
        """Return the compose file with all that it leaves open filled in."""
        found: dict[str, Any] = json.loads(self.compose("config", "--format=json"))
        return found

    def run_in(self, service: str, *command: str, index: int = 1, check: bool = True) -> str:
        """Run a command in a container that runs."""
        return self.compose("exec", "--no-TTY", f"--index={index}", service, *command, check=check, timeout=180)

    def containers_of(self, service: str) -> list[str]:
        """Return the ids of a service's containers that run."""
        return self.compose("ps", "--quiet", service).split()

    def explain(self) -> None:
        """Print what a person needs to see why something failed."""
        print(self.compose("ps", "--all", check=False), flush=True)
        for container in self.engine.containers():
            good = container["State"] == "running" and "unhealthy" not in container["Status"]
            print(f"----- {container['Names'][0]}: {container['Status']}", flush=True)
            if not good:
                print(self.engine.ailing(container["Id"]), flush=True)
            print(self.engine.logs(container["Id"], 15 if good else 60), flush=True)
