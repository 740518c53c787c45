"""Whatever strangers send: a clear coded answer in seconds from a real service, whose worker goes on."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyproj import CRS

from app.cli.keeper import Stack
from app.client import VolcalClient
from app.settings import Settings
from tests.pipeline.formats.files import ORIGIN, las_bytes, shape_bytes, square, stable_bytes, terrain, xyz_bytes

pytestmark = pytest.mark.service

UTM = CRS.from_epsg(26917)
GOOD = {
    "pre": las_bytes(terrain(8000, 1), crs=UTM),
    "post": las_bytes(terrain(8000, 2), crs=UTM),
    **dict(zip(("shp", "shx"), stable_bytes(), strict=True)),
}
FAR_SQUARE = dict(zip(("shp", "shx"), shape_bytes([[square(500_000, 4_000_000, 50)]]), strict=True))
TINY_SQUARE = dict(zip(("shp", "shx"), shape_bytes([[square(ORIGIN[0] + 20, ORIGIN[1] + 20, 0.3)]]), strict=True))


def claiming(count: int) -> bytes:
    """A sound LAZ file whose header says that it has so many points (LAS 1.4: 64 bits at byte 247)."""
    data = bytearray(GOOD["pre"])
    data[107:111] = (min(count, 2**32 - 1)).to_bytes(4, "little")
    data[247:255] = count.to_bytes(8, "little")
    return bytes(data)


def record_outside(shx: bytes) -> bytes:
    """The index with its first record moved far behind the end of the file (offset in 16-bit words at byte 100)."""
    return shx[:100] + (10**6).to_bytes(4, "big") + shx[104:]


def with_nan(share: float) -> bytes:
    points = terrain(8000, 2)
    points[: int(share * len(points)), 2] = np.nan
    return xyz_bytes(points)


BAD: dict[str, tuple[dict[str, bytes], str, str | None]] = {
    "empty file": ({"pre": b""}, "INPUT_INVALID", "pre"),
    "PNG as pre": ({"pre": b"\x89PNG\r\n\x1a\n" + bytes(500)}, "INPUT_INVALID", "pre"),
    "truncated LAZ": ({"post": GOOD["post"][: len(GOOD["post"]) * 2 // 3]}, "INPUT_INVALID", "post"),
    "header claims 4e9 points": ({"pre": claiming(4_000_000_000)}, "INPUT_TOO_LARGE", "pre"),
    "shx as shp": ({"shp": GOOD["shx"]}, "INPUT_INVALID", "shp"),
    "records outside": ({"shx": record_outside(GOOD["shx"])}, "INPUT_INVALID", "shx"),
    "stable area elsewhere": (FAR_SQUARE, "STABLE_AREA_EMPTY", "shp"),
    "stable area too small": (TINY_SQUARE, "STABLE_AREA_EMPTY", "shp"),
    "no overlap": (
        {"post": las_bytes(terrain(8000, 2, ORIGIN + np.array([5000.0, 0, 0])), crs=UTM)}, "REGISTRATION_FAILED", None,
    ),
    "other zone": ({"post": las_bytes(terrain(8000, 2), crs=CRS.from_epsg(26918))}, "REGISTRATION_FAILED", None),
    "degrees": (
        {"pre": las_bytes((terrain(8000) - ORIGIN) / 1e5 + [-79.3, 43.6, 75], scale=1e-7, crs=CRS.from_epsg(4326))},
        "INPUT_INVALID", "pre",
    ),
    "nothing but NaN": ({"pre": with_nan(1.0)}, "INPUT_INVALID", "pre"),
    "10 points": ({"post": las_bytes(terrain(10, 2), crs=UTM)}, "INPUT_INVALID", "post"),
}  # fmt: skip

USABLE: dict[str, dict[str, bytes]] = {
    "pre == post": {"post": GOOD["pre"]},
    "some NaN": {"pre": xyz_bytes(terrain(8000, 1)), "post": with_nan(0.02)},
    "100 times denser": {"post": las_bytes(terrain(400_000, 2), crs=UTM), "pre": las_bytes(terrain(4000, 1), crs=UTM)},
    "every point twice": {"pre": las_bytes(np.repeat(terrain(8000, 1), 2, axis=0), crs=UTM)},
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VolcalClient]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("service"))
    with Stack(settings, port=0) as stack, VolcalClient(stack.local_url) as client:
        yield client


def submit(client: VolcalClient, files: dict[str, bytes], folder: Path) -> str:
    task = client.create()
    for label, content in (GOOD | files).items():
        url = task.uploads[label].url
        assert url is not None
        (folder / label).write_bytes(content)
        client.upload(url, folder / label)
        if client.query(task.id)["status"] == "error":
            break
    return task.id


def settled(client: VolcalClient, task_id: str, seconds: float = 60.0) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while (answer := client.query(task_id))["status"] not in ("done", "error", "killed"):
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    return answer


@pytest.mark.case(13, 14, 15, 16, 17, 19, 20)
@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_ends_in_a_coded_error_with_a_remedy(
    case: str, service: VolcalClient, tmp_path: Path
) -> None:
    files, code, label = BAD[case]
    answer = settled(service, submit(service, files, tmp_path))
    error = answer["results"]["error"]
    assert (answer["status"], error["code"]) == ("error", code), error
    assert error["label"] == label
    assert answer["results"]["hulls"] == []
    assert len(error["message"]) > 20
    assert len(error["remedy"]) > 20
    assert isinstance(answer["error"], str)


@pytest.mark.case(18, 20)
@pytest.mark.parametrize("case", USABLE)
def test_what_looks_odd_but_can_be_used_finds_no_change_where_there_is_none(
    case: str, service: VolcalClient, tmp_path: Path
) -> None:
    task_id = submit(service, USABLE[case], tmp_path)
    answer = settled(service, task_id)
    assert answer["status"] == "done", answer
    assert [hull for hull in answer["results"]["hulls"] if hull["score"] >= 0.5] == []
    site = service.results(task_id)["site"]
    low, high = site["net_volume_ci95"]
    assert low <= 0 <= high


@pytest.mark.case(18)
def test_two_equal_surveys_have_not_changed_at_all(service: VolcalClient, tmp_path: Path) -> None:
    task_id = submit(service, USABLE["pre == post"], tmp_path)
    answer = settled(service, task_id)
    totals = service.results(task_id)["totals"]
    assert (answer["status"], answer["results"]["hulls"]) == ("done", [])
    assert totals["net_volume"] == 0
    assert totals["net_volume_ci95"][0] <= 0 <= totals["net_volume_ci95"][1]


def test_a_refused_file_is_replaced_and_the_task_goes_on(service: VolcalClient, tmp_path: Path) -> None:
    task = service.create()
    for label, content in GOOD.items():
        (tmp_path / label).write_bytes(content)
    (tmp_path / "bad").write_bytes(b"not a cloud at all")
    urls = {label: upload.url or "" for label, upload in task.uploads.items()}
    service.upload(urls["pre"], tmp_path / "bad")
    assert service.query(task.id)["status"] == "error"
    fresh = service.fresh_upload(task.id, "pre")
    assert service.query(task.id)["status"] == "waiting"
    for label in ("pre", "post", "shp", "shx"):
        service.upload(fresh if label == "pre" else urls[label], tmp_path / label)
    assert settled(service, task.id)["status"] == "done"
