"""What holds for every route: errors, headers, limits, logs, documentation, health."""

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.api import classic
from app.db.session import make_engine
from app.main import create_app
from pipeline.images import PIPELINES


class TestHealth:
    def test_the_root_leads_to_the_documentation(self, client: TestClient) -> None:
        response = client.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
        assert (response.status_code, response.headers["location"]) == (307, "/docs")
        assert client.get("/").status_code == 307

    def test_a_machine_that_wants_json_is_told_who_this_is(self, client: TestClient) -> None:
        banner = client.get("/", headers={"Accept": "application/json"}).json()
        assert (banner["service"], banner["status"]) == ("volcal", "running")

    def test_the_process_lives_even_without_a_database(self, world: Any, tmp_path: Path) -> None:
        broken = replace(world.context, engine=make_engine(f"sqlite:///{tmp_path / 'empty.db'}"))
        client = TestClient(create_app(broken))
        assert client.get("/livez").json() == {"status": True}
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()["status"]) == (503, [])
        assert "volcal db upgrade" in answer.json()["problems"][0]
        broken.engine.dispose()

    def test_a_ready_service_lists_what_it_can_run(self, client: TestClient) -> None:
        answer = client.get("/readyz")
        assert answer.status_code == 200
        images = answer.json()["images"]
        assert images == sorted(PIPELINES)
        assert answer.json()["status"] == sorted({"constant", "four", "volume_change", *images})
        assert answer.json()["problems"] == []

    def test_a_full_disk_and_a_lost_folder_are_said(self, world: Any) -> None:
        full = world.with_policy(min_free_bytes=1 << 62)
        answer = TestClient(create_app(full.context)).get("/readyz")
        assert answer.status_code == 503
        assert "MiB of disk are free" in answer.json()["problems"][0]
        lost = replace(world.context, data_dir=str(world.root / "nowhere"))
        answer = TestClient(create_app(lost)).get("/readyz")
        assert answer.json()["problems"] == ["the data folder cannot be written (No such file or directory)"]

    def test_nothing_on_this_machine_needs_no_disk(self, world: Any) -> None:
        far = replace(world.context, data_dir=None)
        assert TestClient(create_app(far)).get("/readyz").status_code == 200

    @pytest.mark.service
    def test_a_database_that_is_away_is_said_and_others_hear_to_try_again(self, world: Any) -> None:
        away = replace(world.context, engine=make_engine("postgresql://nobody@127.0.0.1:1/volcal"))
        client = TestClient(create_app(away), raise_server_exceptions=False)
        assert client.get("/livez").status_code == 200
        assert "the database does not answer" in client.get("/readyz").json()["problems"][0]
        answer = client.post("/create_task")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert client.get("/api/v1/tasks").json()["code"] == "UNAVAILABLE"


