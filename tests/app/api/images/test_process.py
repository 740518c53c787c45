"""/info and /process: real images from a real web server, decoded in a process of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.outbound import AllowList, BoundedFetcher, GuardedClient
from app.services.images.parts import ImageLimits, Images
from tests.app.conftest import World
from tests.images import image_server, picture, png_that_claims
from tests.receivers import Receiver, answer

WHOLE = picture()
FILES = {
    "moth.jpg": WHOLE,
    "other.png": picture("PNG", (320, 200), "navy"),
    "still.webp": picture("WEBP", (64, 64)),
    "page.html": b"<!doctype html><title>Not found</title>",
    "script.eps": picture("EPS", (32, 32)),
    "half.jpg": WHOLE[: len(WHOLE) // 2],
    "empty.jpg": b"",
    "bomb.png": png_that_claims(60_000, 60_000),
    "liar.png": png_that_claims(3_000, 3_000),
}
LIMITS = ImageLimits(count=8, total_bytes=200_000, pixels=10_000_000, total_s=30)
MOTH = {"id": "moth", "url": "moth.jpg"}


@pytest.fixture(scope="module")
def web() -> Iterator[Receiver]:
    with image_server(FILES) as server:
        yield server


@pytest.fixture
def images(web: Receiver) -> Images:
    return Images(BoundedFetcher(GuardedClient(AllowList([web.authority]))), limits=LIMITS)


@pytest.fixture
def client(world: World, images: Images) -> Iterator[TestClient]:
    app = create_app(replace(world.context, images=images))
    with TestClient(app, follow_redirects=False, base_url="http://elsewhere.test") as found:
        yield found


def body_of(web: Receiver, *names: str, pipeline: str = "constant", **more: Any) -> dict[str, Any]:
    sources = [{"id": name.partition(".")[0], "url": f"{web.url}/{name}"} for name in names]
    return {"pipeline": pipeline, "source_images": sources, **more}


def test_the_constant_pipeline_finds_its_moth_at_an_eighth_of_each_image(client: TestClient, web: Receiver) -> None:
    body = body_of(web, "moth.jpg", "other.png", config={})
    said = client.post("/process", json=body)
    assert said.status_code == 200
    found = said.json()
    assert set(found) == {"pipeline", "total_time", "source_images", "detections", "algorithms"}
    assert (found["pipeline"], found["source_images"]) == ("constant", body["source_images"])
    assert found["total_time"] > 0
    assert set(found["algorithms"]) == {"constant-detector", "constant-classifier"}
    assert [(each["source_image_id"], each["bbox"]) for each in found["detections"]] == [
        ("moth", {"x1": 80, "y1": 60, "x2": 240, "y2": 180}),  # of 640 x 480
        ("other", {"x1": 40, "y1": 25, "x2": 120, "y2": 75}),  # of 320 x 200
    ]
    first = found["detections"][0]
    assert set(first) == {
        *("source_image_id", "bbox", "inference_time", "algorithm", "timestamp", "crop_image_url", "classifications")
    }
    (moth,) = first["classifications"]
    assert set(moth) == {
        *("classification", "labels", "scores", "logits", "algorithm", "terminal", "timestamp"),
    }
    assert (moth["classification"], moth["labels"], moth["scores"]) == ("Moth", ["Moth"], [0.9])
    assert (moth["algorithm"]["key"], moth["terminal"]) == ("constant-classifier", True)


@pytest.mark.parametrize("pipeline", ["random", "random-detection-random-species", "constant-detection-random-species"])
def test_the_same_image_gives_the_same_answer_and_another_seed_another_one(
    client: TestClient, web: Receiver, pipeline: str
) -> None:
    def ask(**config: Any) -> list[Any]:
        body = body_of(web, "moth.jpg", "still.webp", pipeline=pipeline, config=config)
        found = client.post("/process", json=body).json()["detections"]
        return [(each["bbox"], [one["scores"] for one in each["classifications"]]) for each in found]

    assert ask() == ask(token="of another pipeline")
    assert ask() != ask(seed=1)


def test_an_absent_config_and_a_null_one_are_empty_ones(client: TestClient, web: Receiver) -> None:
    for more in ({}, {"config": None}, {"config": {}, "detections": None}):
        assert client.post("/process", json=body_of(web, "moth.jpg", **more)).status_code == 200


def test_what_the_client_found_is_named_and_not_looked_for_again(client: TestClient, web: Receiver) -> None:
    body = body_of(web, "moth.jpg", "other.png", pipeline="random-detection-random-species")
    box = {"x1": 1.5, "y1": 2.0, "x2": 30.0, "y2": 40.0}
    algorithm = {"name": "Mothbot", "key": "mothbot"}
    crop = "https://crops.example.com/1.jpg"
    known = {"source_image": body["source_images"][1], "bbox": box, "algorithm": algorithm, "crop_image_url": crop}
    (found,) = client.post("/process", json={**body, "detections": [known]}).json()["detections"]
    assert (found["source_image_id"], found["bbox"], found["algorithm"]) == ("other", box, algorithm)
    assert found["crop_image_url"] == crop
    assert found["classifications"][0]["algorithm"]["key"] == "random-species-classifier"


def test_no_images_no_detections(client: TestClient) -> None:
    assert client.post("/process", json={"pipeline": "random", "source_images": []}).json()["detections"] == []


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("absent.jpg", "IMAGE_UNAVAILABLE", "answered 404"),
        ("page.html", "IMAGE_UNREADABLE", "not an image of a kind"),
        ("script.eps", "IMAGE_UNREADABLE", "not an image of a kind"),
        ("half.jpg", "IMAGE_UNREADABLE", "damaged or cut off"),
        ("liar.png", "IMAGE_UNREADABLE", "damaged or cut off"),
        ("empty.jpg", "IMAGE_UNREADABLE", "is empty"),
        ("bomb.png", "IMAGE_TOO_LARGE", "60000 x 60000 pixels"),
    ],
)
def test_one_bad_image_is_named_with_its_reason_and_a_remedy(
    client: TestClient, web: Receiver, name: str, code: str, words: str
) -> None:
    said = client.post("/process", json=body_of(web, "moth.jpg", name))
    assert said.status_code == 422
    told = said.json()
    assert (told["code"], told["image"]) == (code, name.partition(".")[0])
    assert f"'{told['image']}'" in told["detail"]
    assert words in told["detail"]


def test_bytes_and_images_of_a_request_are_counted(client: TestClient, web: Receiver, images: Images) -> None:
    many = client.post("/process", json=body_of(web, *[f"{number}.jpg" for number in range(9)]))
    assert (many.status_code, many.json()["code"]) == (422, "IMAGES_TOO_MANY")
    client.app.state.context = replace(  # type: ignore[attr-defined]
        client.app.state.context,  # type: ignore[attr-defined]
        images=replace(images, limits=replace(LIMITS, total_bytes=len(WHOLE) + 10)),
    )
    assert client.post("/process", json=body_of(web, "moth.jpg")).status_code == 200
    both = client.post("/process", json=body_of(web, "moth.jpg", "other.png"))
    assert (both.status_code, both.json()["code"]) == (422, "IMAGE_TOO_LARGE")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x.jpg",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:10.0.0.1]/x.jpg",
        "http://redis:6379/",
        "file:///etc/passwd",
        "http://user:pass@example.com/x.jpg",
        "http://2130706433/x.jpg",
    ],
)
def test_private_places_are_not_asked(client: TestClient, url: str) -> None:
    said = client.post("/process", json={"pipeline": "constant", "source_images": [{"id": "inside", "url": url}]})
    assert said.status_code == 422
    assert (said.json()["code"], said.json()["image"]) == ("IMAGE_URL_REFUSED", "inside")


def test_a_redirect_to_a_private_place_is_not_followed(client: TestClient, web: Receiver) -> None:
    with image_server({"secret.jpg": WHOLE}) as inside:
        away = answer(302, Location=f"{inside.url}/secret.jpg")
        before, web.react = web.react, away
        try:
            said = client.post("/process", json=body_of(web, "moth.jpg"))
        finally:
            web.react = before
        assert (said.status_code, said.json()["code"]) == (422, "IMAGE_URL_REFUSED")
        assert inside.requests == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pipeline": "moths"}, "'moths'. Choose one of: random, constant, random-detection-random-species"),
        ({"pipeline": "volume_change"}, "There is no image pipeline"),
        ({"pipeline": "random", "config": {"boxes": -1}}, "config.boxes"),
        ({"source_images": [MOTH, MOTH]}, "two images have the same id"),
        ({"source_images": [{"id": "x"}]}, "body.source_images.0.url"),
        ({"source_images": None}, "body.source_images"),
        (
            {
                "detections": [
                    {
                        "source_image": {"id": "y", "url": "y"},
                        "bbox": {"x1": 0, "y1": 0, "x2": 1, "y2": 1},
                        "algorithm": {"name": "a", "key": "a"},
                    }
                ]
            },
            "a detection is of the image 'y'",
        ),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused_before_anything_is_fetched(
    client: TestClient, web: Receiver, change: dict[str, Any], words: str
) -> None:
    asked = len(web.requests)
    said = client.post("/process", json={**body_of(web, "moth.jpg"), **change})
    assert said.status_code == 422
    assert words in said.json()["detail"]
    assert len(web.requests) == asked


def test_more_requests_than_may_wait_are_sent_away(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.images.routes._MOST_WAITING", 0)
    said = client.post("/process", json={"pipeline": "random", "source_images": []})
    assert (said.status_code, said.json()["code"], said.headers["retry-after"]) == (429, "IMAGES_BUSY", "5")


def test_a_request_whose_time_went_by_in_the_line_is_sent_away(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, images: Images
) -> None:
    late = replace(images, limits=replace(LIMITS, total_s=0.0))
    monkeypatch.setattr(client.app.state, "context", replace(client.app.state.context, images=late))  # type: ignore[attr-defined]
    said = client.post("/process", json={"pipeline": "random", "source_images": []})
    assert (said.status_code, said.json()["code"]) == (429, "IMAGES_BUSY")


def test_info_describes_every_pipeline_as_results_name_it(client: TestClient) -> None:
    told = client.get("/info").json()
    assert set(told) == {"name", "description", "pipelines"}
    slugs = [pipeline["slug"] for pipeline in told["pipelines"]]
    assert slugs[:3] == ["random", "constant", "random-detection-random-species"]
    lots = told["pipelines"][0]
    assert set(lots) == {"name", "slug", "version", "description", "algorithms", "stages"}
    assert [parameter["key"] for parameter in lots["stages"][0]["params"]] == ["seed", "boxes"]
    binary = next(each for each in lots["algorithms"] if each["key"] == "random-binary-classifier")
    assert {"name", "key", "task_type", "version", "version_name", "uri", "category_map"} <= set(binary)
    assert binary["category_map"]["labels"] == ["Moth", "Not a moth"]


def test_a_service_is_ready_for_images_and_for_nothing_without_pipelines(
    client: TestClient, world: World, images: Images
) -> None:
    told = client.get("/readyz").json()
    assert {"random", "constant", "random-detection-random-species", "volume_change"} <= set(told["status"])
    assert {"random", "constant"} <= set(told["images"]) <= set(told["status"])
    bare = replace(world.context, images=replace(images, pipelines={}), catalogue=type(world.context.catalogue)([]))
    said = TestClient(create_app(bare)).get("/readyz")
    assert (said.status_code, said.json()["status"]) == (503, [])


def test_the_gateway_itself_never_loads_the_imaging_library() -> None:
    code = "import sys; import app.main, app.services.images.process; sys.exit('PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_process_that_decodes_knows_no_secret(
    client: TestClient, web: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOLCAL_SECRET_KEY", "not to be seen")
    seen: list[dict[str, str]] = []
    start = subprocess.Popen

    def look(*args: Any, **more: Any) -> Any:
        seen.append(more["env"])
        return start(*args, **more)

    monkeypatch.setattr("app.services.images.sandbox.subprocess.Popen", look)
    assert client.post("/process", json=body_of(web, "moth.jpg")).status_code == 200
    assert "PATH" in os.environ
    assert "not to be seen" not in json.dumps(seen)
