"""Are the right scenes found, read as their source says, and done without where they cannot be read?"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.env import getenv
from rasterio.vrt import WarpedVRT

from app.outbound import AllowList
from app.outbound.gate import open_gate
from pipeline.errors import CatalogueUnusable, ScenesMissing, ScenesUnreadable
from pipeline.raster_prediction import sources
from pipeline.raster_prediction.scenes import catalogue
from pipeline.raster_prediction.scenes.catalogue import Scenes
from pipeline.raster_prediction.scenes.reach import Reach
from pipeline.site import Site
from tests.rasters import BOX, COLUMNS, ROWS, Sky, cells_of, plain, sloping


def test_scenes_of_other_days_places_and_clouds_are_left_out(sky: Sky, site: Site) -> None:
    for name, day, clouds in (
        ("early", "2024-06-04", 0.0),
        ("first", "2024-06-05", 30.0),
        ("last", "2024-06-15", 10.0),
        ("late", "2024-06-16", 0.0),
        ("cloudy", "2024-06-10", 90.0),
        ("unsaid", "2024-06-10", None),
    ):
        sky.scene(name, day, plain(0.1), plain(0.3), clouds=clouds)
    away = rasterio.Affine(30, 0, 600_000, 0, -30, 5_209_980)
    sky.scene("away", "2024-06-10", plain(0.1), plain(0.3), transform=away)
    found = Scenes(sources.find("SKY", site), site).find(BOX, date(2024, 6, 10), 5, most_clouds=50)
    assert [scene.id for scene in found] == ["last", "first", "unsaid"]


def test_nothing_seen_is_an_error_that_says_what_to_do(sky: Sky, predicted: Any) -> None:
    sky.scene("a", "2023-01-01", plain(0.1), plain(0.3))
    sky.water()
    with pytest.raises(ScenesMissing, match="no scene") as refused:
        predicted("water")
    assert "temporal_tolerance" in refused.value.remedy
    assert refused.value.details["warnings"][0]["code"] == "SCENES_MISSING"
    sky.scene("b", "2024-06-10", plain(0.1), plain(0.3), mask=np.full((ROWS, COLUMNS), 2, np.uint8))
    with pytest.raises(ScenesMissing, match="clouded"):
        predicted("water")


def test_a_damaged_scene_is_left_out_and_said(sky: Sky, predicted: Any) -> None:
    good, bad = (sky.scene(n, "2024-06-10", plain(0.1), plain(0.3), clouds=c) for n, c in (("good", 50), ("bad", 0)))
    content = (bad / "B05.tif").read_bytes()
    (bad / "B05.tif").write_bytes(content[: len(content) // 3])
    sky.water()
    found = predicted("water")
    assert found.warnings == ["SCENE_UNREADABLE"]
    assert "bad" in found.document["warnings"][0]["message"]
    assert [scene["id"] for scene in found.area["steps"][0]["scenes"]] == ["good"]
    assert found.area["coverage"] == 1.0
    (good / "Fmask.tif").unlink()
    with pytest.raises(ScenesUnreadable, match="Of 2 scenes none can be read"):
        predicted("water")


@pytest.mark.parametrize(
    "href",
    [
        "../../outside.tif",
        "/vsicurl/http://127.0.0.1:1/x.tif",
        "/vsizip/x.zip/x.tif",
        "s3://bucket/x.tif",
        "http://127.0.0.1:1/x.tif",
        "file:///etc/hostname",
    ],
)
def test_a_file_outside_of_the_catalogues_folder_is_not_read(sky: Sky, predicted: Any, href: str) -> None:
    folder = sky.scene("a", "2024-06-10", plain(0.1), plain(0.3), hrefs={"B05": href})
    shutil.copy(folder / "B05.tif", sky.folder / "outside.tif")
    sky.water()
    with pytest.raises(ScenesUnreadable, match="may not be read"):
        predicted("water")


def test_a_link_out_of_the_catalogues_folder_is_not_followed(sky: Sky, predicted: Any) -> None:
    folder = sky.scene("a", "2024-06-10", plain(0.1), plain(0.3))
    (folder / "B05.tif").rename(sky.folder / "outside.tif")
    (folder / "B05.tif").symlink_to(sky.folder / "outside.tif")
    sky.water()
    with pytest.raises(ScenesUnreadable, match="outside the catalogue's folder"):
        predicted("water")


def test_nothing_but_geotiff_is_opened(sky: Sky, predicted: Any) -> None:
    folder = sky.scene("a", "2024-06-10", plain(0.1), plain(0.3))
    (folder / "B05.tif").rename(folder / "real.tif")
    with rasterio.open(folder / "real.tif") as source, WarpedVRT(source) as warped:
        rasterio.shutil.copy(warped, folder / "B05.tif", driver="VRT")
    sky.water()
    with pytest.raises(ScenesUnreadable):
        predicted("water")


def test_scale_and_offset_are_the_sources_unless_it_trusts_its_items(sky: Sky, predicted: Any) -> None:
    said = {"raster:bands": [{"scale": 0.001, "offset": -0.05}]}
    sky.scene("a", "2024-06-10", plain(0.02), sloping(0.03, 0.06), more=said)
    sky.greenness()
    for trusts, scale, offset in ((False, 0.0002, 0.01), (True, 0.001, -0.05)):
        sky.source(scale=0.0002, offset=0.01, item_scale=trusts)
        found = predicted("greenness")
        red, nir = (
            band[cells_of(found.path("values"))].astype(float) * scale + offset
            for band in (plain(0.02), sloping(0.03, 0.06))
        )
        np.testing.assert_allclose(found.map("values"), (nir - red) / (nir + red), atol=1e-6)


def test_a_mask_may_be_one_of_classes(sky: Sky, predicted: Any) -> None:
    mask = np.full((ROWS, COLUMNS), 4, np.uint8)
    mask[::2] = 9
    sky.scene("a", "2024-06-10", plain(0.1), plain(0.3), mask=mask)
    sky.source(mask={"asset": "Fmask", "classes": [8, 9]})
    sky.water()
    assert predicted("water").area["coverage"] == pytest.approx(0.5, abs=0.02)


def test_a_scene_without_a_mask_or_a_value_for_nothing_ends_where_its_files_end(sky: Sky, predicted: Any) -> None:
    half = rasterio.Affine(30, 0, 499_200.0 + 45 * 30, 0, -30, 5_209_980)
    sky.scene("a", "2024-06-10", plain(0.0), plain(0.3), transform=half)
    sky.source(mask=None, nodata=None)
    sky.greenness()
    found = predicted("greenness")
    west = np.isnan(found.map("values"))
    left = round((499_200.0 + 45 * 30 - found.area["bounds"][0]) / 30)
    assert west[:, :left].all()
    assert not west[:, left:].any()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda sky: sky.catalogue.unlink(), "FileNotFoundError"),
        (lambda sky: sky.catalogue.write_text("no JSON"), "JSONDecodeError"),
        (lambda sky: sky.catalogue.write_text('{"type": "Catalog"}'), "Error"),
        (lambda sky: (sky.catalogue.parent / "a" / "item.json").write_text("{}"), "Error"),
    ],
)
def test_a_catalogue_that_cannot_be_read_is_an_error_of_its_own(
    sky: Sky, predicted: Any, spoil: Any, said: str
) -> None:
    sky.scene("a", "2024-06-10", plain(0.1), plain(0.3))
    sky.water()
    spoil(sky)
    with pytest.raises(CatalogueUnusable, match=said):
        predicted("water")


def test_without_a_catalogue_or_a_way_to_it_nothing_is_tried(sky: Sky) -> None:
    (sky.folder / "sources" / "sky.json").write_text(
        json.dumps({"name": "sky", "collections": [{"id": "sky", "assets": {"red": "B04"}}]})
    )
    for where, said in (("", "VOLCAL_STAC_CATALOGUE"), ("https://stac.example.com", "Run it as a task")):
        site = Site(sources=sky.folder / "sources", catalogue=where)
        with pytest.raises(CatalogueUnusable) as refused:
            Scenes(sources.find("sky", site), site)
        assert said in refused.value.remedy


def test_the_sources_that_come_with_the_software_are_good() -> None:
    found = {source.name: source for source in sources.known(Site())}
    assert set(found) == {"HLS", "S2"}
    for source in found.values():
        assert not source.lacks(("blue", "green", "red", "nir", "swir1", "swir2"))
        assert all(each.mask is not None for each in source.collections)


def test_a_manifest_that_is_not_good_is_said(sky: Sky, site: Site) -> None:
    sky.source("bad", mask={"asset": "Fmask"})
    with pytest.raises(CatalogueUnusable, match=r"'bad' is not good: .*bits or classes"):
        sources.find("sky", site)


def test_the_login_at_earthdata_is_told_to_nobody_else(tmp_path: Path) -> None:
    reach = Reach(str(tmp_path / "catalog.json"), Site(earthdata=("ann", "secret word")))
    with reach.files(earthdata=True), rasterio.Env():
        options = getenv()
        netrc = Path(options["GDAL_HTTP_NETRC_FILE"])
        assert netrc.read_text().split()[:2] == ["machine", "urs.earthdata.nasa.gov"]
        assert netrc.stat().st_mode & 0o777 == 0o600
    assert not netrc.exists()
    with reach.files(earthdata=False), rasterio.Env():
        options = getenv()
        assert "GDAL_HTTP_NETRC_FILE" not in options


class Api(SimpleHTTPRequestHandler):
    """A STAC API over a sky: two items a page, whatever was asked for; and its files, by range."""

    sky: Sky
    asked: list[dict[str, Any]]

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def do_GET(self) -> None:
        if self.path == "/stac":
            links = [{"rel": "self", "href": f"{self.base}/stac"}]
            links += [
                {"rel": "search", "href": f"{self.base}/search", "method": m, "type": "application/geo+json"}
                for m in ("GET", "POST")
            ]
            classes = ["core", "item-search"]
            self._tell(
                {
                    "type": "Catalog",
                    "stac_version": "1.0.0",
                    "id": "api",
                    "description": "API",
                    "conformsTo": [f"https://api.stacspec.org/v1.0.0/{name}" for name in classes],
                    "links": links,
                }
            )
            return
        self._file()

    def do_HEAD(self) -> None:
        self._file()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        paths = sorted((self.sky.folder / "catalogue").glob("*/item.json"))
        start = int(body.get("token", 0))
        features = []
        for path in paths[start : start + 2]:
            item = json.loads(path.read_text())
            for asset in item["assets"].values():
                if asset["href"].startswith("./"):
                    asset["href"] = f"{self.base}/{path.parent.name}/{Path(asset['href']).name}"
            features.append(item | {"links": []})
        more = [{"rel": "next", "href": f"{self.base}/search", "method": "POST", "body": {**body, "token": start + 2}}]
        links = more if start + 2 < len(paths) else []
        self._tell({"type": "FeatureCollection", "features": features, "links": links})

    def _tell(self, document: Any) -> None:
        content = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/geo+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _file(self) -> None:
        path = self.sky.folder / "catalogue" / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content, given = path.read_bytes(), self.headers.get("Range", "")
        first, _, last = given.removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1 if last else None] if given else content
        self.send_response(206 if given else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        if given:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(part)


@contextmanager
def serving(sky: Sky) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []
    handler = type("Handler", (Api,), {"sky": sky, "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=partial(server.serve_forever, 0.02))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


def web_source(sky: Sky, where: str) -> None:
    sky.source()
    path = sky.folder / "sources" / "sky.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"catalogue": where}))


@pytest.mark.service
def test_a_stac_api_is_searched_page_by_page_and_its_files_are_read_through_the_gate(
    sky: Sky, site: Site, predicted: Any
) -> None:
    for name, day in (("a", "2020-06-10"), ("b", "2020-06-11"), ("c", "2024-06-10")):
        sky.scene(name, day, plain(0.1), sloping(0.1, 0.4))
    sky.greenness()
    here = predicted("greenness").map("values")
    with serving(sky) as (url, asked), open_gate(AllowList.of(url.removeprefix("http://"))) as gate:
        web_source(sky, f"{url}/stac")
        found = predicted("greenness", site=site.model_copy(update={"gate": gate}))
    np.testing.assert_array_equal(found.map("values"), here)
    assert len(asked) == 2
    assert asked[0]["collections"] == ["sky"]
    assert asked[0]["bbox"] == list(BOX)
    assert [scene["id"] for scene in found.area["steps"][0]["scenes"]] == ["c"]


@pytest.mark.service
def test_a_catalogue_in_the_web_leads_to_no_host_inside(sky: Sky, site: Site, predicted: Any) -> None:
    with serving(sky) as (inside, _):
        sky.scene("a", "2024-06-10", plain(0.1), plain(0.3), hrefs={"B05": f"{inside}/a/B05.tif"})
        sky.scene("b", "2024-06-10", plain(0.1), plain(0.3), hrefs={"B05": f"file://{sky.folder}/catalogue/b/B05.tif"})
        sky.water()
        with serving(sky) as (url, _), open_gate(AllowList.of(url.removeprefix("http://"))) as gate:
            web_source(sky, f"{url}/stac")
            through = site.model_copy(update={"gate": gate})
            with pytest.raises(ScenesUnreadable) as refused:
                predicted("water", site=through, bboxes=[BOX])
            said = " ".join(warning["message"] for warning in refused.value.details["warnings"])
            assert "scene a is left out: a file cannot be read: HTTP response code: 403" in said
            assert (
                "scene b is left out: a file may not be read: a catalogue in the web may name files in the web" in said
            )
            web_source(sky, f"{inside}/stac")
            with pytest.raises(CatalogueUnusable, match="cannot be read"):
                predicted("water", site=through)


def search(sky: Sky, site: Site, **more: Any) -> list[str]:
    found = Scenes(sources.find("sky", site), site).find(BOX, date(2024, 6, 10), 5, most_clouds=100, **more)
    return [scene.id for scene in found]


CELLS = rasterio.Affine(30, 0, 499_200, 0, -30, 5_209_980)


def edit(sky: Sky, name: str, **changes: Any) -> None:
    path = sky.folder / "catalogue" / name / "item.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_scene_across_the_antimeridian_touches_what_lies_on_either_side_alone(sky: Sky, site: Site) -> None:
    for name, bbox in (("around", [170, 40, -170, 50]), ("east", [10, 40, -170, 50]), ("high", [10, 40, 0, 20, 50, 9])):
        sky.scene(name, "2024-06-10", plain(0.1), plain(0.3))
        edit(sky, name, bbox=bbox)
    sky.scene("nowhere", "2024-06-10", plain(0.1), plain(0.3))
    edit(sky, "nowhere", bbox=None, geometry=None)
    assert search(sky, site) == ["east", "high"]


def test_a_scene_that_lasted_is_of_the_day_on_which_it_began(sky: Sky, site: Site) -> None:
    sky.scene("a", "2024-06-10", plain(0.1), plain(0.3))
    lasted = {"datetime": None, "start_datetime": "2024-06-15T23:59:00Z", "end_datetime": "2024-06-16T00:01:00Z"}
    edit(sky, "a", properties=lasted)
    assert search(sky, site) == ["a"]


def test_too_many_scenes_are_refused_and_not_cut_off(sky: Sky, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        sky.scene(name, "2024-06-10", plain(0.1), plain(0.3))
    monkeypatch.setattr(catalogue, "_MOST_FOUND", 1)
    with pytest.raises(ScenesMissing, match="More than 1 scenes"):
        search(sky, site)
    monkeypatch.setattr(catalogue, "_MOST_ITEMS", 1)
    with pytest.raises(CatalogueUnusable, match="more than 1 items"):
        search(sky, site)


def test_scenes_of_other_collections_are_passed_over(sky: Sky, site: Site) -> None:
    sky.scene("a", "2024-06-10", plain(0.1), plain(0.3))
    sky.source(id="other")
    assert search(sky, site) == []


def test_a_scene_that_lacks_a_file_or_says_not_where_it_lies_is_left_out(sky: Sky, predicted: Any) -> None:
    sky.scene("lacks", "2024-06-10", plain(0.1), plain(0.3), clouds=0)
    edit(sky, "lacks", assets={"B04": {"href": "./B04.tif"}})
    folder = sky.scene("lost", "2024-06-10", plain(0.1), plain(0.3), clouds=1)
    with rasterio.open(
        folder / "B04.tif", "w", driver="GTiff", dtype="int16", count=1, height=9, width=9, transform=CELLS
    ) as file:
        file.write(plain(0.1)[:9, :9], 1)
    sky.scene("good", "2024-06-10", plain(0.1), plain(0.3), clouds=2)
    sky.water()
    found = predicted("water")
    said = [warning["message"] for warning in found.document["warnings"]]
    assert said == [
        "The scene lacks is left out: it has no asset 'B05'.",
        "The scene lost is left out: a file has no coordinate system.",
    ]
