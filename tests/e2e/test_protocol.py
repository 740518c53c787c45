"""tus 1.0.0 word for word at /files, over HTTP."""

from collections.abc import Iterator

import httpx
import pytest

pytestmark = pytest.mark.service
BODY = {"Content-Type": "application/offset+octet-stream"}
TUS = {"Tus-Resumable": "1.0.0"}
DATA = b"points" * 1000


class Client:
    def __init__(self, gateway: object) -> None:
        self.http = httpx.Client(timeout=30)
        self.slot = gateway.slot()  # type: ignore[attr-defined]
        self.base: str = gateway.url  # type: ignore[attr-defined]

    def patch(self, data: bytes = DATA, offset: int | str = 0, **headers: str) -> httpx.Response:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.patch(
            self.slot.url, content=data, headers={**TUS, **BODY, "Upload-Offset": str(offset), **more}
        )

    def head(self, **headers: str) -> httpx.Response:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.head(self.slot.url, headers={**TUS, **more})


@pytest.fixture
def client(shared_gateway: object) -> Iterator[Client]:
    client = Client(shared_gateway)
    yield client
    client.http.close()


def refused(answer: httpx.Response, status: int, code: str) -> bool:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers["access-control-allow-origin"] == "*"
    return True


def test_the_endpoint_says_what_it_can(client: Client) -> None:
    for url in (f"{client.base}/files", client.slot.url):
        answer = client.http.options(url)
        assert answer.status_code == 204
        assert answer.headers["tus-version"] == "1.0.0"
        assert answer.headers["tus-max-size"] == "40000000"
        assert "creation-defer-length" in answer.headers["tus-extension"]


def test_a_browser_may_send_from_any_page(client: Client) -> None:
    asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "PATCH"}
    answer = client.http.options(client.slot.url, headers=asked)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "PATCH" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in ("tus-resumable", "upload-offset", "upload-length", "content-type"))
    assert "access-control-allow-credentials" not in answer.headers
    shown = client.head().headers["access-control-expose-headers"].lower()
    assert all(name in shown for name in ("upload-offset", "upload-length", "upload-expires"))


def test_pages_elsewhere_may_not_use_the_rest_of_the_service(client: Client) -> None:
    answer = client.http.get(f"{client.base}/livez", headers={"Origin": "https://example.org"})
    assert "access-control-allow-origin" not in answer.headers


def test_another_version_is_refused(client: Client) -> None:
    assert refused(client.patch(Tus_Resumable="0.2.2"), 412, "UPLOAD_VERSION_UNSUPPORTED")
    assert client.http.head(client.slot.url, headers={"Tus-Resumable": "0.2.2"}).status_code == 412
    missing = client.http.patch(client.slot.url, content=DATA, headers={**BODY, "Upload-Offset": "0"})
    assert refused(missing, 412, "UPLOAD_VERSION_UNSUPPORTED")
    assert client.http.head(client.slot.url).headers["upload-offset"] == "0"


def test_another_content_type_is_refused(client: Client) -> None:
    assert refused(client.patch(Content_Type="application/octet-stream"), 415, "UPLOAD_CONTENT_TYPE")
    assert client.head().headers["upload-offset"] == "0"


def test_another_offset_is_refused(client: Client) -> None:
    answer = client.patch(offset=7)
    assert refused(answer, 409, "UPLOAD_OFFSET_MISMATCH")
    assert answer.json()["offset"] == 0
    assert client.head().headers["upload-offset"] == "0"


def test_a_large_refused_body_does_not_hide_why(client: Client) -> None:
    assert refused(client.patch(bytes(20_000_000), offset=7), 409, "UPLOAD_OFFSET_MISMATCH")


@pytest.mark.parametrize("value", ["-1", "1.5", "x", "", "٣", "1" * 40, "0x10"])
def test_a_header_that_counts_no_bytes_is_refused(client: Client, value: str) -> None:
    sent = value.encode()
    for name in ("Upload-Offset", "Upload-Length"):
        headers = {**TUS, **BODY, "Upload-Offset": b"0", name: sent}
        answer = client.http.patch(client.slot.url, content=b"x", headers=headers)
        assert refused(answer, 400, "UPLOAD_HEADER_INVALID")


