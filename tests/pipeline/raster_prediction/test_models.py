"""Is a model given what its manifest says, and believed only if it is what that says?"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from pipeline.contracts import Run
from pipeline.errors import InputInvalid, InputTooLarge, ModelUnknown, ModelUnusable
from pipeline.raster_prediction import Params, models, predict
from pipeline.site import Site
from tests.rasters import BOX, CLOUD, COLUMNS, ROWS, Sky, band_ratio, cells_of, ndvi, network, place_of, plain, sloping

CHANGE = {"output": "value", "quantity": {"name": "change"}, "time_steps": 2, "temporal_step": 20}


def change() -> Any:
    """A network of nir at the last time step minus nir at the first."""
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b", "c", "d"], axis=1, num_outputs=4),
        helper.make_node("Sub", ["d", "b"], ["y"]),
    ]
    return network(nodes, (1, 4, "h", "w"), (1, 1, "h", "w"))


def two_times(sky: Sky, mask: Any = None) -> None:
    sky.scene("before", "2024-05-21", plain(0.1), plain(0.2), mask=mask)
    sky.scene("after", "2024-06-10", plain(0.1), sloping(0.2, 0.6))


def test_time_steps_go_from_the_oldest_to_the_day_asked_for(sky: Sky, predicted: Any) -> None:
    two_times(sky)
    sky.model("change", change(), **CHANGE)
    found = predicted("change")
    expected = (sloping(0.2, 0.6) / 10_000 - 0.2)[cells_of(found.path("values"))]
    np.testing.assert_allclose(found.map("values"), expected, atol=1e-6)
    assert found.document["days"] == ["2024-05-21", "2024-06-10"]
    assert [[s["id"] for s in step["scenes"]] for step in found.area["steps"]] == [["before"], ["after"]]


def test_a_cell_must_have_been_seen_each_time_unless_the_model_does_without(sky: Sky, predicted: Any) -> None:
    row, column = place_of(15.01, 47.007)
    mask = np.zeros((ROWS, COLUMNS), np.uint8)
    mask[row, column] = CLOUD
    two_times(sky, mask)
    sky.model("change", change(), **CHANGE)
    sky.model("guess", change(), **CHANGE, needs="any", fill=0.25)
    assert np.isnan(predicted("change").map("values")).sum() == 1
    found = predicted("guess")
    rows, columns = cells_of(found.path("values"))
    there = found.map("values")[row - rows.start, column - columns.start]
    assert there == pytest.approx(sloping(0.2, 0.6)[row, column] / 10_000 - 0.25, abs=1e-6)


def test_a_time_step_without_any_scene_is_said(sky: Sky, predicted: Any) -> None:
    sky.scene("after", "2024-06-10", plain(0.1), plain(0.3))
    sky.model("guess", change(), **CHANGE, needs="any")
    found = predicted("guess")
    assert found.warnings == ["SCENES_MISSING"]
    assert [step["clear"] for step in found.area["steps"]] == [0.0, 1.0]


def test_bands_are_normalised_and_laid_out_as_the_manifest_says(sky: Sky, predicted: Any) -> None:
    two_times(sky)
    nodes = [
        helper.make_node("Slice", ["x", "from", "to"], ["s"]),  # channel nir, time after
        helper.make_node("Squeeze", ["s", "axis"], ["y"]),
    ]
    constants = {
        "from": np.array([0, 1, 1, 0, 0]),
        "to": np.array([1, 2, 2, 9999, 9999]),
        "axis": np.array([2]),
    }
    graph = network(nodes, (1, 2, 2, "h", "w"), (1, 1, "h", "w"), constants)
    sky.model("nir", graph, **CHANGE, layout="NCTHW", mean=[0.0, 0.1], std=[1.0, 0.5])
    found = predicted("nir")
    expected = (sloping(0.2, 0.6) / 10_000 - 0.1)[cells_of(found.path("values"))] / 0.5
    np.testing.assert_allclose(found.map("values"), expected, atol=1e-6)


@pytest.mark.parametrize(("size", "overlap"), [(16, 0), (16, 8), (48, 10), (128, 0)])
def test_how_the_ground_is_cut_into_chips_changes_nothing_of_a_cell_by_cell_model(
    sky: Sky, predicted: Any, size: int, overlap: int
) -> None:
    red, nir = sloping(0.05, 0.30), sloping(0.40, 0.10, down=True)
    sky.scene("a", "2024-06-09", red, nir)
    sky.greenness(chip_size=size, overlap=overlap)
    found = predicted("greenness")
    np.testing.assert_allclose(found.map("values"), ndvi(red, nir)[cells_of(found.path("values"))], atol=2e-6)


def test_overlapping_chips_leave_no_seams_where_a_model_errs_at_its_edges(sky: Sky, predicted: Any) -> None:
    """The model answers with how far a cell is from the chip's left edge: alone, it would jump from one to the next."""
    sky.scene("a", "2024-06-09", plain(0.1), plain(0.3))
    nodes = [
        helper.make_node("Split", ["x"], ["red", "nir"], axis=1, num_outputs=2),
        helper.make_node("Mul", ["red", "none"], ["zero"]),
        helper.make_node("Add", ["zero", "ramp"], ["y"]),
    ]
    constants = {"none": np.array(0, np.float32), "ramp": np.arange(32, dtype=np.float32).reshape(1, 1, 1, 32) / 32}
    graph = network(nodes, (1, 2, "h", 32), (1, 1, "h", 32), constants)
    for name, overlap in (("hard", 0), ("soft", 16)):
        sky.model(name, graph, output="value", quantity={"name": "x"}, overlap=overlap)
    steps = {name: np.abs(np.diff(predicted(name).map("values"), axis=1)).max() for name in ("hard", "soft")}
    assert steps["hard"] == pytest.approx(31 / 32)
    assert steps["soft"] < 0.1


