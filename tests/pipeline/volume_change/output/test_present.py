import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from PIL import Image

from pipeline.contracts import Outcome
from pipeline.errors import StorageFull
from pipeline.volume_change.output.present import peak_memory_mb, present, versions
from pipeline.volume_change.output.schema import volcal_schema
from pipeline.volume_change.types import Analysis
from tests.pipeline.volume_change.output.synthetic import Site, make_analysis


def shown(analysis: Analysis, folder: Path, *, images: bool = True, most: int = 2) -> tuple[Outcome, list[float]]:
    steps: list[float] = []
    outcome = present(
        analysis, folder, images=images, max_hull_images=most, params={"cell": None}, timings={"reading": 1.0},
        report=lambda fraction, _: steps.append(fraction),
    )  # fmt: skip
    return outcome, steps


def test_the_folder_holds_exactly_what_the_outcome_names(tmp_path: Path) -> None:
    outcome, _ = shown(make_analysis(), tmp_path)
    on_disk = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert on_disk == {artifact.name for artifact in outcome.artifacts}
    assert {"results.json", "overview.png", "hulls/h001.png", "hulls/h002.png", "hulls.geojson", "hulls.gpkg",
            "difference.tif", "changed_points.laz", "report.html", "report.pdf"} == on_disk  # fmt: skip
    assert all(a.media_type and a.title for a in outcome.artifacts)


def test_every_picture_that_the_document_names_opens(tmp_path: Path) -> None:
    outcome, _ = shown(make_analysis(), tmp_path)
    for hull in outcome.document["hulls"]:
        with Image.open(tmp_path / hull["image"]) as image:
            assert image.width >= 1400


def test_the_file_and_the_outcome_say_the_same(tmp_path: Path) -> None:
    outcome, _ = shown(make_analysis(Site(holes=True)), tmp_path)
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(outcome.document))
    jsonschema.Draft202012Validator(volcal_schema()).validate(written)
    assert {"reading", "pictures", "files"} <= written["timings"].keys()


def test_progress_never_falls_and_ends_at_one(tmp_path: Path) -> None:
    _, steps = shown(make_analysis(), tmp_path)
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0.0, 1.0)


def test_no_pictures_means_no_pictures_and_no_plotting_library(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib;"
        "from tests.pipeline.volume_change.output.synthetic import *;"
        "from pipeline.volume_change.output.present import present;"
        f"present(make_analysis(Site(cell=2.0)), pathlib.Path({str(tmp_path)!r}), images=False, max_hull_images=9,"
        " params={}, timings={}, report=lambda f, s: None);"
        "sys.exit(bool({'matplotlib', 'fpdf'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[4]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
    assert not list(tmp_path.rglob("*.png"))
    assert not list(tmp_path.glob("report.*"))
    assert (tmp_path / "results.json").exists()


def test_a_site_without_changes_has_an_overview_and_a_report(tmp_path: Path) -> None:
    outcome, _ = shown(make_analysis(Site(changes=())), tmp_path)
    assert (tmp_path / "overview.png").exists()
    assert (tmp_path / "report.html").exists()
    assert outcome.document["hulls"] == []


def test_a_disk_that_refuses_is_a_storage_error_and_no_document_claims_a_result(tmp_path: Path) -> None:
    (tmp_path / "hulls").write_text("in the way")
    with pytest.raises(StorageFull):
        shown(make_analysis(Site(cell=1.0)), tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_memory_and_versions_are_those_of_this_process() -> None:
    assert 20 < peak_memory_mb() < 100_000
    assert versions()["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "volcal-server" in versions()
