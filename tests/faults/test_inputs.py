"""Bombs, ruins, mix-ups and oddities through nginx and tusd: each ends in a coded answer, and the worker goes on.

There is no route for photographs yet: what a hostile picture or name could do is tried on the uploads there are.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest
from pyproj import CRS

from benchmarks.scenes import Bump, hills
from pipeline.errors import RegistrationFailed
from pipeline.volume_change.read import read_surveys
from tests.faults.bombs import GOOD, MIB, UTM, WRONG, claiming, megabyte, polyglot, scribbled
from tests.pipeline.formats.files import (
    ORIGIN,
    las_bytes,
    ply_bytes,
    shape_bytes,
    square,
    terrain,
    write,
    xyz_bytes,
)
from tests.receivers import Receiver
from tests.servers.base import wait_for
from tests.servers.stack import SETTLED, FullStack, Part, send

SLACK_MIB = 150  # one look into a file, and what Python keeps; what the bombs claim is 1 GiB and more
HULL_NUMBERS = ("score", "area", "cut_volume", "fill_volume", "net_volume")


@pytest.fixture(scope="module")
def stack() -> Iterator[FullStack]:
    restoring = {"SHAPE_RESTORE_SHX": "YES"}  # what a careless machine could tell GDAL
    with FullStack(VOLCAL_RUN_TIMEOUT_S="300", VOLCAL_RUN_MEMORY_MB="3000", **restoring) as stack:
        yield stack


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=30, trust_env=False)


class Job:
    """A task as the app on the phone makes and follows it."""

    def __init__(self, stack: FullStack) -> None:
        self._stack = stack
        created = httpx.post(f"{stack.url}/create_task", timeout=30, trust_env=False).raise_for_status().json()
        self.id: str = created["id"]
        self.urls: dict[str, str] = created["upload_urls"]

    def send(self, **files: bytes) -> "Job":
        for label, content in files.items():
            assert send(self.urls[label], content).status_code == 204
        return self

    def rename(self, label: str, filename: str) -> None:
        """Open the upload anew, for a file of a name."""
        url = f"{self._stack.url}/api/v1/tasks/{self.id}/uploads/{label}"
        answer = httpx.post(url, json={"filename": filename}, timeout=30, trust_env=False)
        self.urls[label] = answer.raise_for_status().json()["url"]

    def swap(self, label: str, content: bytes) -> None:
        """Replace a file behind the gateway's back, after it was looked at."""
        key = urlsplit(self.urls[label]).path.removeprefix("/files/").partition("+")[0]
        client = self._stack.minio.client()
        client.put_object(Bucket="uploads", Key=key, Body=content)
        client.close()

    def ask(self) -> dict[str, Any]:
        answer = get(f"{self._stack.url}/query_task/{self.id}")
        assert answer.status_code == 200
        return as_the_app_reads_it(answer.text)

    def ended(self) -> dict[str, Any]:
        """Ask until the end, as the app does; each answer on the way has to be readable too."""

        def look() -> dict[str, Any] | None:
            answer = self.ask()
            return answer if answer["status"] in SETTLED else None

        found: dict[str, Any] = wait_for(look, f"the end of task {self.id}", patience_s=290)
        return found

    def refused(self, attempts: int) -> tuple[str, str | None]:
        """Wait for the end in error; return its code and the label that it names."""
        answer = self.ended()
        error = answer["results"]["error"]
        assert (answer["status"], answer["results"]["hulls"]) == ("error", []), answer
        assert error["message"]
        assert error["remedy"]
        assert self._stack.task(self.id)["attempts"] == attempts
        assert get(f"{self._stack.url}/api/v1/tasks/{self.id}/results").status_code == 409
        return error["code"], error["label"]


def strict(text: str) -> Any:
    """Read JSON as the standard has it: without NaN and Infinity, which Python would read."""

    def refuse(word: str) -> NoReturn:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def as_the_app_reads_it(text: str) -> dict[str, Any]:
    """Read an answer by the app's model: ``results`` an object or null, no member of a hull null."""
    answer: dict[str, Any] = strict(text)
    assert isinstance(answer["status"], str)
    assert all(isinstance(label, str) for label in answer["missing"])
    for hull in (answer["results"] or {"hulls": []})["hulls"]:
        assert all(isinstance(hull[name], str) and hull[name] for name in ("id", "image_key", "image_url"))
        assert all(type(hull[name]) in (int, float) and math.isfinite(hull[name]) for name in HULL_NUMBERS)
        assert None not in hull.values()
    return answer


