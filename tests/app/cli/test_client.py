"""`volcal submit` and its siblings, as far as they get without a server."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.cli.client import parse_settings
from app.cli.inputs import check, find, gather
from app.cli.remote.options import status_of
from app.client import ClientError, Refused, TaskFailed, TransferFailed, Unreachable
from pipeline.errors import InputInvalid

SAMPLE = Path(__file__).parents[3] / "app" / "samples" / "ttp"
PRE, POST, STABLE = SAMPLE / "pre_2015.laz", SAMPLE / "post_2023.laz", SAMPLE / "stable_area.shp"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def volcal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Volcal":
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("VOLCAL_SERVER", raising=False)
    return Volcal()


class Volcal:
    def __call__(self, *arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])


def shape(folder: Path, *suffixes: str) -> Path:
    for suffix in suffixes:
        shutil.copy(STABLE.with_suffix(suffix.lower()), folder / f"area{suffix}")
    return folder / f"area{suffixes[0]}"


def test_the_parts_of_a_shapefile_are_found_beside_it() -> None:
    assert list(gather(PRE, POST, STABLE)) == ["pre", "post", "shp", "shx", "dbf", "prj"]
    assert gather(PRE, POST, STABLE.with_suffix(".shx"))["shp"] == STABLE


def test_a_shapefile_in_capitals_is_found_too(tmp_path: Path) -> None:
    found = gather(PRE, POST, shape(tmp_path, ".SHP", ".SHX", ".PRJ"))
    assert {label: path.name for label, path in found.items() if label not in {"pre", "post"}} == {
        "shp": "area.SHP", "shx": "area.SHX", "prj": "area.PRJ",
    }  # fmt: skip


def test_without_its_index_a_shapefile_is_refused_before_anything_is_sent(volcal: Volcal, tmp_path: Path) -> None:
    result = volcal("submit", PRE, POST, shape(tmp_path, ".shp"), "--server", NOBODY)
    assert result.exit_code == 2
    assert result.stderr.startswith("error[INPUT_INVALID]: area.shp lies without its index area.shx. Copy area.shx")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("spoiled", ["pre", "post", "shp", "shx"])
def test_a_file_that_is_something_else_is_refused_before_anything_is_sent(
    volcal: Volcal, tmp_path: Path, spoiled: str
) -> None:
    stable = shape(tmp_path, ".shp", ".shx")
    files = {"pre": PRE, "post": POST, "shp": stable, "shx": stable.with_suffix(".shx")}
    if spoiled in {"pre", "post"}:
        files[spoiled] = tmp_path / "picture.laz"
    files[spoiled].write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    result = volcal("submit", files["pre"], files["post"], stable, "--server", NOBODY)
    assert result.exit_code == 2
    assert result.stderr.startswith("error[INPUT_INVALID]: ")
    assert "PNG" in result.stderr
    assert result.stdout == ""


def test_a_url_may_stand_for_any_file(tmp_path: Path) -> None:
    elsewhere = find("https://a.test/pre.laz?sig=1", str(POST), "s3://surveys/area.SHP")
    assert elsewhere.urls == {
        "pre": "https://a.test/pre.laz?sig=1", "shp": "s3://surveys/area.SHP", "shx": "s3://surveys/area.SHX",
    }  # fmt: skip
    assert elsewhere.files == {"post": POST}
    assert elsewhere.hosts == ["a.test", "surveys"]
    signed = find(str(PRE), str(POST), "https://a.test/7?sig=1", ["shx=https://a.test/8?sig=2", "prj=https://a.test/9"])
    assert list(signed.urls) == ["shp", "shx", "prj"]
    lonely = shape(tmp_path, ".shp")
    mixed = find(str(PRE), str(POST), str(lonely), ["shx=https://a.test/area.shx"])
    assert (mixed.files["shp"], mixed.urls) == (lonely, {"shx": "https://a.test/area.shx"})


@pytest.mark.parametrize(
    ("stable", "more", "said"),
    [
        ("https://a.test/7?sig=secret", (), "does not end with .shp"),
        ("https://a.test/a.shp", ("--input", "shy=https://a.test/8"), "--input shy is not LABEL=FILE or LABEL=URL"),
        ("https://a.test/a.shp", ("--input", "shx=nothing.shx"), "nothing.shx does not exist"),
    ],
)
def test_files_that_cannot_be_told_from_the_command_line_are_named(
    volcal: Volcal, stable: str, more: tuple[str, ...], said: str
) -> None:
    result = volcal("submit", PRE, POST, stable, *more, "--server", NOBODY)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "secret" not in result.stderr


def test_a_file_that_is_not_there_is_named(volcal: Volcal, tmp_path: Path) -> None:
    result = volcal("submit", PRE, tmp_path / "nothing.laz", STABLE, "--server", NOBODY)
    assert result.exit_code == 2
    assert "nothing.laz does not exist" in result.stderr
    assert "is a folder" in volcal("submit", PRE, tmp_path, STABLE, "--server", NOBODY).stderr


def test_two_parts_of_different_shapefiles_are_refused(tmp_path: Path) -> None:
    stable = shape(tmp_path, ".shp", ".shx")
    shutil.copy(SAMPLE / "aoi_dryland.shx", stable.with_suffix(".shx"))
    with pytest.raises(InputInvalid):
        check(gather(PRE, POST, stable))


@pytest.mark.parametrize(
    "command",
    [
        ("submit", PRE, POST, STABLE),
        ("status", "00000000-0000-0000-0000-000000000000"),
        ("cancel", "00000000-0000-0000-0000-000000000000"),
        ("fetch", "00000000-0000-0000-0000-000000000000"),
    ],
)
def test_a_server_that_is_not_there_is_another_exit_status(volcal: Volcal, command: tuple[object, ...]) -> None:
    result = volcal(*command, "--server", NOBODY, "--patience", "0.1")
    assert result.exit_code == 3
    assert result.stderr.startswith("error[UNREACHABLE]: http://127.0.0.1:9 does not answer")
    assert "VOLCAL_SERVER" in result.stderr


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Unreachable("x", "down"), 3),
        (Refused(404, code="TASK_NOT_FOUND", message=""), 2),
        (Refused(500, code="INTERNAL", message=""), 1),
        (TaskFailed("error", {"code": "INPUT_INVALID"}), 2),
        (TaskFailed("error", {"code": "TIMEOUT"}), 2),
        (TaskFailed("error", {"code": "INTERNAL"}), 1),
        (TaskFailed("killed", {"code": "LOST"}), 1),
        (TaskFailed("killed", {"code": "CANCELLED"}), 2),
        (TransferFailed("x"), 2),
    ],
)
def test_the_exit_status_says_whose_fault_it_is(error: ClientError, status: int) -> None:
    assert status_of(error) == status


def test_options_are_words_with_an_equals_sign(volcal: Volcal) -> None:
    assert parse_settings(("cell=0.5", "images=false", "ground=all", "cell2=null", "x=a=b")) == {
        "cell": 0.5, "images": False, "ground": "all", "cell2": None, "x": "a=b",
    }  # fmt: skip
    result = volcal("submit", PRE, POST, STABLE, "--server", NOBODY, "--set", "cell")
    assert result.exit_code == 2
    assert "--set cell is not KEY=VALUE" in result.stderr
