"""What the service says of itself and of its processes, held against the standard's schemas."""

import base64
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.api.ogc.definition import definition
from app.main import create_app
from app.services.ogc.asking import outputs_of
from pipeline.registry import CATALOGUE
from tests.app.api.ogc.standard import EXCEPTIONS, check
from tests.app.conftest import World

REL = "http://www.opengis.net/def/rel/ogc/1.0"


def links(document: Any) -> dict[str, str]:
    return {link["rel"]: link["href"] for link in document["links"]}


@pytest.mark.parametrize("path", ["/ogc", "/ogc/"])
def test_the_landing_page_leads_to_everything(client: TestClient, path: str) -> None:
    page = client.get(path)
    check(page.json(), "landingPage")
    found = links(page.json())
    assert {"service-desc", "service-doc", f"{REL}/conformance", f"{REL}/processes", f"{REL}/job-list"} <= set(found)
    for href in found.values():
        assert href.startswith("http://volcal.test/")
        assert client.get(href.removeprefix("http://volcal.test")).status_code == 200
    assert f'<{found["service-desc"]}>; rel="service-desc"' in page.headers["link"]


def test_the_conformance_classes_are_those_that_are_kept(client: TestClient) -> None:
    said = client.get("/ogc/conformance").json()
    check(said, "confClasses")
    names = {name.rpartition("/")[2] for name in said["conformsTo"]}
    assert names == {"core", "json", "oas30", "ogc-process-description", "job-list", "callback", "dismiss"}


def test_processes_come_a_page_at_a_time(client: TestClient, world: World) -> None:
    seen: list[str] = []
    path = "/ogc/processes?limit=2"
    while path:
        page = client.get(path).json()
        check(page, "processList")
        assert len(page["processes"]) <= 2
        seen += [process["id"] for process in page["processes"]]
        path = links(page).get("next", "").removeprefix("http://volcal.test")
    assert seen == sorted(world.context.catalogue)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_pipeline_is_a_process_of_the_standard(client: TestClient, world: World, name: str) -> None:
    from app.api.ogc.describe import description

    spec = CATALOGUE[name]
    said = description(world.context, spec)
    check(said, "process")
    for each in [*said["inputs"].values(), *said["outputs"].values()]:
        check(each["schema"], "schema")
    assert list(said["inputs"]) == [*(slot.label for slot in spec.inputs), *spec.params.model_fields]
    assert list(said["outputs"]) == list(outputs_of(spec))
    assert len(said["inputs"]) == len(spec.inputs) + len(spec.params.model_fields), "an option is named as a file is"


def test_a_description_says_what_may_be_given(client: TestClient) -> None:
    inputs = client.get("/ogc/processes/volume_change").json()["inputs"]
    assert {"type": "string", "contentEncoding": "binary", "contentMediaType": "application/vnd.laszip"} in inputs[
        "pre"
    ]["schema"]["oneOf"]
    assert [inputs[name]["minOccurs"] for name in ("pre", "shx", "prj", "cell")] == [1, 1, 0, 0]
    assert inputs["cell"]["schema"] == {"type": "number", "minimum": 0, "exclusiveMinimum": True, "nullable": True}
    assert inputs["registration"]["schema"]["enum"] == ["auto", "none", "open3d"]
    assert inputs["images"]["schema"] == {"type": "boolean", "default": True}


def test_a_process_that_is_not_there_is_told_in_the_words_of_the_standard(client: TestClient) -> None:
    for answer in (client.get("/ogc/processes/x"), client.post("/ogc/processes/x/execution", json={})):
        check(answer.json(), "exception")
        assert (answer.status_code, answer.json()["type"]) == (404, f"{EXCEPTIONS}/no-such-process")
        assert answer.json()["code"] == "PIPELINE_NOT_FOUND"


