"""Traces: a collector on loopback hears that one task is one trace; without a collector nothing is imported."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.observe import tracing
from tests.app.observe.test_service import PATIENCE_S, run_one, volcal, wait_for

trace_service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
pytest.importorskip("opentelemetry.sdk")

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """An OTLP/HTTP collector that remembers every span."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        hears = self._hear

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hears(self.path, self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _hear(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        message = trace_service.ExportTraceServiceRequest.FromString(body)
        for resource in message.resource_spans:
            of = {each.key: each.value.string_value for each in resource.resource.attributes}
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                about = {a.key: a.value.string_value or a.value.int_value for a in span.attributes}
                self.spans.append({
                    "service": of["service.name"],
                    "name": span.name,
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "links": [link.trace_id.hex() for link in span.links],
                    "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    "about": about,
                    "failed": span.status.code == 2,
                })  # fmt: skip

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    yield found
    found.close()


@pytest.fixture
def tracer(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    tracing.start("volcal-test")
    yield tracing.active()
    tracing.stop()
    assert tracing.active() is None


@pytest.mark.service
def test_a_task_is_one_trace_from_its_creation_to_its_last_stage(collector: Collector, tmp_path: Path) -> None:
    process = volcal(
        tmp_path / "data", "up", "--port", "0", "--data", str(tmp_path / "data"),
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="200",
    )  # fmt: skip
    try:
        said = tmp_path / "data.out"
        wait_for(lambda: "Ctrl-C" in said.read_text() or process.poll() is not None, "the service")
        url = next(line.split()[-1] for line in said.read_text().splitlines() if "API docs" in line)
        url = url.removesuffix("/docs")
        task = run_one(url)
        httpx.get(f"{url}/api/v1/tasks/{task['id']}", headers={"traceparent": CALLER}, timeout=30)
        httpx.get(f"{url}/readyz", timeout=30)

        def heard() -> bool:
            names = [span["name"] for span in collector.spans]
            return "run constant" in names and any(span["trace"] == CALLER.split("-")[1] for span in collector.spans)

        wait_for(heard, "the spans")
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)
    trace = UUID(task["id"]).hex
    mine = {span["name"]: span for span in collector.spans if span["trace"] == trace}
    root = mine["POST /api/v1/tasks"]
    assert (root["parent"], root["span"]) == ("", trace[16:])
    assert root["about"]["volcal.request_id"] == "the-creation"
    (sent,) = [span for name, span in mine.items() if name.startswith("PATCH /files/")]
    run = mine["run constant"]
    assert sent["parent"] == run["parent"] == root["span"]
    assert (root["service"], run["service"]) == ("volcal-serve", "volcal-work")
    assert {name for name, span in mine.items() if span["parent"] == run["span"]} >= {"fetching", "working", "storing"}
    assert run["about"]["volcal.outcome"] == "done"
    (called,) = [span for span in collector.spans if span["trace"] == CALLER.split("-")[1]]
    assert (called["parent"], called["links"]) == (CALLER.split("-")[2], [trace])
    assert not any("/readyz" in span["name"] for span in collector.spans)
    assert sent["about"]["url.path"].endswith("…")  # who knows an upload's id may write to it


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    ours = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")} | variables
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=ours, check=False
    )


def test_a_failed_request_without_a_task_has_a_trace_of_its_own(tracer: Any, collector: Collector) -> None:
    tracer.request("GET /x", (1.0, 3.5), {"http.route": "/x"}, task="no task's id", caller="00-0-0-00", failed=True)
    tracer.request("GET /y", (1.0, 3.5), {})
    tracer.flush()
    one, other = collector.spans
    assert one["trace"] != other["trace"]
    assert (one["parent"], one["failed"], one["seconds"], other["failed"]) == ("", True, 2.5, False)


def test_a_caller_of_whoever_creates_a_task_is_linked(tracer: Any, collector: Collector) -> None:
    task = "0af76519-16cd-43dd-8448-eb211c80319d"
    tracer.request("POST /create_task", (1.0, 2.0), {}, task=task, created=True, caller=CALLER)
    tracer.request("GET /z", (1.0, 2.0), {})
    tracer.flush()
    root, other = collector.spans
    assert (root["trace"], root["span"]) == (UUID(task).hex, UUID(task).hex[16:])
    assert root["links"] == [CALLER.split("-")[1]]
    assert other["trace"] != root["trace"]


def test_a_collector_that_is_away_keeps_nobody_waiting_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import logging; from app.observe import logs, tracing; logs.set_up(form='json'); tracing.start('x'); "
        "tracing.active().request('GET /', (1.0, 2.0), {}); print('over')"
    )
    ended = python(code, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert (ended.returncode, ended.stdout) == (0, "over\n")
    assert "Traceback" not in ended.stderr


def test_without_a_collector_nothing_is_imported() -> None:
    code = (
        "import sys; from app.observe import tracing; tracing.start('x'); import app.main; "
        "assert tracing.active() is None; print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    )
    ended = python(code)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


def test_without_the_packages_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    tracing.start("x")
    assert tracing.active() is None
    assert "volcal-server[otel]" in caplog.text