class TestErrors:
    def test_an_unknown_route_is_told_in_the_words_of_its_surface(self, client: TestClient) -> None:
        assert client.get("/nothing").json() == {"detail": "Not Found"}
        assert client.get("/api/v1/nothing").json()["code"] == "NOT_FOUND"
        assert client.put("/create_task").status_code == 405
        refused = client.put("/api/v1/tasks")
        assert (refused.json()["code"], refused.headers["allow"]) == ("METHOD_NOT_ALLOWED", "GET, POST")

    def test_a_body_that_is_no_text_is_malformed_like_one_that_is_no_json(self, client: TestClient) -> None:
        headers = {"Content-Type": "application/json"}
        for body in (b'"\xff"', b"{"):
            answer = client.post("/api/v1/tasks", content=body, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")

    def test_a_defect_shows_no_trace_of_the_code(
        self, world: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("secret detail")

        monkeypatch.setattr("app.services.tasks.create_task", broken)
        client = TestClient(create_app(world.context), raise_server_exceptions=False)
        with caplog.at_level(logging.ERROR):
            old, new = client.post("/create_task"), client.post("/api/v1/tasks")
        assert (old.status_code, new.status_code, new.json()["code"]) == (500, 500, "INTERNAL")
        assert re.fullmatch("[0-9a-f]{32}", new.headers["x-request-id"])
        assert new.headers["x-request-id"] in [vars(record).get("request_id") for record in caplog.records]
        assert "secret detail" not in old.text + new.text
        assert "secret detail" in caplog.text

    def test_a_full_disk_is_said(self, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(world.context.uploads, "open", full)
        client = TestClient(create_app(world.context), raise_server_exceptions=False)
        assert client.post("/create_task").status_code == 507
        assert client.post("/api/v1/tasks").json()["code"] == "STORAGE"

    @pytest.mark.parametrize("path", ["/create_task", "/api/v1/tasks", "/tusd_hook", "/start_task/x"])
    def test_a_body_of_more_than_a_mebibyte_is_refused(self, client: TestClient, path: str) -> None:
        assert client.post(path, content=b"x" * ((1 << 20) + 1)).status_code == 413

        def chunks() -> Iterator[bytes]:
            yield from [b"x" * 65_536] * 20

        assert client.post(path, content=chunks()).status_code == 413
        assert client.post(path, content=b"", headers={"Content-Length": "9" * 30}).status_code == 413

    @pytest.mark.parametrize(
        "headers",
        [
            {"Content-Type": "\xff/\xfe"},
            {"Content-Length": "-1"},
            {"Content-Length": "²"},
            {"Accept": "x" * 10_000},
            {"Authorization": "\xff" * 100},
            {"X-Request-ID": "\r\n injected"},
            {"Range": "bytes=9-1"},
            {"Cookie": "\x01=\x02"},
            {"Content-Encoding": "gzip"},
            {"Transfer-Encoding": "nonsense"},
        ],
    )
    @pytest.mark.parametrize("path", ["/", "/readyz", "/api/v1/tasks", "/query_task/x", "/docs", "/objects/x"])
    def test_odd_headers_never_break_a_route(self, client: TestClient, path: str, headers: dict[str, str]) -> None:
        raw = {name: value.encode("latin-1", "replace") for name, value in headers.items()}
        assert client.get(path, headers=raw).status_code < 500
        assert client.post(path, headers=raw, content=b"{}").status_code < 500


class TestAround:
    def test_every_answer_has_an_id_and_a_line_of_log(
        self, client: TestClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, logger="volcal.requests"):
            answer = client.get("/query_task/x?secret=hush", headers={"X-Request-ID": "abc-1"})
        assert answer.headers["x-request-id"] == "abc-1"
        (line,) = [vars(record) for record in caplog.records if record.name == "volcal.requests"]
        assert (line["method"], line["path"], line["task_id"]) == ("GET", "/query_task/x", "x")
        assert line["status"] == 404
        assert "hush" not in caplog.text

    @pytest.mark.parametrize("given", ["", "a b", "x" * 65, "{}"])
    def test_an_id_that_could_harm_a_log_is_replaced(self, client: TestClient, given: str) -> None:
        assert re.fullmatch(
            "[0-9a-f]{32}", client.get("/livez", headers={"X-Request-ID": given}).headers["x-request-id"]
        )

    def test_browsers_are_told_to_be_careful(self, client: TestClient) -> None:
        for path in ("/livez", "/docs", "/nothing", "/api/v1/tasks"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert "default-src 'none'" in headers["content-security-policy"]
        assert client.get("/query_task/x").headers["cache-control"] == "no-store"

    def test_a_report_keeps_its_own_rules(self, client: TestClient, world: Any) -> None:
        (source := world.root / "r").write_text("<html></html>")
        world.context.store.put("tasks/1/out/1/report.html", source)
        url = world.context.store.url("tasks/1/out/1/report.html", expires_s=60)
        policy = client.get(url.replace("http://volcal.test", "")).headers["content-security-policy"]
        assert "sandbox" in policy

    def test_an_application_can_be_described_without_being_built(self) -> None:
        app = create_app()
        assert app.state.context is None
        assert app.openapi()["info"]["title"] == "Volcal"


class TestDocumentation:
    def test_the_page_and_all_it_loads_come_from_this_host(self, client: TestClient) -> None:
        page = client.get("/docs").text
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
        assert len(loaded) >= 3
        assert [link for link in loaded if not link.startswith(("/", "data:"))] == []
        assert re.findall(r"https?://(?!www\.w3\.org/)[^\"' ]+", page) == []
        for link in loaded:
            if link.startswith("/"):
                assert client.get(link).status_code == 200

    def test_the_classic_routes_come_first(self, client: TestClient) -> None:
        schema = client.get("/openapi.json").json()
        assert list(schema["paths"])[:3] == ["/create_task", "/start_task/{task_id}", "/query_task/{task_id}"]
        assert schema["tags"][0]["name"] == "compat"

    def test_every_route_is_tagged_and_explained(self, client: TestClient) -> None:
        schema = client.get("/openapi.json").json()
        known = {tag["name"] for tag in schema["tags"]}
        for path, methods in schema["paths"].items():
            for method, route in methods.items():
                assert set(route["tags"]) <= known, (method, path)
                assert route["tags"], (method, path)
                assert route["summary"], (method, path)
                assert route["description"], (method, path)

    def test_the_examples_are_what_the_service_would_say(self, client: TestClient) -> None:
        answers = client.get("/openapi.json").json()["paths"]["/query_task/{task_id}"]["get"]["responses"]["200"]
        for example in answers["content"]["application/json"]["examples"].values():
            assert classic.Answer.model_validate(example["value"]).model_dump(mode="json") == example["value"]

    def test_errors_of_the_new_surface_are_shown_by_example(self, client: TestClient) -> None:
        paths = client.get("/openapi.json").json()["paths"]
        start = paths["/api/v1/tasks/{task_id}/start"]["post"]["responses"]["409"]
        examples = start["content"]["application/problem+json"]["examples"]
        assert set(examples) == {"INPUTS_MISSING", "ILLEGAL_TRANSITION"}
        assert "HTTPValidationError" not in client.get("/openapi.json").text
        assert examples["INPUTS_MISSING"]["value"]["missing"] == ["shp", "shx"]


def test_the_type_of_a_problem_leads_to_its_explanation(client: TestClient) -> None:
    kind = client.get("/api/v1/pipelines/x").json()["type"]
    page, _, anchor = kind.partition("#")
    assert f"id={anchor}>" in client.get(page).text


def test_every_code_of_the_page_is_in_the_documents(client: TestClient) -> None:
    shown = re.findall(r"<code>([A-Z_]+)</code>", client.get("/docs/errors").text)
    written = (Path(__file__).parents[3] / "docs/errors.md").read_text()
    assert len(shown) > 25
    assert [code for code in shown if f"`{code}`" not in written] == []


@pytest.mark.service
def test_the_gateway_works_on_postgresql_too(postgres_world: Any) -> None:
    with TestClient(create_app(postgres_world.context)) as client:
        assert client.get("/readyz").status_code == 200
        task = client.post("/create_task").json()
        assert client.get(f"/query_task/{task['id']}").json()["status"] == "waiting"
        assert client.post("/api/v1/tasks", json={"name": "x\u0000"}).status_code == 422
        assert client.get("/api/v1/tasks", params={"pipeline": "\x00"}).status_code == 404
        assert len(client.get("/api/v1/tasks").json()["tasks"]) == 1
        with postgres_world.context.engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM uploads")).scalar() == 4
