"""Raster prediction by real workers' runs: each step by itself, tried again by itself."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from app.domain.tasks import TaskState
from app.outbound import AllowList
from app.outbound.gate import open_gate
from app.services import janitor, runs, tasks
from pipeline.child import RunSpec
from pipeline.site import Site
from tests.rasters import BOX, Sky, plain
from worker import runner
from worker.runner import run_task
from worker.runs.supervisor import EndKind, supervise

pytestmark = pytest.mark.service

DATA, MODEL = "data-processing", "model-prediction"


@pytest.fixture
def sky(bench: Any) -> Sky:
    sky = Sky(bench.root / "sky")
    sky.scene("a", "2024-06-10", plain(0.1), plain(0.3))
    sky.water()
    return sky


@pytest.fixture
def place(bench: Any, sky: Sky) -> Any:
    """A worker that knows the sky, and a task for it."""
    site = Site(models=sky.models, sources=sky.folder / "sources", earthdata=("ann", "secret"))
    gate = partial(open_gate, AllowList())
    here = replace(bench.here, site=site, gate=gate)
    return replace(bench, context=replace(bench.context, site=site), here=here)


def create(place: Any, **options: Any) -> Any:
    wanted = {"bboxes": [BOX], "model": "water", "date": "2024-06-10", **options}
    return tasks.create_task(place.context, "raster_prediction", wanted)[0].id


def test_both_steps_run_from_their_queues_and_only_the_maps_stay(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    specs: list[RunSpec] = []
    monkeypatch.setattr(runner, "supervise", lambda spec, **more: specs.append(spec) or supervise(spec, **more))
    task_id = create(place)
    assert run_task(place.context, task_id, place.here) is EndKind.DONE
    assert place.queue.rung == [(task_id, 0, DATA), (task_id, 1, MODEL)]
    assert "1/chips.json" in place.outputs(task_id)
    assert run_task(place.context, task_id, place.here, step=1) is EndKind.DONE
    task = place.task(task_id)
    assert task.state is TaskState.DONE
    assert place.outputs(task_id) == [
        f"2/{name}" for name in ("0/classes.tif", "0/preview.png", "0/probability.tif", "results.json")
    ]
    (area,) = task.document["areas"]
    assert area["classes"][0]["cells"] == area["width"] * area["height"]
    assert task.document["days"] == ["2024-06-10"]
    assert place.leftovers() == []
    # the step that fetches has a way out, the other none; nobody writes a login down by accident
    assert [spec.site.gate[:14] for spec in specs] == ["http://volcal:", ""]
    assert "secret" not in repr(specs)


def test_a_lost_step_is_run_again_and_a_failed_one_alone_once_its_reason_is_gone(place: Any, sky: Sky) -> None:
    task_id = create(place)
    with place.context.unit_of_work() as work:
        assert runs.acquire(work, task_id, worker="dead", now=work.now(), lease_s=0.0) is not None
        later = work.now() + timedelta(seconds=1)
        work.commit()
    assert janitor.reap(place.context, later).requeued == 1
    assert run_task(place.context, task_id, place.here) is EndKind.DONE
    network = sky.models / "water" / "model.onnx"
    network.rename(away := sky.folder / "away")
    assert run_task(place.context, task_id, place.here, step=1) is EndKind.FAILED
    assert place.task(task_id).error["code"] == "MODEL_UNUSABLE"
    away.rename(network)
    tasks.restart(place.context, task_id)
    assert run_task(place.context, task_id, place.here) is None  # the first step is not done again
    assert run_task(place.context, task_id, place.here, step=1) is EndKind.DONE


def test_nothing_seen_ends_the_task_in_words(place: Any) -> None:
    task_id = create(place, date="2001-01-01")
    assert run_task(place.context, task_id, place.here) is EndKind.FAILED
    error = place.task(task_id).error
    assert (error["code"], error["label"]) == ("SCENES_MISSING", "bboxes")
    assert "temporal_tolerance" in error["remedy"]