def peak_mib(part: Part) -> float:
    """Return the most memory that a part's processes ever held, added up, MiB."""
    assert part.process is not None
    leader = psutil.Process(part.process.pid)
    statuses = [Path(f"/proc/{one.pid}/status").read_text() for one in (leader, *leader.children(recursive=True))]
    return sum(int(status.split("VmHWM:")[1].split()[0]) for status in statuses if "VmHWM:" in status) / 1024


def takes_the_next_job(stack: FullStack) -> None:
    (worker,) = stack.workers
    task = stack.settled(stack.submit())
    assert (task["status"], task["attempts"]) == ("done", 1)
    assert worker.process is not None
    assert worker.process.poll() is None
    wait_for(lambda: not worker.runs() and not worker.scratch(), "the run to be cleared away")


@pytest.mark.service
@pytest.mark.case(13)
def test_a_megabyte_that_claims_four_thousand_million_points_is_refused_unread_by_gateway_and_worker(
    stack: FullStack,
) -> None:
    bomb = claiming(4_000_000_000)
    (worker,) = stack.workers
    assert 0.5 * MIB < len(bomb) < 2 * MIB
    before = peak_mib(stack.gateway), peak_mib(worker)
    assert Job(stack).send(pre=bomb).refused(attempts=0) == ("INPUT_TOO_LARGE", "pre")
    smuggled = Job(stack).send(pre=megabyte())
    smuggled.swap("pre", bomb)
    # the run has 3000 MiB, and room for what is claimed would take 50 times that
    assert smuggled.send(**{k: GOOD[k] for k in ("post", "shp", "shx")}).refused(attempts=1) == (
        "INPUT_TOO_LARGE",
        "pre",
    )
    takes_the_next_job(stack)
    after = peak_mib(stack.gateway), peak_mib(worker)
    assert max(after[0] - before[0], after[1] - before[1]) < SLACK_MIB


