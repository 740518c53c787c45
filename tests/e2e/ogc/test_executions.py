"""Processes run by clients of the standard, through real HTTP, a real worker and a real reaper."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from owslib.ogcapi.processes import Processes

from tests.app.api.ogc.standard import check
from tests.e2e.ogc.conftest import PATIENCE_S
from tests.receivers import Receiver

pytestmark = pytest.mark.service

ASYNC = {"Prefer": "respond-async"}


def once(look: Callable[[], Any]) -> Any:
    """Return the first true answer."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def status(client: httpx.Client, job: str) -> str:
    said = client.get(f"/jobs/{job}").json()
    check(said, "statusInfo")
    return str(said["status"])


@pytest.fixture(scope="module")
def surveys(samples_url: str) -> dict[str, Any]:
    """The inputs of a run on the bundled sample, all by reference."""
    names = {"pre": "pre_2015.laz", "post": "post_2023.laz"}
    names |= {part: f"stable_area.{part}" for part in ("shp", "shx", "dbf", "prj")}
    files: dict[str, Any] = {label: {"href": f"{samples_url}/{name}"} for label, name in names.items()}
    files["pre"]["type"] = files["post"]["type"] = "application/vnd.laszip"
    return {**files, "max_hull_images": 1}


def test_a_sample_is_run_by_reference_and_its_totals_and_files_come_back(
    ogc: httpx.Client, surveys: dict[str, Any]
) -> None:
    outputs = {"totals": {}, "hulls": {}, "results": {}, "difference": {"transmissionMode": "reference"}}
    answer = ogc.post(
        "/processes/volume_change/execution", json={"inputs": surveys, "outputs": outputs, "response": "document"}
    )
    assert answer.status_code == 200, answer.text
    said = answer.json()
    check(said, "results")
    document = said["results"]["value"]
    assert document["parameters"]["max_hull_images"] == 1
    assert document["hulls"]
    assert said["totals"]["value"] == document["totals"]
    assert len(said["hulls"]["value"]["features"]) == len(document["hulls"])
    assert httpx.get(said["difference"]["href"]).content[:4] in {b"II*\0", b"II+\0"}
    (monitor,) = [link for link in answer.headers.get_list("link", split_commas=True) if "rel=monitor" in link]
    job = monitor[1:].partition(">")[0]
    check(ogc.get(job).json(), "statusInfo")
    assert ogc.get(job).json()["status"] == "successful"
    report = ogc.get(f"{job}/results/report")
    assert report.headers["content-type"].startswith("text/html")
    assert report.text.startswith("<!")


def test_a_link_that_leads_nowhere_fails_the_job_and_names_the_input(
    ogc: httpx.Client, surveys: dict[str, Any]
) -> None:
    inputs = surveys | {"post": {"href": surveys["post"]["href"] + "x"}}
    job = ogc.post("/processes/volume_change/execution", json={"inputs": inputs}, headers=ASYNC).json()["jobID"]
    once(lambda: status(ogc, job) == "failed")
    said = ogc.get(f"/jobs/{job}/results")
    check(said.json(), "exception")
    assert (said.status_code, said.json()["label"]) == (400, "post")


def test_a_file_of_the_inside_is_refused_at_once(ogc: httpx.Client, surveys: dict[str, Any]) -> None:
    inputs = surveys | {"pre": {"href": "http://169.254.169.254/latest/meta-data"}}
    said = ogc.post("/processes/volume_change/execution", json={"inputs": inputs}, headers=ASYNC)
    check(said.json(), "exception")
    assert (said.status_code, said.json()["code"]) == (400, "URL_REFUSED")


def test_a_client_that_prefers_it_gets_a_job_and_follows_it(ogc: httpx.Client) -> None:
    body = {"inputs": {"message": "hello"}, "outputs": {"message": {}}}
    answer = ogc.post("/processes/echo/execution", json=body, headers=ASYNC)
    check(answer.json(), "statusInfo")
    assert (answer.status_code, answer.headers["preference-applied"]) == (201, "respond-async")
    job = answer.headers["location"]
    once(lambda: ogc.get(job).json()["status"] == "successful")
    links = {link["rel"]: link["href"] for link in ogc.get(job).json()["links"]}
    assert ogc.get(links["http://www.opengis.net/def/rel/ogc/1.0/results"]).text == "hello"
    assert answer.json()["jobID"] in {each["jobID"] for each in ogc.get("/jobs?type=process").json()["jobs"]}


def test_who_waits_only_a_while_gets_the_result_or_the_job(ogc: httpx.Client) -> None:
    body = {"inputs": {"message": "hello"}, "outputs": {"message": {}}}
    quick = ogc.post("/processes/echo/execution", json=body, headers={"Prefer": "respond-async, wait=50"})
    assert (quick.status_code, quick.text, quick.headers["preference-applied"]) == (200, "hello", "wait=50")
    body["inputs"]["pause"] = 600  # type: ignore[assignment]
    slow = ogc.post("/processes/echo/execution", json=body, headers={"Prefer": "wait=1"})
    assert (slow.status_code, slow.headers["preference-applied"]) == (201, "wait=1")
    job = slow.json()["jobID"]
    once(lambda: status(ogc, job) == "running")
    assert ogc.get(f"/jobs/{job}/results").json()["type"].endswith("/result-not-ready")
    said = ogc.delete(f"/jobs/{job}").json()
    check(said, "statusInfo")
    assert said["status"] == "dismissed"
    once(lambda: "finished" in ogc.get(f"/jobs/{job}").json())
    assert status(ogc, job) == "dismissed"
    assert ogc.get(f"/jobs/{job}/results").status_code == 410


def test_a_job_tells_its_subscribers(ogc: httpx.Client) -> None:
    with Receiver() as receiver:
        subscriber = {"inProgressUri": f"{receiver.url}/begun", "successUri": f"{receiver.url}/done"}
        body = {"inputs": {"message": "hello"}, "outputs": {"message": {}}, "subscriber": subscriber}
        assert ogc.post("/processes/echo/execution", json=body).text == "hello"
        once(lambda: len(receiver.requests) == 2)
    told = {request.line.split()[1]: json.loads(request.body) for request in receiver.requests}
    assert told["/begun"]["status"] == "running"
    check(told["/done"], "results")
    assert ogc.get(told["/done"]["message"]["href"]).text == "hello"


def test_owslib_runs_a_process(ogc: httpx.Client) -> None:
    client = Processes(str(ogc.base_url))
    assert "http://www.opengis.net/spec/ogcapi-processes-1/1.0/conf/core" in client.conformance()["conformsTo"]
    assert client.api()["openapi"].startswith("3.0")
    assert "volume_change" in {process["id"] for process in client.processes()}
    assert "message" in client.process("echo")["inputs"]
    said = client.execute("echo", inputs={"message": "from OWSLib"}, outputs={"message": {}})
    assert said == {"message": "from OWSLib"}
    job = client.execute("echo", inputs={"message": "later"}, async_=True)
    assert job["status"] in {"accepted", "running", "successful"}
