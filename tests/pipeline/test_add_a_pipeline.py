"""docs/add-a-pipeline.md does what it says, taken word for word."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.images import picture
from tests.pipeline.trees import copy_of_pipeline

PAGE = (Path(__file__).parents[2] / "docs/add-a-pipeline.md").read_text()


def block(after: str, language: str) -> str:
    """Return the first block of a language after some words of the page."""
    found = re.search(rf"^ *```{language}\n(.*?)^ *```$", PAGE[PAGE.index(after) :], re.M | re.S)
    assert found is not None
    return dedent(found[1])


def python(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(tree.parent)}
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_of_pipeline(tmp_path / "tree")


def test_the_example_of_a_task_pipeline_multiplies(tree: Path, tmp_path: Path) -> None:
    (tree / "double").mkdir()
    (tree / "double/__init__.py").write_text(block("`pipeline/<name>/__init__.py`", "python"))
    (tree / "double/run.py").write_text(block("`pipeline/<name>/run.py`", "python"))
    with (tree / "registry.py").open("a") as registry:
        registry.write("\nfrom pipeline import double\nCATALOGUE = Catalogue([*CATALOGUE.values(), double.SPEC])\n")

    def run(text: str) -> tuple[int, list[dict[str, Any]]]:
        (tmp_path / "in.txt").write_text(text)
        spec = {"pipeline": "double", "inputs": {"file": str(tmp_path / "in.txt")}, "outdir": str(tmp_path / "out")}
        (tmp_path / "spec.json").write_text(json.dumps(spec))
        done = python(tree, "-m", "pipeline", "run", str(tmp_path / "spec.json"))
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    assert run("21\n")[0] == 0
    assert json.loads((tmp_path / "outcome.json").read_text())["document"] == {"value": 42.0}
    assert (tmp_path / "out/result.txt").read_text() == "42.0\n"
    status, events = run("twenty-one")
    assert (status, events[-1]["code"], events[-1]["label"]) == (2, "INPUT_INVALID", "file")


def test_the_example_of_an_image_pipeline_tells_day_from_night(tree: Path, tmp_path: Path) -> None:
    (tree / "images/daylight.py").write_text(block("`pipeline/images/daylight.py`", "python"))
    registry = tree / "images/__init__.py"
    lines = block("`pipeline/images/__init__.py`: the entry", "diff").splitlines()
    for old, new in zip(lines[::2], lines[1::2], strict=True):
        assert old.startswith("-")
        assert old[1:] in registry.read_text()
        registry.write_text(registry.read_text().replace(old[1:], new[1:]))
    images = []
    for colour in ("white", "black", "#404040"):
        (path := tmp_path / f"{colour}.png").write_bytes(picture("PNG", (40, 20), colour))
        images.append({"id": colour, "path": str(path)})
    job = {"pipeline": "daylight", "config": {"threshold": 0.25}, "images": images, "max_pixels": 1000, "cpu_s": 60}
    (tmp_path / "job.json").write_text(json.dumps(job))
    done = python(tree, "-m", "pipeline.images", str(tmp_path / "job.json"))
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    found = [each for event in events if event["event"] == "found" for each in event["detections"]]
    assert [each["classifications"][0]["classification"] for each in found] == ["Day", "Night", "Day"]
    assert found[0]["bbox"] == {"x1": 0, "y1": 0, "x2": 40, "y2": 20}
    assert found[2]["classifications"][0]["scores"] == pytest.approx([64 / 255, 191 / 255])
    described = python(tree, "-c", "import sys, pipeline.images as i; print([*i.PIPELINES], 'PIL' in sys.modules)")
    assert "'daylight'" in described.stdout
    assert described.stdout.endswith("False\n")
