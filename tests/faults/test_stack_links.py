"""What the outside sees of the full stack: links that work from anywhere, errors without entrails, nothing inside."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest

from tests.servers.nginx import Nginx
from tests.servers.stack import FullStack, send

pytestmark = pytest.mark.service

ELSEWHERE = "127.0.0.9"  # another address of loopback: another client
SPOOFED = {
    "Host": "evil.example",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "666",
    "X-Forwarded-Prefix": "/evil",
    "Forwarded": "host=evil.example;proto=https",
    "X-Original-URL": "/evil",
}


@pytest.fixture(scope="module")
def stack() -> Iterator[FullStack]:
    with FullStack() as stack:
        yield stack


@pytest.fixture
def elsewhere() -> Iterator[httpx.Client]:
    """A client at another address."""
    with httpx.Client(transport=httpx.HTTPTransport(local_address=ELSEWHERE), timeout=30) as client:
        yield client


def links(answer: Any) -> list[str]:
    """Return every URL in an answer."""
    return re.findall(r"https?://[^\"\\ ]+", str(answer))


@pytest.mark.case(29)
@pytest.mark.parametrize("path", ["/create_task", "/api/v1/tasks"])
@pytest.mark.parametrize("door", ["nginx", "gateway"])
def test_upload_links_carry_the_public_address_whatever_a_request_claims_and_work_from_elsewhere(
    stack: FullStack, elsewhere: httpx.Client, path: str, door: str
) -> None:
    base = {"nginx": stack.url, "gateway": stack.gateway.url}[door]
    answer = elsewhere.post(f"{base}{path}", headers=SPOOFED)
    assert answer.is_success
    found = [url for url in links(answer.text) if "/files/" in url]
    assert len(found) == 4
    for url in [*found, *links(answer.headers.get("Location", ""))]:
        assert url.startswith(f"{stack.url}/")
    assert "evil" not in answer.text + str(answer.headers)
    assert elsewhere.head(found[0], headers={"Tus-Resumable": "1.0.0"}).status_code == 200


@pytest.fixture(scope="module")
def finished(stack: FullStack) -> str:
    """A task that is done."""
    task_id = stack.submit()
    assert stack.settled(task_id)["status"] == "done"
    return task_id


@pytest.mark.case(29)
def test_result_links_carry_the_public_address_of_the_store_and_work_from_elsewhere(
    stack: FullStack, elsewhere: httpx.Client, finished: str
) -> None:
    for path in (f"/query_task/{finished}", f"/api/v1/tasks/{finished}/artifacts"):
        answer = elsewhere.get(f"{stack.url}{path}", headers=SPOOFED)
        found = [url for url in links(answer.text) if "results.json" in url]
        assert found
        for url in found:
            assert url.startswith(f"{stack.nginx.store_url}/uploads/tasks/{finished}/out/1/")
            assert elsewhere.get(url).json()["answer"] == 42
    redirect = elsewhere.get(f"{stack.url}/api/v1/tasks/{finished}/artifacts/results.json", headers=SPOOFED)
    assert redirect.status_code == 307
    assert redirect.headers["Location"].startswith(f"{stack.nginx.store_url}/uploads/")
    assert elsewhere.get(redirect.headers["Location"]).json()["answer"] == 42


@pytest.mark.case(29)
def test_a_result_link_is_for_one_object_to_read_for_a_quarter_of_an_hour(
    stack: FullStack, elsewhere: httpx.Client, finished: str
) -> None:
    url = elsewhere.get(f"{stack.url}/api/v1/tasks/{finished}/artifacts").json()["artifacts"][0]["url"]
    parts = urlsplit(url)
    assert int(parse_qs(parts.query)["X-Amz-Expires"][0]) <= 900
    for method in ("PUT", "DELETE", "POST"):
        assert elsewhere.request(method, url, content=b"evil").status_code in {403, 405}
    other = url.replace("results.json", "other.json", 1)
    bare, listing = url.partition("?")[0], f"{stack.nginx.store_url}/uploads?list-type=2&{parts.query}"
    for twisted in (other, bare, listing, url.replace("/out/1/", "/in/"), url[:-1] + ("0" if url[-1] != "0" else "1")):
        assert elsewhere.get(twisted).status_code == 403
    assert elsewhere.get(url).json()["answer"] == 42


def test_no_error_shows_entrails(stack: FullStack, finished: str) -> None:
    asked: list[tuple[str, str, Any]] = [
        ("GET", f"/api/v1/tasks/{uuid4()}", None),
        ("GET", "/api/v1/tasks?cursor=%00", None),
        ("GET", f"/api/v1/tasks/{finished}/artifacts/%2e%2e/x", None),
        ("POST", "/api/v1/tasks", {"pipeline": "nothing"}),
        ("POST", "/api/v1/tasks", {"pipeline": "constant", "options": {"seconds": "long"}}),
        ("POST", "/api/v1/tasks", [[[]]]),
        ("POST", f"/api/v1/tasks/{finished}/start", None),
        ("POST", f"/api/v1/tasks/{finished}/uploads/x", None),
        ("PUT", "/create_task", None),
        ("GET", "/nowhere", None),
        ("GET", "/files/x", None),
        ("GET", "/metrics", None),
    ]
    for method, path, body in asked:
        answer = httpx.request(method, f"{stack.url}{path}", json=body, timeout=30, trust_env=False)
        assert 400 <= answer.status_code < 500, path
        for entrails in ("Traceback", 'File "', "sqlalchemy", "psycopg", "botocore", str(stack.folder), "127.0.0.1:"):
            assert entrails not in answer.text.replace(stack.url, ""), (path, answer.text)


@pytest.mark.parametrize(
    "task_id", ["x", "0", "11111111-1111-1111-1111-11111111111", "%0a", "é", "../metrics", "x" * 3000]
)
def test_what_is_no_id_is_not_found_by_the_classic_routes_and_refused_by_the_new_ones(
    stack: FullStack, task_id: str
) -> None:
    assert httpx.get(f"{stack.url}/query_task/{task_id}", timeout=30).status_code == 404
    assert httpx.post(f"{stack.url}/start_task/{task_id}", timeout=30).status_code == 404
    assert httpx.get(f"{stack.url}/api/v1/tasks/{task_id}", timeout=30).status_code in {404, 422}
    assert httpx.delete(f"{stack.url}/api/v1/tasks/{task_id}", timeout=30).status_code in {404, 405, 422}


def test_the_documentation_shows_no_route_of_the_inside(stack: FullStack) -> None:
    paths = httpx.get(f"{stack.url}/openapi.json", timeout=30).json()["paths"]
    assert "/create_task" in paths
    assert [path for path in paths if re.search("tusd|metrics|internal|debug", path)] == []
    for path in ("/tusd_hook", "/metrics", "/tusd_hook?secret=x"):
        assert httpx.get(f"{stack.url}{path}", timeout=30).status_code == 404


def test_who_creates_too_many_tasks_is_told_when_to_come_back_and_others_are_not_touched(
    stack: FullStack, elsewhere: httpx.Client
) -> None:
    with Nginx(gateway=stack.gateway.port, tusd=stack.tusd.port, store=stack.minio.port, rate="60r/m", burst=3) as door:

        def create(_: int) -> httpx.Response:
            return httpx.post(f"{door.url}/create_task", timeout=60, trust_env=False)

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(create, range(20)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert {answer.status_code for answer in answers} == {200, 429}
        assert len(refused) >= 10
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
        assert httpx.get(f"{door.url}/livez", timeout=30, trust_env=False).status_code == 200
        assert elsewhere.post(f"{door.url}/create_task").status_code == 200  # each address has a budget of its own
        url = answers[0].json()["upload_urls"]["pre"].replace(stack.url, door.url)
        assert send(url, b"x").status_code == 204  # what was begun goes on
