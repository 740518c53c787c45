"""/api/run-model and what belongs to it, as their clients speak them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from app.db import vitals
from app.db.models import StepRun
from app.domain.tasks import TaskState
from app.main import create_app
from app.services import janitor, tasks
from pipeline.registry import CATALOGUE
from pipeline.site import Site
from tests.app.conftest import World
from tests.rasters import BOX, Sky

OLD = {
    "bboxes": [list(BOX)],
    "model_type": "water",
    "date": "2024-06-10",
    "chip_size": 32,
    "cloud_coverage": 30,
    "num_steps": 1,
    "data_source": "sky",
    "temporal_step": 30,
    "temporal_tolerance": 5,
}
NEW = {
    "bboxes": [list(BOX)],
    "model_key": "water",
    "model_size": "tiny",
    "date": "2024-06-10",
    "cloud_coverage": 30,
    "temporal_tolerance": 5,
}
STAGES = ["data_processing", "model_prediction", "visualization_preparation"]


@pytest.fixture
def sky(tmp_path: Path) -> Sky:
    sky = Sky(tmp_path / "sky")
    sky.water(key="water", size="tiny")
    return sky


@pytest.fixture
def rasters(world: World, sky: Sky) -> World:
    site = Site(models=sky.models, sources=sky.folder / "sources")
    return replace(world, context=replace(world.context, catalogue=CATALOGUE, site=site))


@pytest.fixture
def api(rasters: World) -> Iterator[TestClient]:
    with TestClient(create_app(rasters.context), base_url="http://elsewhere.test") as found:
        yield found


def add(world: World, state: TaskState = TaskState.PENDING, step: int = 0, **values: Any) -> UUID:
    options = {"bboxes": [list(BOX)], "model": "water", "date": "2024-06-10", "source": ""}
    return world.add(state, **{"pipeline": "raster_prediction", "options": options, "step": step, **values})


def add_step(world: World, task_id: UUID, number: int, **values: Any) -> None:
    with world.context.unit_of_work() as work:
        began = datetime(2026, 4, 30, tzinfo=UTC)
        work.session.add(StepRun(task_id=task_id, number=number, attempts=1, started_at=began, **values))
        work.commit()


@pytest.mark.parametrize("body", [OLD, NEW], ids=["old", "new"])
def test_both_bodies_make_a_task_that_is_queued_at_once(api: TestClient, rasters: World, body: dict[str, Any]) -> None:
    answer = api.post("/api/run-model", json=body)
    assert answer.status_code == 200
    assert set(answer.json()) == {"status", "task_id", "message"}
    assert answer.json()["status"] == "data_processing"
    task = rasters.task(task_id := UUID(answer.json()["task_id"]))
    assert (task.state, task.queue, task.uploads) == (TaskState.PENDING, "data-processing", [])
    assert rasters.queue.rung == [(task_id, 0, "data-processing")]
    assert task.options["model"] == "water"
    assert (task.options["cloud_coverage"], task.options["temporal_tolerance"]) == (30, 5)


def test_a_task_has_exactly_the_fields_that_clients_read(api: TestClient) -> None:
    task_id = api.post("/api/run-model", json=OLD).json()["task_id"]
    task = api.get(f"/api/task/{task_id}").json()
    assert list(task) == [
        "task_id",
        "status",
        "created_at",
        "bboxes",
        "parameters",
        "stages",
        "data_processing_job_id",
        "model_prediction_job_id",
    ]
    assert (task["task_id"], task["status"], task["bboxes"]) == (task_id, "data_processing", [list(BOX)])
    assert task["created_at"].endswith("Z")
    assert task["data_processing_job_id"]
    assert task["model_prediction_job_id"] is None
    assert list(task["stages"]) == STAGES
    pending = {"status": "pending", "started_at": None, "completed_at": None, "result": None, "error": None}
    assert list(task["stages"].values()) == [pending] * 3
    asked = {name: value for name, value in OLD.items() if name != "bboxes"}
    assert asked.items() <= task["parameters"].items()


@pytest.mark.parametrize(
    ("state", "step", "status", "stages"),
    [
        (TaskState.PENDING, 0, "data_processing", ["pending", "pending"]),
        (TaskState.RUNNING, 0, "data_processing", ["running", "pending"]),
        (TaskState.PENDING, 1, "model_prediction", ["completed", "pending"]),
        (TaskState.RUNNING, 1, "model_prediction", ["completed", "running"]),
        (TaskState.DONE, 1, "completed", ["completed", "completed"]),
        (TaskState.ERROR, 0, "failed", ["failed", "pending"]),
        (TaskState.ERROR, 1, "failed", ["completed", "failed"]),
        (TaskState.KILLED, 1, "failed", ["completed", "failed"]),
    ],
)
def test_each_state_has_its_word(
    api: TestClient, rasters: World, state: TaskState, step: int, status: str, stages: list[str]
) -> None:
    error = {"code": "SCENES_MISSING", "message": "Nothing was seen.", "remedy": "Allow more days.", "label": None}
    failed = state in {TaskState.ERROR, TaskState.KILLED}
    task_id = add(rasters, state, step, error=error if failed else None, document={}, artifacts=[])
    if step:
        add_step(rasters, task_id, 0, finished_at=datetime(2026, 5, 1, tzinfo=UTC), document={"chips": 3})
    task = api.get(f"/api/task/{task_id}").json()
    assert task["status"] == status
    told = list(task["stages"].values())
    assert [stage["status"] for stage in told] == [*stages, stages[1]]
    assert (task["model_prediction_job_id"] is not None) == (step == 1)
    if failed:
        assert told[step]["error"] == "Nothing was seen. Allow more days."
        assert told[0]["error"] is None or step == 0
    if step:
        assert told[0]["result"] == {"chips": 3}
        assert told[0]["completed_at"] == "2026-05-01T00:00:00Z"


def test_a_completed_task_has_its_result_and_links_to_its_files(api: TestClient, rasters: World) -> None:
    (source := rasters.root / "x").write_text("map")
    task_id = uuid4()
    key = f"tasks/{task_id}/out/2/0/classes.tif"
    rasters.context.store.put(key, source)
    artifacts = [
        {"name": name, "key": key, "media_type": "image/tiff", "title": "", "size": 3}
        for name in ("0/classes.tif", "results.json")
    ]
    made = add(rasters, TaskState.DONE, 1, document={"areas": [1]}, artifacts=artifacts)
    stages = api.get(f"/api/task/{made}").json()["stages"]
    result = stages["model_prediction"]["result"]
    assert result["areas"] == [1]
    link = result["files"]["0/classes.tif"].removeprefix("http://volcal.test")
    assert api.get(link).text == "map"
    assert list(stages["visualization_preparation"]["result"]["files"]) == ["0/classes.tif"]
    assert api.get("/api/tasks").json()[0]["stages"]["model_prediction"]["result"] is None


@pytest.mark.parametrize("task_id", ["nonsense", "00000000-0000-4000-8000-000000000000", "%00"])
def test_a_task_that_is_none_is_404(api: TestClient, task_id: str) -> None:
    answer = api.get(f"/api/task/{task_id}")
    assert (answer.status_code, answer.json()) == (404, {"detail": "Task not found"})


def test_tasks_of_other_pipelines_are_not_there(api: TestClient, rasters: World) -> None:
    other = rasters.add(TaskState.DONE)
    assert api.get(f"/api/task/{other}").status_code == 404
    assert api.get("/api/tasks").json() == []


def test_the_list_is_bare_and_the_newest_comes_first(api: TestClient, rasters: World) -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    ids = [str(add(rasters, created_at=now + timedelta(hours=hours))) for hours in (1, 3, 2)]
    found = api.get("/api/tasks").json()
    assert [task["task_id"] for task in found] == [ids[1], ids[2], ids[0]]
    assert found[0]["bboxes_count"] == len(found[0]["bboxes"]) == 1
    assert found[0]["model_type"] == "water"
    assert list(found[0]["stages"]) == STAGES
    assert [task["task_id"] for task in api.get("/api/tasks?limit=1").json()] == [ids[1]]


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"model_type": "fire"}, 400, "There is no model 'fire'. There are: water"),
        ({"model_type": None}, 422, "give either model_type"),
        ({"model_type": None, "model_key": "water", "model_size": "huge"}, 400, "of size 'huge'"),
        ({"bboxes": [[47.0, 150.0, 47.1, 150.1]]}, 422, "west, south, east, north"),
        ({"bboxes": [[15.1, 47.0, 15.0, 47.1]]}, 422, "antimeridian"),
        ({"bboxes": [[15.0, 47.0, 15.1]]}, 422, "bboxes"),
        ({"bboxes": [[15.0, 47.0, 20.0, 52.0]]}, 422, "smaller boxes"),
        ({"bboxes": []}, 422, "bboxes"),
        ({"date": "yesterday"}, 422, "date"),
        ({"num_steps": 3}, 422, "takes 1 alone"),
        ({"data_source": "nowhere"}, 422, "no data source 'nowhere'"),
        ({"cloud_coverage": 130}, 422, "cloud_coverage"),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_no_task(
    api: TestClient, change: dict[str, Any], status: int, said: str
) -> None:
    body = {name: value for name, value in (OLD | change).items() if value is not None}
    answer = api.post("/api/run-model", json=body)
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert api.get("/api/tasks").json() == []


def test_the_same_goes_through_the_task_api_which_cancels_and_restarts_it(api: TestClient, rasters: World) -> None:
    options = {"bboxes": [list(BOX)], "model": "water", "date": "2024-06-10"}
    made = api.post("/api/v1/tasks", json={"pipeline": "raster_prediction", "options": options})
    assert made.status_code == 201
    assert (made.json()["status"], made.json()["missing"], made.json()["uploads"]) == ("pending", [], {})
    path = f"/api/v1/tasks/{made.json()['id']}"
    assert api.post(f"{path}/start").json()["status"] == "pending"
    assert api.post(f"{path}/cancel").json()["status"] == "killed"
    assert api.get(f"/api/task/{made.json()['id']}").json()["status"] == "failed"
    assert api.post(f"{path}/restart").json()["status"] == "pending"
    assert len(rasters.queue.rung) == 2
    api.post(f"{path}/cancel")
    refused = api.post(f"{path}/restart", json={"options": options | {"model": "fire"}})
    assert (refused.status_code, refused.json()["code"]) == (422, "MODEL_UNKNOWN")
    refused = api.post("/api/v1/tasks", json={"pipeline": "raster_prediction", "options": options | {"bboxes": []}})
    assert refused.json()["code"] == "OPTIONS_INVALID"


def test_a_task_without_files_whose_bell_was_lost_is_rung_for_again(rasters: World) -> None:
    options = {"bboxes": [BOX], "model": "water", "date": "2024-06-10"}
    task, _ = tasks.create_task(rasters.context, "raster_prediction", options)
    assert task.state is TaskState.PENDING
    rasters.queue.rung.clear()
    janitor.reap(rasters.context, datetime.now(UTC) + timedelta(hours=1))
    assert rasters.queue.rung == [(task.id, 0, "data-processing")]


def test_models_are_listed_and_shown(api: TestClient) -> None:
    (model,) = api.get("/api/models").json()
    assert (model["model_key"], model["model_size"], model["data_source"]) == ("water", "tiny", "sky")
    assert model["classes_mapping"] == {"0": "land", "1": "water"}
    assert api.get("/api/models/water").json() == model
    answer = api.get("/api/models/fire")
    assert answer.status_code == 404
    assert "There are: water" in answer.json()["detail"]


def test_without_a_folder_of_models_there_are_none(world: World) -> None:
    with TestClient(create_app(replace(world.context, catalogue=CATALOGUE))) as api:
        assert api.get("/api/models").json() == []
        answer = api.post("/api/run-model", json=OLD)
        assert answer.status_code == 400
        assert "VOLCAL_MODELS_DIR" in answer.json()["detail"]


def test_the_two_queues_are_counted(api: TestClient, rasters: World) -> None:
    add(rasters, queue="data-processing")
    add(rasters, queue="data-processing")
    add(rasters, TaskState.RUNNING, 1, queue="model-prediction")
    assert api.get("/api/queues/status").json() == {
        "data_processing": {"name": "data-processing", "job_count": 2, "is_empty": False},
        "model_prediction": {"name": "model-prediction", "job_count": 0, "is_empty": True},
    }


def test_health_is_always_200_and_names_what_is_wrong(api: TestClient, rasters: World) -> None:
    told = api.get("/api/health")
    assert told.status_code == 200
    assert set(told.json()) == {"status", "timestamp", "version", "components"}
    parts = told.json()["components"]
    assert list(parts) == ["api", "redis", "queues", "workers"]
    assert told.json()["status"] == "unhealthy"
    assert (parts["api"]["status"], parts["queues"]["status"]) == ("healthy", "healthy")
    assert parts["workers"]["status"] == "unhealthy"
    assert "data-processing and model-prediction" in parts["workers"]["message"]
    with rasters.context.unit_of_work() as work:
        details = {"queues": "data-processing,model-prediction"}
        vitals.show(work.session, "worker", "w", version="1", details=details, now=datetime.now(UTC))
        work.commit()
    told = api.get("/api/health")
    assert told.json()["components"]["workers"]["details"] == {"data_processing": 1, "model_prediction": 1}
    assert told.json()["status"] == "healthy", told.json()


def test_health_is_200_without_a_database_as_well(rasters: World) -> None:
    context = replace(rasters.context)
    with TestClient(create_app(context)) as api:
        context.engine.dispose()
        (rasters.root / "volcal.db").unlink()
        (rasters.root / "volcal.db").mkdir()
        told = api.get("/api/health")
        assert told.status_code == 200
        assert told.json()["status"] == "unhealthy"
        assert told.json()["components"]["queues"]["status"] == "unknown"
        assert told.json()["components"]["api"]["status"] == "unhealthy"
