"""What people see in a browser: the API's page of a real gateway, and a report that is opened from a disk.

Debian's Chromium shows both. A report is measured inside a frame as wide as the screen in question, because the
browser's own windows are at least 500 pixels wide.
"""

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.volume_change.output.present import present
from tests.pipeline.volume_change.output.synthetic import Bump, Site, make_analysis

if TYPE_CHECKING:
    from tests.e2e.conftest import Gateway

pytestmark = pytest.mark.service
QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
LARGE = Site(
    changes=(Bump(2600, 2600, 1500, 23.5), Bump(5600, 5600, 900, -31.5)), width=8000, height=8000, cell=20, scale=60,
    names=("quarry_north_2015-04-01_classified.laz", "quarry_north_2023-04-01_classified.laz"),
)  # fmt: skip
# Runs at the end of the report: what went wrong until then, what opens, and what does not fit.
PROBE = """<script>
addEventListener("load", async () => {
  const said = { errors: window.wrongs, undecoded: 0, pictures: document.images.length };
  for (const image of document.images) {
    image.loading = "eager";
    if (!image.complete) await new Promise((done) => { image.onload = image.onerror = done; });
    const bitmap = await createImageBitmap(image).catch(() => null);
    if (!bitmap || bitmap.width < 300) said.undecoded += 1;
  }
  const root = document.documentElement;
  said.width = innerWidth;
  said.overflow = root.scrollWidth - root.clientWidth;
  said.boxes = [...document.querySelectorAll(".wide")].map((box) => box.scrollWidth - box.clientWidth);
  said.hulls = document.querySelectorAll("thead ~ tbody tr").length;
  parent.postMessage(JSON.stringify(said), "*");
});
</script>"""
CATCH = """<script>
window.wrongs = [];
addEventListener("error", (event) => window.wrongs.push(String(event.message || event.target.src).slice(0, 200)), true);
addEventListener("unhandledrejection", (event) => window.wrongs.push(String(event.reason)));
</script>"""


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None and "CI" in os.environ:
        pytest.fail("chromium is not installed, and CI must not skip this")
    if found is None:
        pytest.skip("chromium is not installed")
    return found


def browse(chromium: str, folder: Path, url: str, *more: str) -> str:
    """Return the page that a fresh browser has made of a URL."""
    command = [chromium, *QUIET, f"--user-data-dir={folder / 'profile'}", *more]
    shown = subprocess.run(
        [*command, "--virtual-time-budget=20000", "--dump-dom", url], capture_output=True, text=True, timeout=120
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


# The API's page


def asked_for(log: Path, origin: str) -> set[str]:
    """Return the URLs that pages of an origin asked for, from the browser's own record."""
    record = json.loads(log.read_text())
    starts = {record["constants"]["logEventTypes"][name] for name in ("URL_REQUEST_START_JOB",)}
    params = [event.get("params", {}) for event in record["events"] if event["type"] in starts]
    return {str(each["url"]) for each in params if each.get("initiator") == origin}


def test_the_page_of_the_api_lists_the_operations_and_asks_no_other_host(
    chromium: str, tmp_path: Path, shared_gateway: "Gateway"
) -> None:
    log = tmp_path / "net.json"
    page = browse(chromium, tmp_path, f"{shared_gateway.url}/docs", f"--log-net-log={log}")
    operations = set(re.findall(r'data-path="([^"]+)"', page))
    assert {"/create_task", "/start_task/{task_id}", "/query_task/{task_id}", "/api/v1/tasks"} <= operations
    asked = asked_for(log, shared_gateway.url)
    assert f"{shared_gateway.url}/openapi.json" in asked
    assert {url for url in asked if not url.startswith((f"{shared_gateway.url}/", "data:"))} == set()


# The report


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of an ordinary site, and one with the largest figures and names that we can think of."""
    folders = {}
    for name, site in {"ordinary": Site(), "large": LARGE}.items():
        folders[name] = tmp_path_factory.mktemp(name)
        present(
            make_analysis(site), folders[name], images=True, max_hull_images=2, params={"cell": None},
            timings={"reading": 1.0}, report=lambda _fraction, _stage: None,
        )  # fmt: skip
    return folders


def measured(chromium: str, folder: Path, report: Path, width: int) -> Any:
    """Open a report from the disk on a screen of some width, and return what the probe says."""
    page = (report / "report.html").read_text()
    assert page.count("<head>") == page.count("</body>") == 1
    (folder / "report.html").write_text(page.replace("<head>", f"<head>{CATCH}").replace("</body>", f"{PROBE}</body>"))
    frame = folder / "frame.html"
    frame.write_text(
        f'<!doctype html><body style="margin:0"><pre id="said"></pre><script>addEventListener("message", (event) => '
        f'{{ document.getElementById("said").textContent = event.data; }});</script>'
        f'<iframe src="report.html" style="border:0;width:{width}px;height:900px"></iframe></body>'
    )
    shown = browse(chromium, folder, frame.as_uri(), f"--window-size={width + 100},900")
    said = re.search(r'<pre id="said">(.+?)</pre>', shown)
    assert said is not None, shown
    found = json.loads(unescape(said[1]))
    assert found["width"] == width
    return found


@pytest.mark.parametrize("site", ["ordinary", "large"])
@pytest.mark.parametrize("width", [390, 900, 1100])
def test_a_report_opens_from_the_disk_and_fits_the_screen(
    chromium: str, tmp_path: Path, reports: dict[str, Path], site: str, width: int
) -> None:
    found = measured(chromium, tmp_path, reports[site], width)
    assert found["errors"] == []
    assert (found["pictures"], found["undecoded"]) == (3, 0)
    assert found["hulls"] > 0
    assert found["overflow"] <= 0
    if width >= 900:
        assert max(found["boxes"]) <= 0
