"""Raster prediction on the full stack: data by one worker, the model by another, each from its own queue."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rasters import BOX, CELL, Sky, plain
from tests.servers.base import wait_for
from tests.servers.stack import FullStack

pytestmark = pytest.mark.service

DATA, MODEL = "data-processing", "model-prediction"


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    sky = Sky(Path(tmp_path_factory.mktemp("sky")))
    sky.scene("a", "2024-06-10", plain(0.2), plain(0.1))
    sky.water()
    return sky


@pytest.fixture(scope="module")
def stack(sky: Sky) -> Iterator[FullStack]:
    settings = {"VOLCAL_MODELS_DIR": str(sky.models), "VOLCAL_SOURCES_DIR": str(sky.folder / "sources")}
    with FullStack(workers=0, **settings) as stack:
        yield stack


def ask(stack: FullStack, path: str, body: Any = None) -> Any:
    method = "GET" if body is None else "POST"
    answer = httpx.request(method, f"{stack.url}{path}", json=body, timeout=30, trust_env=False)
    return answer.raise_for_status().json()


def test_a_prediction_goes_from_queue_to_queue_and_its_map_is_behind_a_link(stack: FullStack) -> None:
    body = {"bboxes": [BOX], "model_type": "water", "date": "2024-06-10"}
    with stack.part("work", VOLCAL_QUEUES=DATA) as first:
        task_id = ask(stack, "/api/run-model", body)["task_id"]

        def handed_on() -> bool:
            return bool(ask(stack, f"/api/task/{task_id}")["status"] == "model_prediction")

        wait_for(handed_on, "the data to be prepared")
        task = ask(stack, f"/api/task/{task_id}")
        assert [stage["status"] for stage in task["stages"].values()] == ["completed", "pending", "pending"]
        assert ask(stack, "/api/queues/status")["model_prediction"]["job_count"] == 1
        health = ask(stack, "/api/health")
        assert health["components"]["redis"]["status"] == "healthy"
        assert MODEL in health["components"]["workers"]["message"]
        with stack.part("work", VOLCAL_QUEUES=MODEL) as second:
            assert stack.settled(task_id)["status"] == "done"
            for worker, other in ((first, MODEL), (second, DATA)):
                assert f'"step": "{other}"' not in worker.says()
                assert worker.scratch() == []
    task = ask(stack, f"/api/task/{task_id}")
    assert task["status"] == "completed"
    result = task["stages"]["model_prediction"]["result"]
    water = result["areas"][0]["classes"][1]
    assert water["area"] == result["areas"][0]["width"] * result["areas"][0]["height"] * CELL**2
    picture = httpx.get(result["files"]["0/preview.png"], timeout=30, trust_env=False)
    assert picture.content.startswith(b"\x89PNG")
