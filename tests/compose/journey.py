"""What does an operator, a phone and a bad day ask of the stack? Each stage asks one thing of what runs."""

import json
import math
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from tests.compose.engine import CACHE
from tests.compose.project import Project
from tests.operations.in_containers import saved_and_restored

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "app/samples/ttp"
FILES = {
    "pre": SAMPLE / "pre_2015.laz",
    "post": SAMPLE / "post_2023.laz",
    "shp": SAMPLE / "stable_area.shp",
    "shx": SAMPLE / "stable_area.shx",
}
URL, STORE, DASHBOARD = "http://localhost:8000", "http://localhost:9000", "http://localhost:9181"
NUMBERS = ("score", "area", "cut_volume", "fill_volume", "net_volume", "mean_change", "max_change", "coverage")
RUN_S = 420.0
_PIPELINE = "pipeline run"


def wait_for(found: Callable[[], Any], what: str, patience_s: float = RUN_S) -> Any:
    """Return the first true answer; an AssertionError if there is none in time."""
    until = time.monotonic() + patience_s
    while not (answer := found()):
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.3)
    return answer


def query(task: str) -> dict[str, Any]:
    """Return what the service says of a task; an empty answer while it is away."""
    try:
        answer = httpx.get(f"{URL}/query_task/{task}", timeout=20)
        found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
    except (httpx.TransportError, ValueError):
        return {}
    return found


def ready() -> bool:
    """Say whether a gateway can do its work; if not, print why."""
    answer = httpx.get(f"{URL}/readyz", timeout=20)
    if answer.status_code != 200:
        print(f"     not ready: {answer.text}", flush=True)
    return answer.status_code == 200


def settled(task: str) -> dict[str, Any]:
    """Wait until a task has ended well; return what the service says of it."""
    known = wait_for(
        lambda: (said := query(task)).get("status") in {"done", "error", "killed"} and said, f"task {task}"
    )
    assert known["status"] == "done", known
    return dict(known)


def volcal(*arguments: str) -> str:
    """Run the command line on this machine, outside of the containers."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=RUN_S * 2,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def hulls(folder: Path) -> list[dict[str, Any]]:
    """Return the hulls in a result folder."""
    document = json.loads((folder / "results.json").read_text())
    assert document["hulls"], document["warnings"]
    return list(document["hulls"])


@cache
def expected() -> tuple[dict[str, Any], ...]:
    """Return the hulls of the same surveys measured on this machine, without any server."""
    with tempfile.TemporaryDirectory() as folder:
        clouds = [str(FILES["pre"]), str(FILES["post"])]
        volcal("run", *clouds, "--stable", str(FILES["shp"]), "--out", folder)
        return tuple(hulls(Path(folder)))


def same(found: list[dict[str, Any]]) -> None:
    """Hold hulls against those of the run without a server."""
    assert len(found) == len(expected())
    for mine, theirs in zip(found, expected(), strict=True):
        for number in NUMBERS:
            assert math.isclose(mine[number], theirs[number], rel_tol=1e-9, abs_tol=1e-9), (number, mine, theirs)


def create(*, pictures: bool) -> tuple[str, dict[str, str]]:
    """Create a task as phones do, or one that draws no pictures; return its id and its upload URLs."""
    if pictures:
        made = httpx.post(f"{URL}/create_task", timeout=30).raise_for_status().json()
        urls = made["upload_urls"]
    else:
        made = (
            httpx.post(f"{URL}/api/v1/tasks", json={"options": {"images": False}}, timeout=30).raise_for_status().json()
        )
        urls = {label: upload["url"] for label, upload in made["uploads"].items()}
    assert set(urls) == set(FILES)
    assert all(url.startswith(f"{URL}/files/") for url in urls.values()), urls
    return made["id"], urls


# --- the stages -------------------------------------------------------------------------------------------------------


def tuspy_job(project: Project) -> None:
    """The command line uploads by tuspy, waits and downloads: the numbers are those of a run without a server."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = [str(FILES[label]) for label in ("pre", "post", "shp")]
        volcal("submit", *inputs, "--server", URL, "--wait", "--out", f"{folder}/out")
        same(hulls(Path(folder) / "out"))
        assert (Path(folder) / "out/overview.png").read_bytes().startswith(b"\x89PNG")


JAVASCRIPT = CACHE / "js"


def install_javascript() -> None:
    """Install tus-js-client: needs the network, so before it is left."""
    JAVASCRIPT.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", "upload.mjs"):
        shutil.copy(ROOT / "tests/e2e/js" / name, JAVASCRIPT)
    command = ["npm", "ci", "--silent", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=JAVASCRIPT, check=True, stdout=subprocess.DEVNULL)


def send_by_javascript(url: str, path: Path) -> None:
    """Upload a file as a browser does; tusd is told its length at the end."""
    command = ["node", "upload.mjs", url, str(path), "deferred"]
    done = subprocess.run(command, cwd=JAVASCRIPT, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout).get("done"), done.stdout


def javascript_job(project: Project) -> None:
    """tus-js-client uploads; pictures come by presigned links on the store's public address."""
    task, urls = create(pictures=True)
    upload_all(urls)
    found = settled(task)["results"]["hulls"]
    assert [hull["net_volume"] for hull in found] == [hull["net_volume"] for hull in expected()]
    for hull in found[:3]:
        assert hull["image_url"].startswith(f"{STORE}/uploads/"), hull["image_url"]
        picture = httpx.get(hull["image_url"], timeout=20)
        assert picture.status_code == 200
        assert picture.content.startswith(b"\x89PNG")


