"""House rules that a machine can check, so that no reviewer has to."""

import ast
import re
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from app.api.problems import status_of
from app.cli import COMMANDS, main
from app.domain.errors import VolcalError
from app.main import create_app
from app.settings import Settings
from pipeline.errors import PipelineError
from pipeline.registry import CATALOGUE

ROOT = Path(__file__).parents[1]
PACKAGES = ("app", "worker", "pipeline", "migrations")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
MAX_LINES, MAX_FUNCTION, MAX_FILES = 400, 50, 12
FOLDERS = sorted({path.parent for path in MODULES})


def leaves(kind: type[Exception]) -> Iterator[type[Exception]]:
    below = [child for child in kind.__subclasses__() if child.__module__.startswith(("app.", "pipeline."))]
    yield from (leaf for child in below for leaf in leaves(child)) if below else (kind,)


APP_ERRORS = sorted(leaves(VolcalError), key=lambda kind: kind.__name__)
RUN_ERRORS = sorted(leaves(PipelineError), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", APP_ERRORS)
def test_every_error_has_a_code_and_a_status(kind: type[VolcalError]) -> None:
    assert kind.code != VolcalError.code
    assert 400 <= status_of(kind) < 500


def test_error_codes_are_unique() -> None:
    codes = [kind.code for kind in (*APP_ERRORS, *RUN_ERRORS)]
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize("kind", [*APP_ERRORS, *RUN_ERRORS])
def test_every_code_is_documented(kind: type[VolcalError | PipelineError]) -> None:
    assert f"`{kind.code}`" in (ROOT / "docs/errors.md").read_text()


def told_codes(tree: ast.AST) -> Iterator[str]:
    """Yield the codes that a module gives to its errors by itself, not those that it passes on."""
    for node in ast.walk(tree):
        said: list[ast.expr] = []
        if isinstance(node, ast.Call):
            said = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            if isinstance(node.func, ast.Name) and node.func.id in {"stop_with", "fail", "_fail"}:
                said += node.args[:1]
        elif isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == "code" for to in node.targets):
            said = [node.value]
        for text in (part.value for each in said for part in ast.walk(each) if isinstance(part, ast.Constant)):
            if isinstance(text, str) and re.fullmatch(r"[A-Z]+(_[A-Z]*)*", text):
                yield text


CLIENT_CODES = sorted(
    {
        code
        for package in ("app/cli", "app/client")
        for path in (ROOT / package).rglob("*.py")
        for code in told_codes(ast.parse(path.read_text()))
    }
)


@pytest.mark.parametrize("code", CLIENT_CODES)
def test_every_code_of_the_command_line_is_documented(code: str) -> None:
    part = (ROOT / "docs/errors.md").read_text().partition("## What only the command line says")[2]
    everywhere = {kind.code for kind in (*APP_ERRORS, *RUN_ERRORS)} | {"INTERNAL", "REQUEST_INVALID"}
    assert re.search(rf"^\| `{code}(<status>)?` \|", part, re.M) or code in everywhere


def test_codes_of_the_command_line_are_found() -> None:
    assert {"UNREACHABLE", "TRANSFER", "WAITED", "NOT_VOLCAL", "PORT_IN_USE", "DATA_IN_USE"} <= set(CLIENT_CODES)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    line = next(
        (row for row in (ROOT / "docs/settings.md").read_text().splitlines() if f"`VOLCAL_{name.upper()}`" in row), ""
    )
    assert Settings.model_fields[name].description
    assert Settings.model_fields[name].description in line


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_pipeline_loads_and_accepts_its_defaults_or_its_example(name: str) -> None:
    assert CATALOGUE[name].params(**CATALOGUE[name].example) is not None
    assert callable(CATALOGUE.load(name))


@pytest.mark.parametrize(
    ("pipeline", "name"),
    [(each, name) for each in ("volume_change", "raster_prediction") for name in CATALOGUE[each].params.model_fields],
)
def test_every_option_is_documented(pipeline: str, name: str) -> None:
    part = (ROOT / "docs/pipelines.md").read_text().partition(f"## `{pipeline}`")[2].partition("\n## ")[0]
    assert f"`{name}`" in part


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_loads_and_explains_itself(name: str) -> None:
    command = main.get_command(None, name)
    assert command is not None
    assert command.help


def test_every_route_says_what_it_does() -> None:
    schema = create_app().openapi()
    silent = [
        f"{method} {path}"
        for path, methods in schema["paths"].items()
        for method, route in methods.items()
        if not route.get("summary") or not route.get("description")
    ]
    assert silent == []


def test_the_generic_package_names_are_ours() -> None:
    owners = packages_distributions()
    for package in ("app", "worker", "pipeline", "migrations"):
        assert set(owners[package]) == {"volcal-server"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_or_function_grows_too_long(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= MAX_LINES
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 - _docstring_lines(node) > MAX_FUNCTION
    ]
    assert long == []


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in MODULES}), ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_folder_grows_too_full(folder: Path) -> None:
    if folder.name == "versions":
        return  # migrations follow one another, and none is ever taken away
    assert len(list(folder.glob("*.py"))) <= MAX_FILES


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    if ast.get_docstring(node) is None or first.end_lineno is None:
        return 0
    return first.end_lineno - first.lineno + 1


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_in_the_docs_resolves(path: Path) -> None:
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^()\s]+)\)", path.read_text())]
    relative = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in relative if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_keeps_the_marks_of_a_merge(path: Path) -> None:
    assert not re.search(r"^(<{7}|={7}|>{7})( |$)", path.read_text(), re.M)


def test_commands_that_the_readme_shows_exist() -> None:
    shown = set(
        re.findall(r"volcal ([a-z]+)\b", "\n".join(re.findall(r"```.*?```", (ROOT / "README.md").read_text(), re.S)))
    )
    assert shown
    assert shown <= set(COMMANDS)


def test_make_verbs_that_the_readme_shows_exist() -> None:
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    shown = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert {"demo", "test"} <= shown <= verbs
