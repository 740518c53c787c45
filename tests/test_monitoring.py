"""Prometheus' rules and Grafana's dashboard speak of figures that exist, and each alert says what to do."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from app.context import Context, Policy
from app.db.migrate import upgrade
from app.db.session import make_engine
from app.main import create_app
from app.storage.local import LocalStore
from app.uploads.tus import TusUploads
from pipeline.registry import CATALOGUE
from tests.queues import RecordingQueue
from tests.servers.base import program

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "docker" / "prometheus"
GRAFANA = ROOT / "docker" / "grafana"
RULES = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"][0]["rules"]
ALERTS = {rule["alert"]: rule for rule in RULES}
DASHBOARD = json.loads((GRAFANA / "dashboards" / "volcal.json").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every family of figures that a gateway tells, and its kind."""
    root = tmp_path_factory.mktemp("figures")
    url = f"sqlite:///{root / 'volcal.db'}"
    upgrade(url)
    store = LocalStore(root / "objects", base_url="http://volcal.test", secret=b"not secret")
    uploads = TusUploads(root / "uploads", store, base_url="http://volcal.test", max_bytes=1 << 30)
    context = Context(make_engine(url), store, RecordingQueue(), uploads, CATALOGUE, Policy(), str(root))
    page = TestClient(create_app(context)).get("/metrics").text
    context.engine.dispose()
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", page, re.M))


def names(expression: str) -> Iterator[str]:
    yield from re.findall(r"\bvolcal_\w+", expression)


def exists(name: str, families: dict[str, str]) -> bool:
    base, _, suffix = name.rpartition("_")
    return name in families or (families.get(base) == "histogram" and suffix in {"bucket", "sum", "count"})


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_an_alert_speaks_of_figures_that_exist(alert: str, families: dict[str, str]) -> None:
    asked = list(names(ALERTS[alert]["expr"]))
    assert asked or "up{" in ALERTS[alert]["expr"]
    assert [name for name in asked if not exists(name, families)] == []


def test_the_dashboard_speaks_of_figures_that_exist(families: dict[str, str]) -> None:
    asked = {name for query in QUERIES for name in names(query)}
    assert len(asked) > 15
    assert sorted(name for name in asked if not exists(name, families)) == []


@pytest.mark.parametrize("alert", sorted(ALERTS))
def test_an_alert_leads_to_what_to_do(alert: str) -> None:
    page, _, anchor = ALERTS[alert]["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.M)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
    assert ALERTS[alert]["labels"]["severity"] in {"critical", "warning"}
    assert ALERTS[alert]["annotations"]["summary"].endswith(".")


def test_nothing_is_said_about_an_alert_that_is_gone() -> None:
    told = re.findall(r"^### Alert (\w+)$", (ROOT / "docs/operations.md").read_text(), re.M)
    assert sorted(told) == sorted(ALERTS)


def test_the_dashboard_is_provisioned_with_the_source_that_it_names() -> None:
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    panels = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/volcal.yml").read_text())["providers"][0]
    assert provider["options"]["path"] in (ROOT / "docker-compose.yml").read_text()


@pytest.fixture
def promtool() -> str:
    return program("promtool")  # of Debian's package prometheus


def test_prometheus_understands_its_configuration_and_every_query(promtool: str, tmp_path: Path) -> None:
    shown = [{"record": f"shown:{number}", "expr": query} for number, query in enumerate(QUERIES)]
    queries = tmp_path / "queries.yml"
    queries.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": shown}]}))
    for what in (["config", PROMETHEUS / "prometheus.yml"], ["rules", PROMETHEUS / "rules.yml"], ["rules", queries]):
        checked = subprocess.run([promtool, "check", *what], capture_output=True, text=True, timeout=60, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


# What is told, a value a minute, and which alert that must raise. Of each pair the second must raise none.
STORIES: list[tuple[str, dict[str, str], dict[str, str]]] = [
    ("DatabaseDown", {'volcal_up{part="database"}': "0x90"}, {'volcal_up{part="database"}': "1x90"}),
    ("NoWorker", {"volcal_workers": "0x90"}, {"volcal_workers": "1x90"}),
    (
        "ReaperSilent",
        {'volcal_sign_seconds{kind="beat",name="b"}': "600x90", 'volcal_up{part="database"}': "1x90"},
        {'volcal_sign_seconds{kind="beat",name="b"}': "5x90", 'volcal_up{part="database"}': "1x90"},
    ),
    ("QueueOld", {"volcal_oldest_pending_seconds": "0+60x90"}, {"volcal_oldest_pending_seconds": "60x90"}),
    (
        "LeaseStale",
        {"volcal_oldest_lease_seconds": "60x90", "volcal_lease_limit_seconds": "15x90"},
        {"volcal_oldest_lease_seconds": "10x90", "volcal_lease_limit_seconds": "15x90"},
    ),
    (
        "DiskLow",
        {"volcal_disk_free_bytes": "600x90", "volcal_disk_wanted_bytes": "512x90"},
        {"volcal_disk_free_bytes": "6000x90", "volcal_disk_wanted_bytes": "512x90"},
    ),
    (
        "TasksFail",
        {
            'volcal_task_transitions_total{before="running",after="error",pipeline="p"}': "0+1x90",
            'volcal_task_transitions_total{before="running",after="done",pipeline="p"}': "0x90",
        },
        {
            'volcal_task_transitions_total{before="running",after="error",pipeline="p"}': "0+1x90",
            'volcal_task_transitions_total{before="running",after="done",pipeline="p"}': "0+3x90",
        },
    ),
    (
        "UploadsStuck",
        {"volcal_uploads_opened_lately": "9x150", 'volcal_uploads_total{outcome="finished"}': "7x150"},
        {"volcal_uploads_opened_lately": "9x150", 'volcal_uploads_total{outcome="finished"}': "7+1x150"},
    ),
    (
        "GatewayFails",
        {
            'volcal_http_request_seconds_count{route="/a",status="500"}': "0+1x90",
            'volcal_http_request_seconds_count{route="/a",status="200"}': "0+9x90",
        },
        {
            'volcal_http_request_seconds_count{route="/a",status="500"}': "0+1x90",
            'volcal_http_request_seconds_count{route="/a",status="200"}': "0+99x90",
        },
    ),
]


@pytest.mark.parametrize(("alert", "bad", "good"), STORIES, ids=[story[0] for story in STORIES])
def test_an_alert_fires_when_it_must_and_only_then(
    promtool: str, tmp_path: Path, alert: str, bad: dict[str, str], good: dict[str, str]
) -> None:
    moment = f"{max(int(v.rpartition('x')[2]) for v in bad.values()) - 1}m"

    def told(series: dict[str, str], alerts: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "interval": "1m",
            "input_series": [{"series": _of(name, instance), "values": values}
                             for name, values in series.items() for instance in ("g1", "g2")],
            "promql_expr_test": [
                {"expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) > 0 or vector(0)',
                 "eval_time": moment, "exp_samples": alerts}
            ],
        }  # fmt: skip

    fires, silent = [{"labels": "{}", "value": 1}], [{"labels": "{}", "value": 0}]
    test = tmp_path / "test.yml"
    cases = [told(bad, fires), told(good, silent)]
    test.write_text(
        json.dumps({"rule_files": [str(PROMETHEUS / "rules.yml")], "evaluation_interval": "1m", "tests": cases})
    )
    checked = subprocess.run([promtool, "test", "rules", test], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def _of(name: str, instance: str) -> str:
    """Return the series of one of two gateways, which tell the same."""
    base, brace, labels = name.partition("{")
    return f'{base}{{instance="{instance}"{"," + labels if brace else "}"}'