@pytest.mark.service
@pytest.mark.case(14)
def test_a_cut_survey_is_refused_at_once_and_a_ruined_one_by_a_run_that_survives_it(stack: FullStack) -> None:
    cut = Job(stack).send(post=GOOD["post"][: len(GOOD["post"]) * 2 // 3])
    assert cut.refused(attempts=0) == ("INPUT_INVALID", "post")
    ruined = Job(stack).send(**{**GOOD, "post": scribbled()})
    assert ruined.refused(attempts=1) == ("INPUT_INVALID", "post")
    takes_the_next_job(stack)


@pytest.mark.service
@pytest.mark.case(15, 16, 21)
@pytest.mark.parametrize("what", WRONG)
def test_what_is_in_the_wrong_slot_is_named_while_the_other_files_are_still_to_come(
    stack: FullStack, what: str
) -> None:
    files, code, label = WRONG[what]
    before = peak_mib(stack.gateway)
    job = Job(stack).send(**files)
    assert job.refused(attempts=0) == (code, label)
    uploads = stack.task(job.id)["uploads"]
    assert uploads[label]["state"] == "rejected"
    assert {uploads[other]["state"] for other in uploads.keys() - files.keys()} == {"open"}
    assert peak_mib(stack.gateway) - before < SLACK_MIB


@pytest.mark.service
@pytest.mark.case(17)
def test_stable_polygons_where_neither_survey_has_a_point_are_an_error_and_not_a_result_without_hulls(
    stack: FullStack,
) -> None:
    def with_hole(seed: int) -> bytes:
        points = terrain(8000, seed)
        x, y = (points - ORIGIN)[:, :2].T
        return las_bytes(points[~((x > 3) & (x < 22) & (y > 3) & (y < 22))], crs=UTM)

    shp, shx = shape_bytes([[square(ORIGIN[0] + 7, ORIGIN[1] + 7, 11)]])
    job = Job(stack).send(pre=with_hole(1), post=with_hole(2), shp=shp, shx=shx)
    assert job.refused(attempts=1) == ("STABLE_AREA_EMPTY", "shp")


def escaped(stack: FullStack) -> list[str]:
    """Return what a hostile name would have made: below the data folders of all our parts, or beside and above them."""
    inside = [f"{folder}/{name}" for folder, names, files in os.walk(stack.folder) for name in names + files]
    around = [str(path) for folder in (stack.folder.parent, Path("/"), Path.cwd()) for path in folder.iterdir()]
    return [path for path in inside + around if "escaped" in path]


@pytest.mark.service
@pytest.mark.case(15, 18, 21)
def test_two_equal_surveys_have_not_changed_whatever_their_files_are_called(stack: FullStack) -> None:
    with Receiver() as elsewhere:
        job = Job(stack)
        names = {
            "pre": "../../escaped.laz",
            "post": "..\\..\\escaped.laz",
            "shp": f"/vsicurl/{elsewhere.url}/escaped.shp",
            "shx": f"/vsizip//vsicurl/{elsewhere.url}/escaped.zip/escaped.shx",
        }
        for label, name in names.items():
            job.rename(label, name)
        job.send(**{**GOOD, "post": GOOD["pre"]})
        answer = job.ended()
        assert elsewhere.requests == []
    totals = strict(json.dumps(stack.results(job.id)))["totals"]
    assert (answer["status"], answer["error"], answer["results"]["hulls"]) == ("done", None, [])
    assert totals["net_volume"] == 0
    assert totals["net_volume_ci95"][0] <= 0 <= totals["net_volume_ci95"][1]
    assert escaped(stack) == []


@pytest.mark.service
@pytest.mark.case(21)
@pytest.mark.parametrize(
    "name",
    ["../../escaped.jpg", "/escaped.jpg", "....//....//escaped.jpg", "%2e%2e%2fescaped.jpg", "$(touch escaped).jpg"],
)
def test_a_name_chooses_no_place(stack: FullStack, name: str) -> None:
    task = stack.create()
    opened = httpx.post(
        f"{stack.url}/api/v1/tasks/{task['id']}/uploads/file", json={"filename": name}, timeout=30, trust_env=False
    )
    assert send(opened.raise_for_status().json()["url"], polyglot()).status_code == 204
    settled = stack.settled(task["id"])
    assert settled["status"] == "done"
    assert not {"/", "\\"} & set(settled["uploads"]["file"]["filename"])
    assert {key.rpartition("/")[0] for key in stack.objects(f"tasks/{task['id']}/in/")} == {f"tasks/{task['id']}/in"}
    assert [key for key in stack.objects() if "escaped" in key] == []
    assert escaped(stack) == []


@pytest.mark.service
@pytest.mark.case(21)
@pytest.mark.parametrize("name", ["escaped\x00.jpg", "escaped\r\nX-Evil: 1.jpg", "x" * 256])
def test_a_name_that_no_file_has_is_refused(stack: FullStack, name: str) -> None:
    url = f"{stack.url}/api/v1/tasks/{stack.create()['id']}/uploads/file"
    answer = httpx.post(url, json={"filename": name}, timeout=30, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID")


@pytest.mark.service
@pytest.mark.case(20)
def test_surveys_full_of_nan_and_infinity_give_a_result_that_every_reader_of_json_takes(stack: FullStack) -> None:
    mound = Bump(45, 12, 8, 1.5)
    pre, post = terrain(8000, 1), terrain(8000, 2)
    post[:, 2] += mound(*(post - ORIGIN)[:, :2].T)
    pre[5:40], pre[40:60, 2] = np.nan, np.inf
    post[:50, 2], post[50:80, 0], post[80:99, 1] = np.nan, np.inf, -np.inf
    job = Job(stack).send(**{**GOOD, "pre": ply_bytes(pre), "post": xyz_bytes(post)})
    answer = job.ended()
    assert answer["status"] == "done", answer
    (hull,) = answer["results"]["hulls"]
    assert hull["net_volume"] == pytest.approx(mound.volume, rel=0.05)
    assert get(hull["image_url"]).content.startswith(b"\x89PNG")
    for path in (f"api/v1/tasks/{job.id}", f"api/v1/tasks/{job.id}/results", f"api/v1/tasks/{job.id}/artifacts"):
        strict(get(f"{stack.url}/{path}").raise_for_status().text)


@pytest.mark.service
@pytest.mark.case(19)
def test_another_site_at_the_same_place_is_refused_with_how_badly_it_fits(stack: FullStack) -> None:
    def survey(seed: int, relief: int) -> bytes:
        points = terrain(8000, seed)
        points[:, 2] = hills(seed=relief)(*(points - ORIGIN)[:, :2].T)
        return xyz_bytes(points)

    job = Job(stack).send(**{**GOOD, "pre": survey(1, 1), "post": survey(2, 7)})
    assert job.refused(attempts=1) == ("REGISTRATION_FAILED", None)
    details = job.ask()["results"]["error"]["details"]
    assert details["overlap"] > 0.9  # both cover the whole square
    assert details["rmse"] > 0.1  # the noise of either is 0: what is left is metres of other relief
    assert details["agreement"] < 0.5


@pytest.mark.case(19)
@pytest.mark.parametrize(
    ("post", "details"),
    [
        (xyz_bytes(terrain(800, 2) / 0.3048), {"overlap", "distance"}),
        (xyz_bytes(terrain(800, 2, ORIGIN + np.array([5000.0, 0, 0]))), {"overlap", "distance"}),
        (las_bytes(terrain(800, 2), crs=CRS.from_epsg(26918)), {"pre_crs", "post_crs"}),
    ],
    ids=["feet", "5 km away", "another zone"],
)
def test_surveys_that_cannot_meet_are_refused_with_the_numbers_there_are(
    post: bytes, details: set[str], tmp_path: Path
) -> None:
    with pytest.raises(RegistrationFailed) as refusal:
        read_surveys(write(tmp_path, GOOD["pre"], post))
    assert refusal.value.details.keys() == details


_READ = """
import json, resource, sys
from pathlib import Path
from pipeline.errors import PipelineError
from pipeline.volume_change.read import read_surveys

def read(folder):
    try:
        read_surveys({path.stem: path for path in folder.iterdir()})
    except PipelineError as error:
        return [error.code, error.label]
    return None

usage = lambda: resource.getrusage(resource.RUSAGE_SELF)
folders = sorted(Path(sys.argv[1]).iterdir())
read(Path(sys.argv[1]) / "0 sound")
used = int(usage().ru_utime + usage().ru_stime)
resource.setrlimit(resource.RLIMIT_CPU, (used + 10, used + 11))
before = usage().ru_maxrss
ends = {folder.name: read(folder) for folder in folders}
print(json.dumps({"ends": ends, "mib": (usage().ru_maxrss - before) / 1024,
                  "gdal": "gdal" in Path("/proc/self/maps").read_text()}))
"""


@pytest.mark.case(13, 14, 15)
def test_bombs_cost_a_reader_neither_time_nor_memory_and_gdal_is_not_even_loaded(tmp_path: Path) -> None:
    """All of them together get 10 seconds of CPU time: after these the kernel ends the reader."""
    expected: dict[str, list[str] | None] = {"0 sound": None, "1 without its index": None}
    bombs = {
        "0 sound": {},
        "1 without its index": {},
        "4e9 points": {"pre": claiming(4_000_000_000)},
        "as many as one may claim": {"pre": claiming(20 * len(megabyte()))},
        "noise": {"post": scribbled()},
        **{what: files for what, (files, _, _) in WRONG.items()},
    }
    expected |= {"4e9 points": ["INPUT_TOO_LARGE", "pre"], "as many as one may claim": ["INPUT_INVALID", "pre"]}
    expected |= {"noise": ["INPUT_INVALID", "post"]} | {what: [*end] for what, (_, *end) in WRONG.items()}
    for what, files in bombs.items():
        (folder := tmp_path / what).mkdir()
        for label, content in (GOOD | files).items():
            (folder / f"{label}.{'laz' if label in ('pre', 'post') else label}").write_bytes(content)
    (tmp_path / "1 without its index" / "shx.shx").unlink()
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-P", "-c", _READ, tmp_path],
        env={**os.environ, "SHAPE_RESTORE_SHX": "YES", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["ends"] == expected
    assert said["mib"] < SLACK_MIB
    assert said["gdal"] is False
    assert sorted(tmp_path.rglob("*")) == before
