"""What leaves a finished task, through the front door."""

import csv
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from app.domain.tasks import TaskState
from app.services import tasks
from pipeline.volume_change.output.document import document
from tests.pipeline.volume_change.output.synthetic import Site, make_analysis

FILES = {
    "hulls.geojson": "application/geo+json",
    "report.html": "text/html",
    "report.pdf": "application/pdf",
    "hulls/h001.png": "image/png",
}


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """The result document of six changes whose figures are known."""
    about: Any = {"params": {}, "timings": {}, "peak_memory_mb": 1.0, "versions": {}}
    return document(make_analysis(Site(cell=2.0)), **about)


def finished(world: Any, content: dict[str, Any], *, without: str = "", **values: Any) -> UUID:
    """Put a task that is done into the world, with its files."""
    artifacts = []
    for name, media_type in FILES.items():
        (source := world.root / "source").write_bytes(name.encode() * 100)
        world.context.store.put(f"tasks/1/out/1/{name}", source)
        about = {"name": name, "media_type": media_type, "title": name, "size": len(name) * 100}
        artifacts.append(about | {"key": f"tasks/1/out/1/{name}"})
    kept = [each for each in artifacts if each["name"] != without]
    task_id: UUID = world.add(TaskState.DONE, document=content, artifacts=kept, **values)
    return task_id


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True))


def test_the_table_has_a_line_for_each_change_and_one_for_all(
    client: TestClient, world: Any, found: dict[str, Any]
) -> None:
    answer = client.get(f"/api/v1/tasks/{finished(world, found, name='Quarry, week 14')}/report.csv")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert answer.headers["content-disposition"] == 'attachment; filename="Quarry, week 14.csv"'
    lines = answer.content.split(b"\r\n")
    assert len(lines) == 1 + 6 + 1 + 1
    assert not any(b"\n" in line for line in lines)
    table = rows(answer.content)
    assert [row["id"] for row in table] == [hull["id"] for hull in found["hulls"]] + ["total"]
    # the mound of 1.2 m and 8 m radius: 71.74 m³; the synthetic half width is 5 % + 0.3 m³; its centre is at (35, 40)
    first = {name: float(value) for name, value in table[0].items() if name not in {"id", "kind", "crs"}}
    assert first["net_volume_m3"] == pytest.approx(71.74, abs=0.01)
    assert first["net_volume_ci95_low_m3"] == pytest.approx(0.95 * 71.74 - 0.3, abs=0.01)
    assert first["net_volume_ci95_high_m3"] == pytest.approx(1.05 * 71.74 + 0.3, abs=0.01)
    assert (first["centroid_x_m"], first["centroid_y_m"]) == (630_035.0, 4_830_040.0)
    assert {row["crs"] for row in table} == {"EPSG:26917"}
    for figure in ("cut_volume", "fill_volume", "net_volume"):
        assert float(table[-1][f"{figure}_m3"]) == found["totals"][figure]
        assert float(table[-1][f"{figure}_ci95_high_m3"]) == found["totals"][f"{figure}_ci95"][1]
        assert sum(float(row[f"{figure}_m3"]) for row in table[:-1]) == pytest.approx(found["totals"][figure])


def test_another_program_reads_the_table_as_numbers(client: TestClient, world: Any, found: dict[str, Any]) -> None:
    answer = client.get(f"/api/v1/tasks/{finished(world, {**found, 'crs': 'Gauß-Krüger'})}/report.csv")
    table = pd.read_csv(io.BytesIO(answer.content))
    numbers = [name for name in table.columns if name not in {"id", "kind", "crs"}]
    assert all(table[name].dtype.kind == "f" for name in numbers if name != "number")
    assert next(iter(table["crs"])) == "Gauß-Krüger"
    assert answer.content.startswith(b"\xef\xbb\xbf"), "without which Excel reads Gauß as GauÃŸ"


@pytest.mark.parametrize("crs", ['=cmd|" /C calc"!A0', "+1+1", "@SUM(A1)", "-2", "\t=1", 'PROJCRS["a, b\r\n=1"]'])
def test_a_coordinate_system_cannot_smuggle_a_formula(
    client: TestClient, world: Any, found: dict[str, Any], crs: str
) -> None:
    task_id = finished(world, {**found, "crs": crs})
    told = rows(client.get(f"/api/v1/tasks/{task_id}/report.csv").content)[0]["crs"]
    assert told[0] not in "=+-@\t\r"
    assert told in {crs, f"'{crs}"}


def test_a_result_without_changes_is_a_table_of_totals(client: TestClient, world: Any) -> None:
    about: Any = {"params": {}, "timings": {}, "peak_memory_mb": 1.0, "versions": {}}
    nothing = document(make_analysis(Site(changes=(), crs=None, cell=2.0)), **about)
    (total,) = rows(client.get(f"/api/v1/tasks/{finished(world, nothing)}/report.csv").content)
    assert (total["id"], total["net_volume_m3"], total["crs"]) == ("total", "0.0", "")