def closed_doors(project: Project) -> None:
    """What clients have no business with is shut."""
    assert httpx.get("https://localhost:8443/livez", verify=False, timeout=10).json() == {"status": True}  # noqa: S501
    assert httpx.get(f"{STORE}/uploads/", timeout=10).status_code == 403
    assert httpx.put(f"{STORE}/uploads/mine", content=b"x", timeout=10).status_code in {403, 405}
    assert (
        httpx.post(f"{URL}/files/", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "1"}, timeout=10).status_code
        >= 400
    )
    assert httpx.post(f"{URL}/tusd_hook", json={"Type": "post-finish"}, timeout=10).status_code in {401, 403, 404}
    for port in (5432, 6379, 8080, 9001, 5555):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)), f"port {port} is open"
    assert httpx.get(DASHBOARD, timeout=10).status_code == 401
    known = ("volcal", "insecure-default-flower")
    assert httpx.get(f"{DASHBOARD}/workers", auth=known, timeout=20).status_code == 200


def small_rights(project: Project) -> None:
    """No container of ours is root or can write its own files; the gateway has no numpy; kernels are not made anew."""
    for service in ("gateway", "worker", "beat", "flower"):
        assert project.run_in(service, "id", "-u").strip() == "10001"
        assert "Read-only" in project.run_in(service, "sh", "-c", "touch /usr/mine || true")
        assert "0000000000000000" in project.run_in(service, "grep", "CapEff", "/proc/self/status")
    assert "No module named 'numpy'" in project.run_in("gateway", "python", "-c", "import numpy", check=False)
    count = "find {} -name '*.nbc' | wc -l"
    made = int(project.run_in("worker", "sh", "-c", count.format("/opt/volcal/warm/numba")))
    there = int(project.run_in("worker", "sh", "-c", count.format("/tmp/warm/numba")))  # noqa: S108
    assert made == there > 0, f"{there - made} kernels of {made} were compiled again"


def doctor(project: Project) -> None:
    """`volcal doctor` in a worker finds nothing to mend."""
    said = project.run_in("worker", "volcal", "doctor", "--url", "http://gateway:8000")
    assert "MEND" not in said, said


def scaled(project: Project) -> None:
    """Two workers, two gateways: all of them healthy."""
    project.workers = 2
    project.up("--no-recreate", "--scale", "gateway=2")
    assert len(project.containers_of("worker")) == len(project.containers_of("gateway")) == 2
    for _ in range(8):
        wait_for(ready, "a gateway that is ready", 60)


def upload_all(urls: dict[str, str]) -> None:
    """Upload all four files."""
    for label, url in urls.items():
        send_by_javascript(url, FILES[label])


def running_on(project: Project, containers: list[str]) -> str | None:
    """Return which container runs a pipeline just now."""
    for container in containers:
        if _PIPELINE in project.engine.podman("top", container, "args", check=False, quiet=True):
            return container
    return None


def killed_worker(project: Project) -> None:
    """A worker's container is killed in the middle of a run: the task is done nevertheless, once."""
    task, urls = create(pictures=False)
    upload_all(urls)
    workers = project.containers_of("worker")
    victim = wait_for(lambda: running_on(project, workers), "a run")
    project.engine.podman("kill", "--signal=KILL", victim)
    same_numbers(settled(task))
    project.up("--no-recreate")


def same_numbers(known: dict[str, Any]) -> None:
    """Hold what the service says against the run without a server."""
    assert [each["net_volume"] for each in known["results"]["hulls"]] == [each["net_volume"] for each in expected()]


def restarted_gateway(project: Project) -> None:
    """Gateways are restarted between uploads: nothing is lost, and clients find them again."""
    task, urls = create(pictures=False)
    labels = sorted(urls)
    upload_all({label: urls[label] for label in labels[:2]})
    project.compose("restart", "gateway")
    wait_for(lambda: query(task).get("status") == "waiting", "the gateway", 90)
    upload_all({label: urls[label] for label in labels[2:]})
    same_numbers(settled(task))


def restarted_servers(project: Project) -> None:
    """Database, broker, store and tusd are restarted: what was done is still there, and more can be done."""
    before = httpx.get(f"{URL}/api/v1/tasks", timeout=10).json()
    project.compose("restart", "db", "redis", "minio", "tusd")
    project.up("--no-recreate")
    wait_for(ready, "the service", 90)
    assert httpx.get(f"{URL}/api/v1/tasks", timeout=10).json() == before
    task, urls = create(pictures=False)
    upload_all(urls)
    same_numbers(settled(task))


def careful_production(project: Project) -> None:
    """In production nothing starts with the passwords that stand in the compose file."""
    for service in ("migrate", "flower"):
        said = project.compose("run", "--rm", "--no-deps", "--no-TTY", service, check=False, APP_ENV="production")
        assert "volcal secrets" in said, said


STAGES: dict[str, Callable[[Project], None]] = {
    "volcal submit (tuspy) through nginx: same numbers as without a server": tuspy_job,
    "tus-js-client through nginx; pictures by presigned links": javascript_job,
    "TLS; what clients have no business with is shut; dashboard asks for a password": closed_doors,
    "small rights, no numpy in the gateway, kernels as built": small_rights,
    "volcal doctor has nothing to mend": doctor,
    "--scale worker=2 --scale gateway=2": scaled,
    "a worker killed in the middle of a run: the task is done": killed_worker,
    "gateways restarted between uploads": restarted_gateway,
    "database, broker, store and tusd restarted": restarted_servers,
    "APP_ENV=production refuses passwords that are known": careful_production,
    "saved, every volume lost, restored: results and links are there": saved_and_restored,
}