@pytest.mark.parametrize(
    ("output", "weights", "expected"),
    [("logits", [2.0], 1 / (1 + np.exp(-0.6))), ("probabilities", [2.0], 0.6), ("probabilities", [1.0, 2.0], 0.6)],
)
def test_a_lone_channel_is_the_second_of_two_classes(
    sky: Sky, predicted: Any, output: str, weights: list[float], expected: float
) -> None:
    sky.scene("a", "2024-06-09", plain(0.1), plain(0.3))
    nodes = [
        helper.make_node("Split", ["x"], ["red", "nir"], axis=1, num_outputs=2),
        helper.make_node("Mul", ["nir", "weights"], ["y"]),
    ]
    constants = {"weights": np.array(weights, np.float32).reshape(1, -1, 1, 1)}
    graph = network(nodes, (1, 2, "h", "w"), (1, len(weights), "h", "w"), constants)
    sky.model("m", graph, output=output, classes=[{"name": "no"}, {"name": "yes"}])
    found = predicted("m")
    assert set(found.map("classes").ravel()) == {1}
    np.testing.assert_allclose(found.map("probability"), expected, atol=1e-6)


def spoil(sky: Sky, how: str) -> None:
    folder = sky.greenness("m")
    manifest = json.loads((folder / "model.json").read_text())
    match how:
        case "changed":
            (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"\0")
        case "gone":
            (folder / "model.onnx").unlink()
        case "no network":
            (folder / "model.onnx").write_bytes(b"no network")
            digest = hashlib.sha256(b"no network").hexdigest()
            (folder / "model.json").write_text(json.dumps(manifest | {"sha256": digest}))
        case "other shape":
            classes = [{"name": name} for name in "abc"]
            manifest.pop("quantity")
            (folder / "model.json").write_text(json.dumps(manifest | {"output": "logits", "classes": classes}))
        case "other bands":
            (folder / "model.json").write_text(json.dumps(manifest | {"bands": ["red"]}))
        case "bad manifest":
            (folder / "model.json").write_text(json.dumps(manifest | {"std": [0, 1]}))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("changed", "sha256"),
        ("gone", "cannot be read"),
        ("no network", "onnxruntime does not take it"),
        ("other shape", "shape"),
        ("other bands", "cannot be run"),
        ("bad manifest", "std"),
    ],
)
def test_a_model_that_is_not_what_its_manifest_says_is_refused(sky: Sky, predicted: Any, how: str, said: str) -> None:
    sky.scene("a", "2024-06-09", plain(0.1), plain(0.3))
    spoil(sky, how)
    with pytest.raises(ModelUnusable, match=said):
        predicted("m")


def test_a_network_that_answers_nonsense_is_refused(sky: Sky, predicted: Any) -> None:
    sky.scene("a", "2024-06-09", plain(0.1), plain(0.3))
    nodes = [helper.make_node("Log", ["x"], ["l"]), helper.make_node("ReduceSum", ["l", "axis"], ["y"])]
    graph = network(nodes, (1, 2, "h", "w"), (1, 1, "h", "w"), {"axis": np.array([1])})
    sky.model("m", graph, output="value", quantity={"name": "x"}, mean=[0.5, 0.5])
    with pytest.raises(ModelUnusable, match="NaN"):
        predicted("m")