def test_a_missing_offset_is_refused(client: Client) -> None:
    answer = client.http.patch(client.slot.url, content=b"x", headers={**TUS, **BODY})
    assert refused(answer, 400, "UPLOAD_HEADER_INVALID")


def test_the_length_may_be_repeated_but_not_changed(client: Client) -> None:
    assert client.head(Upload_Length="6000").headers["upload-length"] == "6000"
    assert client.patch(DATA[:10], 0, Upload_Length="6000").status_code == 204
    assert refused(client.patch(DATA[10:20], 10, Upload_Length="6001"), 400, "UPLOAD_HEADER_INVALID")
    assert client.head(Upload_Length="5").status_code == 400
    assert client.patch(DATA[10:], 10, Upload_Length="6000").headers["upload-offset"] == "6000"


def test_a_piece_longer_than_the_rest_is_refused_before_it_is_read(client: Client) -> None:
    assert client.patch(DATA[:10], 0, Upload_Length="20").status_code == 204
    assert refused(client.patch(DATA[10:21], 10), 413, "UPLOAD_TOO_LARGE")
    assert client.head().headers["upload-offset"] == "10"


@pytest.mark.case(11)
def test_a_finished_upload_takes_nothing_more(client: Client) -> None:
    assert client.patch(Upload_Length=str(len(DATA))).status_code == 204
    assert client.patch(b"", len(DATA)).status_code == 204
    assert refused(client.patch(b"x", len(DATA)), 409, "UPLOAD_CLOSED")
    assert refused(client.patch(DATA, 0), 409, "UPLOAD_OFFSET_MISMATCH")
    answer = client.head()
    assert (answer.headers["upload-offset"], answer.headers["upload-length"]) == ("6000", "6000")


@pytest.mark.case(11)
def test_uploads_are_not_read_or_deleted_here(client: Client) -> None:
    client.patch(Upload_Length=str(len(DATA)))
    for method in ("GET", "DELETE", "PUT"):
        answer = client.http.request(method, client.slot.url, headers=TUS)
        assert answer.status_code == 405
        assert b"points" not in answer.content
    for disguise in ("DELETE", "GET", ""):
        headers = {**TUS, "X-HTTP-Method-Override": disguise}
        assert refused(client.http.post(client.slot.url, headers=headers), 403, "UPLOAD_REFUSED")
    assert client.head().headers["upload-offset"] == "6000"


@pytest.mark.case(7)
def test_nobody_opens_uploads_but_the_service(client: Client) -> None:
    answer = client.http.post(f"{client.base}/files", headers={**TUS, "Upload-Length": "5"})
    assert refused(answer, 403, "UPLOAD_REFUSED")
    assert "create_task" in answer.json()["detail"]


def test_an_unknown_upload_is_not_found(client: Client) -> None:
    client.slot.url = f"{client.base}/files/unknown"
    assert refused(client.patch(), 404, "UPLOAD_NOT_FOUND")
    assert client.head().status_code == 404
    for path in ("..%2f..%2fetc%2fpasswd", "%00", "a" * 200, "x.part"):
        client.slot.url = f"{client.base}/files/{path}"
        assert client.head().status_code == 404


def test_a_replaced_upload_is_gone(client: Client) -> None:
    client.patch(DATA[:10])
    client.http.post(f"{client.base}/api/v1/tasks/{client.slot.task_id}/uploads/file", json={})
    assert refused(client.patch(DATA[10:], 10), 410, "UPLOAD_GONE")
    assert client.head().status_code == 410


@pytest.mark.case(9)
def test_a_cancelled_task_takes_no_more_bytes(client: Client) -> None:
    client.patch(DATA[:10])
    assert client.http.post(f"{client.base}/api/v1/tasks/{client.slot.task_id}/cancel").status_code == 202
    assert refused(client.patch(DATA[10:], 10), 410, "UPLOAD_GONE")
    assert client.head().status_code == 410


def test_head_by_post_answers_like_head(client: Client) -> None:
    client.patch(DATA[:10])
    answer = client.http.post(client.slot.url, headers={**TUS, "X-HTTP-Method-Override": "HEAD"})
    assert answer.status_code == 200
    assert answer.headers["upload-offset"] == "10"


def test_an_upload_says_when_it_expires(client: Client) -> None:
    assert client.head().headers["upload-expires"].endswith("GMT")
    assert client.patch(DATA[:10]).headers["upload-expires"].endswith("GMT")
