"""Where do base images come from on a machine that cannot pull any? From Debian's packages, under the same names."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.compose.engine import Engine

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DEBIAN = "localhost/volcal-debian:bookworm"
MINIO = "volcal/minio:source"
PACKAGES = (
    "ca-certificates,curl,gettext-base,nginx-light,nodejs,openssl,postgresql,python3,python3-venv,redis-server,wget"
)
_OLDEST_GO = 21  # fetches the one that MinIO asks for
_PIP_KEYS = {"index-url", "extra-index-url", "proxy", "timeout", "trusted-host"}
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# the images of the compose file and of the Dockerfiles, and the folder of the stand-in for each
KINDS = {
    "python": "python",
    "postgres": "postgres",
    "redis": "redis",
    "nginx": "nginx",
    "tusproject/tusd": "tusd",
    "debian": "debian",
    "golang": "golang",
}


def debian_root(cache: Path) -> Path:
    """Return a folder with a small Debian and the servers; made once."""
    root = cache / "root"
    made_of = root / "made-of"
    if made_of.exists() and made_of.read_text() == PACKAGES:
        return root
    shutil.rmtree(root, ignore_errors=True)
    fresh = cache / "root.part"
    shutil.rmtree(fresh, ignore_errors=True)
    command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(fresh)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"debootstrap failed:\n{done.stdout[-3000:]}")
    for path in (*fresh.glob("var/cache/apt/archives/*.deb"), *fresh.glob("var/lib/apt/lists/*_*")):
        path.unlink()
    (fresh / "made-of").write_text(PACKAGES)
    fresh.rename(root)
    return root


def pip_conf() -> str:
    """Return how this machine reaches its package index, for the builds."""
    listed = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    kept = {"cert": f"/{_CERTIFICATES}"}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        if (key := name.rpartition(".")[2]) in _PIP_KEYS:
            kept[key] = value.strip("'\"")
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in kept.items())


def base_image(engine: Engine, cache: Path) -> None:
    """Import the small Debian, with the certificates that this machine trusts."""
    made_of = cache / "root/made-of"
    if engine.has_image(DEBIAN) and made_of.exists() and made_of.read_text() == PACKAGES:
        return
    root = debian_root(cache)
    trusted = Path(os.environ.get("SSL_CERT_FILE") or f"/{_CERTIFICATES}")
    if trusted.exists():
        shutil.copyfile(trusted, root / _CERTIFICATES)
    (root / "etc/pip.conf").write_text(pip_conf())
    # The commands of Debian's daemons stay; what would start them by itself is not there.
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as packing:
        subprocess.run(
            ["podman", "import", "--quiet", "-", DEBIAN], env=engine.environment, stdin=packing.stdout, check=True
        )


def wanted(images: set[str]) -> dict[str, str]:
    """Return the stand-in for each image that would be pulled, of those of the compose file and of the Dockerfiles."""
    for path in (ROOT / "docker").glob("*.Dockerfile"):
        images |= set(re.findall(r"^FROM (\S+)", path.read_text(), re.M))
    named = {image: KINDS.get(re.sub(r"^docker\.io/(library/)?", "", image).rpartition(":")[0]) for image in images}
    return {image: kind for image, kind in named.items() if kind}


def build(engine: Engine, images: set[str]) -> None:
    """Build the stand-ins under the names of what they stand for."""
    for image, kind in sorted(wanted(images).items()):
        with tempfile.TemporaryDirectory(dir=engine.work) as folder:
            context = Path(folder) / "context"
            shutil.copytree(HERE / "standins" / kind, context)
            if kind == "tusd":
                shutil.copytree(ROOT / "tests/tusd", context / "tusd")
                if real := os.environ.get("VOLCAL_TEST_TUSD"):
                    shutil.copy(real, context / "real-tusd")
            full = image if image.count("/") else f"library/{image}"
            engine.podman("build", "--quiet", "--layers", "--tag", f"docker.io/{full}", str(context))


def build_minio(engine: Engine) -> None:
    """Build MinIO from source by the Dockerfile of the project, with this machine's Go and its caches."""
    told = {name: _go("env", name) for name in ("GOROOT", "GOMODCACHE", "GOCACHE", "GOPROXY", "GOSUMDB")}
    for name in ("GOMODCACHE", "GOCACHE"):
        Path(told[name]).mkdir(parents=True, exist_ok=True)
    volumes = [f"--volume={told['GOROOT']}:/usr/local/go:ro"]
    volumes += [
        f"--volume={told[name]}:{where}" for name, where in (("GOMODCACHE", "/go/pkg/mod"), ("GOCACHE", "/go/cache"))
    ]
    settings = [f"--env={name}={told[name]}" for name in ("GOPROXY", "GOSUMDB")]
    file = ROOT / "docker/minio.Dockerfile"
    engine.podman(
        "build",
        "--quiet",
        "--layers",
        *volumes,
        *settings,
        f"--file={file}",
        f"--tag=docker.io/{MINIO}",
        str(HERE / "standins/golang"),
    )


def _go(*arguments: str) -> str:
    program = go()
    assert program is not None, "there is no Go that can build MinIO"
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def go() -> str | None:
    """Return a Go that can build MinIO: this machine's, or the one that .ci/run has fetched; None if there is none."""
    fetched = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "volcal/go/bin/go"
    for program in filter(None, (shutil.which("go"), shutil.which(fetched))):
        said = subprocess.run([program, "version"], capture_output=True, text=True, check=False).stdout
        found = re.search(r"go1\.(\d+)", said)
        if found and int(found[1]) >= _OLDEST_GO:
            return program
    return None
