"""Does docs/rasters.md say what is true? Its model is made, its source used, its commands are run, with two workers."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import rasterio

from app.db.migrate import upgrade
from tests.rasters import Sky, plain, sloping
from tests.servers.base import wait_for
from tests.servers.stack import Part

pytestmark = pytest.mark.service

TEXT = (Path(__file__).parents[2] / "docs" / "rasters.md").read_text()
DATA, MODEL = "data-processing", "model-prediction"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", TEXT, re.S)
    assert found is not None
    return found[1]


COMMANDS = [line[2:] for line in re.findall(r"^\$ curl .*", TEXT, re.M)]


class OnOneMachine(Part):
    """A part that shares its data folder with the others, as in the embedded mode."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"VOLCAL_DATA_DIR": str(self.folder.parent / "data")}

    def answers(self) -> bool:
        return super().answers() if self.name == "serve" else self.process is not None and self.process.poll() is None


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    sky = Sky(tmp_path_factory.mktemp("rasters"))
    sky.scene("a", "2024-06-10", sloping(0.0, 0.4), plain(0.15))
    shutil.rmtree(sky.models)
    subprocess.run([sys.executable, "-c", block("python")], cwd=sky.folder, check=True)
    source = json.loads(block("json"))
    source["catalogue"] = str(sky.catalogue)
    (sky.folder / "sources" / "field.json").write_text(json.dumps(source))
    return sky


@pytest.fixture(scope="module")
def parts(sky: Sky) -> Iterator[dict[str, Part]]:
    settings = {
        "VOLCAL_MODELS_DIR": str(sky.models),
        "VOLCAL_SOURCES_DIR": str(sky.folder / "sources"),
        "VOLCAL_REAP_INTERVAL_S": "0.5",
        "VOLCAL_LOG_FORMAT": "json",
    }
    (sky.folder / "parts" / "data").mkdir(parents=True)
    upgrade(f"sqlite:///{sky.folder / 'parts' / 'data' / 'volcal.db'}")
    gateway = OnOneMachine("serve", settings, sky.folder / "parts" / "serve")
    settings["VOLCAL_PUBLIC_URL"] = gateway.url
    found: dict[str, Part] = {"serve": gateway}
    for queue in (DATA, MODEL):
        found[queue] = OnOneMachine("work", settings | {"VOLCAL_QUEUES": queue}, sky.folder / "parts" / queue)
    with ExitStack() as running:
        for part in found.values():
            running.enter_context(part)
        yield found


@pytest.fixture(scope="module")
def run(parts: dict[str, Part], sky: Sky) -> Any:
    def run(command: str, **variables: str) -> Any:
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        told = command.replace("http://127.0.0.1:8000", parts["serve"].url)
        environment = {"PATH": os.environ["PATH"], **variables}
        done = subprocess.run(["bash", "-c", told], env=environment, cwd=sky.folder, capture_output=True, check=True)
        return json.loads(done.stdout) if done.stdout else None

    return run


def test_the_commands_of_the_guide_lead_to_a_map(run: Any, parts: dict[str, Part], sky: Sky) -> None:
    models, submit, show, *rest = COMMANDS
    assert [model["model_name"] for model in run(models)] == ["water"]
    submitted = run(submit)
    assert submitted.get("status") == "data_processing", submitted
    task_id = submitted["task_id"]
    wait_for(lambda: run(show, ID=task_id)["status"] in {"completed", "failed"}, "the prediction")
    task = run(show, ID=task_id)
    assert task["status"] == "completed", (task, parts[DATA].says(), parts[MODEL].says())
    for command in rest:
        answer = run(command, ID=task_id)
        if command.endswith("/health"):
            assert answer["status"] == "healthy"
    for queue, other in ((DATA, MODEL), (MODEL, DATA)):
        assert f'"step": "{queue}"' in parts[queue].says()
        assert f'"step": "{other}"' not in parts[queue].says()
    with rasterio.open(sky.folder / "classes.tif") as file:
        cells = file.read(1)
        # water is where the red, which rises from west to east, is above 0.15
        expected = sloping(0.0, 0.4)[0] > 1500
        left = round((file.bounds.left - 499_200) / 30)
        assert (cells == expected[left : left + file.width]).all()
    result = task["stages"]["model_prediction"]["result"]
    assert result["model"]["note"] == "An example: it knows nothing of shadows."
    picture = httpx.get(result["files"]["0/preview.png"], timeout=30, trust_env=False)
    assert picture.content.startswith(b"\x89PNG")