def test_a_model_is_found_by_its_name_or_by_its_family_and_size(sky: Sky, site: Site) -> None:
    for size in ("tiny", "large"):
        sky.water(f"water-{size}", key="water", size=size)
    sky.greenness()
    assert models.find("water-tiny", site).size == "tiny"
    assert models.find("water", site, "large").name == "water-large"
    assert models.find("greenness", site).family == "greenness"
    for name, size in (("water", None), ("water", "huge"), ("../models/greenness", None), ("fire", None)):
        with pytest.raises(ModelUnknown, match="no") as refused:
            models.find(name, site, size)
        assert "greenness" in refused.value.remedy
    with pytest.raises(ModelUnknown, match="fire"):
        models.find("fire", Site())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_steps": 3}, "num_steps is 3, but the model water takes 1"),
        ({"chip_size": 64}, "chip_size is 64, but the model water takes 32"),
        ({"source": "nowhere"}, "no data source 'nowhere'"),
        ({"source": "blind"}, "blind has no nir"),
        ({"model": "fire"}, "no model 'fire'"),
        ({"bboxes": [(15, 47, 20, 52)]}, "too many for a run"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_done(
    sky: Sky, site: Site, options: dict[str, Any], said: str
) -> None:
    sky.water()
    sky.source("blind", assets={"red": "B04"})
    params = Params.model_validate({"bboxes": [BOX], "model": "water", "date": "2024-06-10", **options})
    with pytest.raises((InputInvalid, InputTooLarge, ModelUnknown), match=said) as refused:
        models.preflight(params, site)
    assert refused.value.remedy


def test_a_model_that_takes_chips_of_any_size_may_be_given_others(sky: Sky, predicted: Any) -> None:
    sky.scene("a", "2024-06-09", plain(0.1), plain(0.3))
    sky.water(any_size=True)
    assert predicted("water", chip_size=64).area["chips"]["size"] == 64


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((15.1, 47.0, 15.0, 47.1), "west is not left of east"),
        ((179.9, -17.0, -179.9, -16.9), "antimeridian"),
        ((15.0, 47.1, 15.1, 47.0), "south is not below north"),
        ((47.0, 150.0, 47.1, 150.1), "outside the world"),
        ((500_000, 5_200_000, 510_000, 5_210_000), "outside the world"),
        ((15.0, 83.9, 15.1, 84.1), "UTM"),
        ((0.0, 40.0, 7.0, 41.0), "longer than"),
        ((float("nan"), 47.0, 15.1, 47.1), "finite"),
        ((15.0, 47.0, 15.1), "Field required"),
    ],
)
def test_a_box_that_is_none_is_refused_in_words(box: tuple[float, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Params.model_validate({"bboxes": [box], "model": "water", "date": "2024-06-10"})


def test_a_network_of_two_answers_is_refused(sky: Sky, predicted: Any) -> None:
    sky.scene("a", "2024-06-09", plain(0.1), plain(0.3))
    two = band_ratio()
    two.graph.output.append(two.graph.output[0])
    two.graph.output[1].name = "index"
    two.graph.node.append(helper.make_node("Identity", ["y"], ["index"]))
    sky.model("m", two, output="value", quantity={"name": "x"})
    with pytest.raises(ModelUnusable, match="1 inputs and 2 outputs"):
        predicted("m")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mean": [0.1]}, "mean has 1 numbers for 2 bands"),
        ({"overlap": 20}, "overlap is more than half"),
        ({"quantity": {"name": "x"}}, "goes with a quantity"),
        ({"classes": [{"name": "only"}]}, "two classes"),
        ({"name": "other"}, "the folder is named 'water'"),
        ({"secret": 1}, "secret"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(sky: Sky, site: Site, change: dict[str, Any], said: str) -> None:
    path = sky.water() / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelUnusable, match=said):
        models.find("water", site)
    assert list(models.known(site)) == []


def test_the_second_step_without_the_first_is_refused(tmp_path: Path, site: Site) -> None:
    params = Params.model_validate({"bboxes": [BOX], "model": "water", "date": "2024-06-10"})
    with pytest.raises(InputInvalid, match="no chips"):
        predict.run(Run({}, tmp_path, site=site), params)
