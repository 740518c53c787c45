"""`volcal demo` as a stranger types it: it shows the whole service and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.service
VOLCAL = Path(sys.executable).with_name("volcal")


def start(folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    (folder / "tmp").mkdir()
    # what this machine is configured for must not be touched
    (folder / ".env").write_text("DATABASE_URL=postgresql://nobody@127.0.0.1:9/production\n")
    environment = {**os.environ, "TMPDIR": str(folder / "tmp"), "CELERY_BROKER_URL": "redis://127.0.0.1:9/0"}
    return subprocess.Popen(
        [VOLCAL, "demo"], cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def left_over(folder: Path) -> list[str]:
    """Return the processes that work in a folder, waiting a little for the last of them."""
    deadline = time.monotonic() + 10
    while True:
        found = [
            " ".join(process.info["cmdline"] or [])
            for process in psutil.process_iter(["cmdline", "environ"])
            if str(folder / "tmp") in ((process.info["environ"] or {}).get("TMPDIR") or "")
        ]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def test_the_demo_measures_real_surveys_and_stops_everything(tmp_path: Path) -> None:
    process = start(tmp_path)
    shown, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    document = json.loads((tmp_path / "volcal-demo" / "results.json").read_text())
    assert document["schema"] == "volcal/volume_change/1"
    assert document["hulls"]
    for name in ("report.html", "overview.png", "hulls/1.png", "hulls.geojson", "difference.tif", "changed_points.laz"):
        assert (tmp_path / "volcal-demo" / name).stat().st_size > 0
    assert "total" in shown
    assert "Report:  volcal-demo/report.html" in shown
    assert "uploaded pre_2015.laz" in told
    assert left_over(tmp_path) == []
    assert list((tmp_path / "tmp").glob("volcal-*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_half_way_leaves_nothing_running(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("3."):
            break
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert left_over(tmp_path) == []
    assert list((tmp_path / "tmp").glob("volcal-*")) == []
    assert not (tmp_path / "volcal-demo").exists()
