"""`volcal run` as a stranger types it, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scenes import Bump, Scene, hills

VOLCAL = Path(sys.executable).with_name("volcal")
CHANGES = (Bump(25, 25, 6, 1.0), Bump(45, 40, 5, -0.8))
SCENE = Scene("small", hills(), CHANGES, size=70, density=15, noise=0.02, margin=10, seed=3)


def volcal_run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(VOLCAL), "run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=cwd)


@pytest.fixture(scope="module")
def surveys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return SCENE.write(tmp_path_factory.mktemp("scene"))


@pytest.fixture(scope="module")
def result(surveys: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    done = volcal_run(surveys[0], surveys[1], "--stable", surveys[2], "--out", out)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    return out


@pytest.mark.service
def test_a_run_leaves_every_file_of_the_result_folder(result: Path) -> None:
    names = {str(path.relative_to(result)) for path in result.rglob("*") if path.is_file()}
    assert names >= {
        "results.json", "overview.png", "hulls.geojson", "hulls.gpkg", "difference.tif", "changed_points.laz",
        "report.html", "report.pdf", "hulls/1.png", "hulls/2.png",
    }  # fmt: skip


@pytest.mark.service
def test_both_changes_are_found_with_their_analytic_volumes_inside_the_interval(result: Path) -> None:
    document = json.loads((result / "results.json").read_text())
    found = {round(hull["net_volume"] > 0): hull for hull in document["hulls"] if hull["score"] >= 0.5}
    for change in CHANGES:
        hull = found[round(change.volume > 0)]
        low, high = hull["net_volume_ci95"]
        assert low <= change.volume <= high
        assert hull["net_volume"] == pytest.approx(change.volume, rel=0.05)


@pytest.mark.service
def test_the_same_input_gives_the_same_hulls_byte_for_byte(
    result: Path, surveys: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    again = tmp_path / "again"
    done = volcal_run(surveys[0], surveys[1], "--stable", surveys[2], "--out", again, "--set", "images=false", "--json")
    assert done.returncode == 0, done.stderr
    first = json.loads((result / "results.json").read_text())["hulls"]
    second = json.loads(done.stdout)["hulls"]
    for hull in (*first, *second):
        hull.pop("image")  # there are no pictures in the second run
    assert json.dumps(first) == json.dumps(second)


@pytest.mark.service
def test_results_take_the_place_of_older_results_but_of_nothing_else(
    surveys: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    refused = volcal_run(surveys[0], surveys[1], "--stable", surveys[2], "--out", tmp_path)
    assert refused.returncode == 2
    assert "Choose another folder" in refused.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.service
@pytest.mark.parametrize("setting", ["celll=1", "cell=-1", "cell", "ground=lawn"])
def test_an_option_that_cannot_be_is_one_line(setting: str, surveys: tuple[Path, Path, Path], tmp_path: Path) -> None:
    done = volcal_run(surveys[0], surveys[1], "--stable", surveys[2], "--out", tmp_path / "out", "--set", setting)
    assert done.returncode == 2
    assert done.stderr.startswith("error[OPTIONS_INVALID]: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.service
def test_a_shapefile_without_its_index_is_refused_with_the_remedy(
    surveys: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "alone.shp").write_bytes(surveys[2].read_bytes())
    done = volcal_run(surveys[0], surveys[1], "--stable", tmp_path / "alone.shp", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == (
        "error[INPUT_INVALID]: alone.shp lies without its index alone.shx. "
        "Copy alone.shx beside it; a shapefile is several files of one name.\n"
    )
    assert list(tmp_path.glob(".out*")) == []


@pytest.mark.service
@pytest.mark.parametrize(
    ("label", "content", "words"),
    [
        ("pre", b"", ["pre", "empty"]),
        ("pre", b"\x89PNG\r\n\x1a\n" + bytes(200), ["pre", "PNG"]),
        ("post", None, ["post", "no-such-file"]),
    ],
)
def test_a_file_that_is_no_cloud_is_named_in_one_line(
    label: str, content: bytes | None, words: list[str], surveys: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    bad = tmp_path / "no-such-file.laz"
    if content is not None:
        bad.write_bytes(content)
    files = {"pre": surveys[0], "post": surveys[1]} | {label: bad}
    done = volcal_run(files["pre"], files["post"], "--stable", surveys[2], "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.startswith("error[INPUT_INVALID]: ")
    assert done.stderr.count("\n") == 1
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "out").exists()


def test_help_fits_a_stranger() -> None:
    done = volcal_run("--help")
    assert done.returncode == 0
    assert "--stable" in done.stdout
    assert "Exit status" in done.stdout


@pytest.mark.service
def test_without_pictures_the_folder_is_named_and_no_report_that_is_not_there(
    surveys: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "plain"
    done = volcal_run(*surveys[:2], "--stable", surveys[2], "--out", out, "--set", "images=false")
    assert done.stdout.splitlines()[-1] == f"Results: {out}"