def test_the_json_report_is_the_result_document(client: TestClient, world: Any, found: dict[str, Any]) -> None:
    task_id = finished(world, found)
    answer = client.get(f"/api/v1/tasks/{task_id}/report.json")
    assert answer.json() == client.get(f"/api/v1/tasks/{task_id}/results").json() == json.loads(json.dumps(found))
    assert answer.headers["content-disposition"] == f'inline; filename="volcal-{str(task_id)[:8]}.json"'


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_report_that_the_client_has_is_not_sent_again(
    client: TestClient, world: Any, found: dict[str, Any], kind: str
) -> None:
    path = f"/api/v1/tasks/{finished(world, found)}/report.{kind}"
    first = client.get(path)
    again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(path, headers={"If-None-Match": '"another"'}).content == first.content
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["etag"] == first.headers["etag"]
    assert head.headers["content-length"] == str(len(first.content))


@pytest.mark.parametrize(
    ("kind", "name"), [("geojson", "hulls.geojson"), ("html", "report.html"), ("pdf", "report.pdf")]
)
def test_the_other_reports_are_files_behind_a_link(
    client: TestClient, world: Any, found: dict[str, Any], kind: str, name: str
) -> None:
    path = f"/api/v1/tasks/{finished(world, found, name='Zürich: 測量/../1')}/report.{kind}"
    answer = client.get(path)
    assert answer.status_code == 307
    file = client.get(answer.headers["location"])
    assert file.content == name.encode() * 100
    assert file.headers["content-disposition"].startswith("inline")
    saved = client.get(client.get(path, params={"download": True}).headers["location"])
    assert saved.headers["content-disposition"].startswith("attachment; filename*=utf-8''Z%C3%BCrich%20")
    assert "%2F" not in saved.headers["content-disposition"]
    assert saved.headers["content-disposition"].endswith(f".{kind}")


@pytest.mark.parametrize("kind", ["csv", "geojson", "html", "pdf"])
def test_a_pipeline_without_such_a_report_says_which_there_are(client: TestClient, world: Any, kind: str) -> None:
    task_id = world.add(TaskState.DONE, document={"answer": 42}, artifacts=[])
    answer = client.get(f"/api/v1/tasks/{task_id}/report.{kind}")
    assert answer.status_code == 404
    assert (answer.json()["code"], answer.json()["available"]) == ("REPORT_NOT_FOUND", ["json"])


def test_a_run_before_there_was_a_pdf_says_so(client: TestClient, world: Any, found: dict[str, Any]) -> None:
    answer = client.get(f"/api/v1/tasks/{finished(world, found, without='report.pdf')}/report.pdf")
    assert answer.status_code == 404
    assert answer.json()["code"] == "REPORT_NOT_FOUND"
    assert answer.json()["available"] == ["json", "csv", "geojson", "html"]


@pytest.mark.parametrize("kind", ["json", "csv", "geojson", "html", "pdf"])
def test_there_is_no_report_before_the_task_is_done(client: TestClient, world: Any, kind: str) -> None:
    answer = client.get(f"/api/v1/tasks/{world.add(TaskState.RUNNING)}/report.{kind}")
    assert (answer.status_code, answer.json()["code"]) == (409, "NOT_READY")


def test_a_format_that_nobody_knows_is_not_found(client: TestClient, world: Any, found: dict[str, Any]) -> None:
    assert client.get(f"/api/v1/tasks/{finished(world, found)}/report.docx").status_code == 404


def test_a_download_can_be_looked_at_and_goes_on_where_it_stopped(
    client: TestClient, world: Any, found: dict[str, Any]
) -> None:
    path = f"/api/v1/tasks/{finished(world, found)}/artifacts/hulls/h001.png"
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == "1400"
    assert head.headers["accept-ranges"] == "bytes"
    assert head.headers["content-type"] == "image/png"
    assert head.headers["content-disposition"] == 'inline; filename="h001.png"'
    link = client.get(path).headers["location"]
    whole = client.get(link)
    rest = client.get(link, headers={"Range": "bytes=700-", "If-Range": whole.headers["etag"]})
    assert (rest.status_code, rest.content) == (206, whole.content[700:])
    assert rest.headers["content-range"] == "bytes 700-1399/1400"
    assert client.get(link, headers={"Range": "bytes=1400-"}).status_code == 416
    saved = urlsplit(client.get(path, params={"download": True}).headers["location"])
    assert "name=h001.png" in saved.query
    assert Path(saved.path).name == "h001.png"
    assert client.head(f"{path}.nothing").status_code == 404


@pytest.mark.parametrize("what", ["results", "artifacts", "artifacts/report.pdf", "report.csv"])
def test_a_result_that_was_deleted_for_its_age_is_said_to_have_been_there(
    client: TestClient, world: Any, found: dict[str, Any], what: str
) -> None:
    task_id = finished(world, found)
    tasks.delete_task(world.context, task_id, aged=True)
    answer = client.get(f"/api/v1/tasks/{task_id}/{what}", follow_redirects=False)
    assert (answer.status_code, answer.json()["code"]) == (410, "RESULT_EXPIRED")
    assert client.get(f"/api/v1/tasks/{task_id}").status_code == 404


def test_a_result_that_its_owner_deleted_is_gone_without_a_trace(
    client: TestClient, world: Any, found: dict[str, Any]
) -> None:
    task_id = finished(world, found)
    assert client.delete(f"/api/v1/tasks/{task_id}").status_code == 204
    assert client.get(f"/api/v1/tasks/{task_id}/results").status_code == 404