def test_the_api_is_defined_in_openapi_3_0_with_the_standards_names(client: TestClient) -> None:
    answer = client.get("/ogc/api")
    assert answer.headers["content-type"] == "application/vnd.oai.openapi+json;version=3.0"
    said = answer.json()
    assert said["openapi"].startswith("3.0")
    assert said["servers"] == [{"url": "http://volcal.test/ogc"}]
    assert set(said["paths"]) == {
        "/", "/conformance", "/api", "/processes", "/processes/{processID}", "/processes/{processID}/execution",
        "/jobs", "/jobs/{jobID}", "/jobs/{jobID}/results", "/jobs/{jobID}/results/{outputID}",
    }  # fmt: skip
    assert said["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_the_definition_says_nothing_that_openapi_3_0_does_not_know() -> None:
    def keys(tree: Any) -> set[str]:
        if isinstance(tree, dict):
            return {key for key in tree if key != "example"} | {
                name for key, below in tree.items() if key not in {"example", "examples"} for name in keys(below)
            }
        return {name for below in tree for name in keys(below)} if isinstance(tree, list) else set()

    said = definition(create_app().openapi(), "http://volcal.test/ogc")
    assert keys(said).isdisjoint({"const", "prefixItems", "$defs", "patternProperties", "propertyNames", "if"})
    assert '"null"' not in str(said).replace("'", '"')


BAD = [
    ({"input": {}}, "input"),
    ({"inputs": {"nonsense": 1}}, "inputs.nonsense"),
    ({"inputs": {"file": 5}}, "inputs.file"),
    ({"inputs": {"file": {"value": "§"}}}, "inputs.file"),
    ({"inputs": {"file": {"value": "YQ==", "encoding": "rot13"}}}, "inputs.file"),
    ({"inputs": {"file": {"href": 7}}}, "inputs.file"),
    ({"inputs": {}}, "inputs.file"),
    ({"inputs": {"file": "YQ==", "seconds": {"href": "https://example.com/"}}}, "inputs.seconds"),
    ({"inputs": {"file": "YQ==", "seconds": -1}}, "seconds"),
    ({"inputs": {"file": "YQ=="}, "outputs": {"x": {}}}, "outputs.x"),
    ({"inputs": {"file": "YQ=="}, "outputs": {"results": {"format": {"mediaType": "text/xml"}}}}, "outputs.results"),
    ({"inputs": {"file": "YQ=="}, "response": "both"}, "response"),
    ({"inputs": {"file": "YQ=="}, "outputs": {"results": {"transmissionMode": "fax"}}}, "transmissionMode"),
    ([], "body"),
]


@pytest.mark.parametrize(("body", "named"), BAD)
def test_a_request_that_cannot_be_run_names_what_is_wrong(
    client: TestClient, world: World, body: Any, named: str
) -> None:
    answer = client.post("/ogc/processes/constant/execution", json=body)
    said = answer.json()
    check(said, "exception")
    assert (answer.status_code, said["status"], said["type"]) == (400, 400, "InvalidParameterValue")
    assert answer.headers["content-type"] == "application/problem+json"
    assert any(named in problem["field"] for problem in said["problems"])
    assert client.get("/ogc/jobs").json()["jobs"] == []


def test_a_subscriber_inside_is_refused_at_once(client: TestClient) -> None:
    body = {"inputs": {"file": "YQ=="}, "subscriber": {"successUri": "http://169.254.169.254/"}}
    said = client.post("/ogc/processes/constant/execution", json=body).json()
    check(said, "exception")
    assert (said["status"], said["code"]) == (400, "URL_REFUSED")
    assert client.get("/ogc/jobs").json()["jobs"] == []


def test_small_files_may_come_with_the_request(client: TestClient, world: World, good_files: dict[str, bytes]) -> None:
    form = {"mediaType": "text/plain", "encoding": "base64"}
    inputs: dict[str, Any] = {
        "pre": {"value": good_files["pre"].decode(), "mediaType": "text/plain"},
        "post": {"value": base64.b64encode(good_files["post"]).decode(), "format": form},
        "shp": base64.b64encode(good_files["shp"]).decode(),
        "shx": {"value": base64.b64encode(good_files["shx"]).decode(), "mediaType": "application/vnd.shx"},
        "prj": "LOCAL_CS[\"site\"]",
        "min_score": {"value": 0.5},
    }  # fmt: skip
    answer = client.post(
        "/ogc/processes/volume_change/execution", json={"inputs": inputs}, headers={"Prefer": "respond-async"}
    )
    assert answer.status_code == 201, answer.text
    check(answer.json(), "statusInfo")
    assert answer.json()["status"] == "accepted"
    (task_id,) = world.queue.submitted
    task = world.task(task_id)
    assert task.options["min_score"] == 0.5
    files = {upload.label: (upload.filename, upload.size) for upload in task.uploads if upload.state == "finished"}
    assert files["pre"] == ("pre.xyz", len(good_files["pre"]))
    assert files["post"] == ("post.xyz", len(good_files["post"]))
    assert files["prj"][0] == "prj.prj"
    assert set(files) == {"pre", "post", "shp", "shx", "prj"}


def test_a_file_that_is_not_what_its_input_says_fails_the_job(client: TestClient, good_files: dict[str, bytes]) -> None:
    inputs = {label: base64.b64encode(content).decode() for label, content in good_files.items()}
    inputs["shp"] = base64.b64encode(b"no shapefile").decode()
    answer = client.post("/ogc/processes/volume_change/execution", json={"inputs": inputs})
    check(answer.json(), "exception")
    assert (answer.status_code, answer.json()["code"], answer.json()["label"]) == (400, "INPUT_INVALID", "shp")
    (job,) = client.get("/ogc/jobs?status=failed").json()["jobs"]
    check(job, "statusInfo")
    assert "shp" in job["message"] or "shapefile" in job["message"]
