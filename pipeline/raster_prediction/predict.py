"""The second step: run the model over the chips, put its answers together, write maps and what they add up to."""

import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.env import get_gdal_config
from rasterio.warp import transform_bounds

from pipeline.contracts import Artifact, Outcome, Run
from pipeline.errors import InputInvalid
from pipeline.raster_prediction import Params, chips, models
from pipeline.raster_prediction.chips import Area, ChipList
from pipeline.raster_prediction.models import Model
from pipeline.raster_prediction.prediction import files
from pipeline.raster_prediction.prediction.mosaic import Mosaic
from pipeline.raster_prediction.prediction.network import Network

TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
NOTES = (
    "Areas count cells of the UTM grid, which are up to 0.1 % larger or smaller than on the ground; not corrected.",
    "Probabilities are what the model says of itself: of the cells at 0.9, nine in ten need not be right.",
    "No interval is given for areas, because nothing here measures the model's error.",
    "Cells that were not seen, for clouds or for want of scenes, are nodata; they count as unknown, not as any class.",
)


@dataclass(frozen=True, slots=True)
class _Map:
    """What the model says of a place.

    Args:
        answer: Shape (channels, rows, columns); NaN where nothing is known.
        known: Where something is.
    """

    answer: NDArray[np.float32]
    known: NDArray[np.bool_]


def run(run: Run, params: Params) -> Outcome:
    """Leave a map of each place, a picture of it, and the result document.

    Raises:
        PipelineError: If the model cannot be used, or there are no chips.
    """
    if run.before is None or not (run.before / chips.LIST).is_file():
        raise InputInvalid("There are no chips from the step before.", remedy="Restart the task with its options.")
    run.report(0.01, "loading the model")
    model = models.find(params.model, run.site)
    assert run.site.models is not None  # noqa: S101  (narrowing: the model was found there)
    network = Network(model, run.site.models / model.name, threads=_threads())
    listed = ChipList.model_validate_json((run.before / chips.LIST).read_bytes())
    total = max(1, sum(len(area.chips) for area in listed.areas))
    artifacts: list[Artifact] = []
    described, done = [], 0
    for number, area in enumerate(listed.areas):
        found = _predict(run, model, network, listed, area, (done, total))
        done += len(area.chips)
        described.append(_describe(model, area, found, names := _names(model, number), listed))
        artifacts += _write(run.outdir, model, area, found, names, number)
    document = _document(run, params, model, described)
    run.report(0.98, "writing")
    (run.outdir / "results.json").write_text(json.dumps(document, indent=1, allow_nan=False))
    artifacts.append(Artifact("results.json", "application/json", "Result document"))
    return Outcome(document, tuple(artifacts))


def _threads() -> int:
    """Return how many threads the run may use: the worker tells all libraries, of which GDAL passes it on."""
    told = str(get_gdal_config("GDAL_NUM_THREADS"))
    return int(told) if told.isdecimal() else 1


def _predict(run: Run, model: Model, network: Network, listed: ChipList, area: Area, of: tuple[int, int]) -> _Map:
    before = run.before or Path()
    mosaic = Mosaic(model.channels, area.height, area.width, size=listed.chip_size, overlap=listed.overlap)
    known = np.zeros((area.height, area.width), bool)
    for number, chip in enumerate(area.chips):
        run.report(0.05 + 0.9 * (of[0] + number) / of[1], "predicting")
        if chip.name is None:
            continue
        layers = chips.read(before / chip.name)
        mosaic.add(chip.row, chip.column, network.predict(layers))
        seen = _seen(layers, model)
        part = known[chip.row : chip.row + listed.chip_size, chip.column : chip.column + listed.chip_size]
        part |= seen[: part.shape[0], : part.shape[1]]
    answer = mosaic.whole()
    answer[:, ~known] = np.nan
    return _Map(answer, known)


def _seen(layers: NDArray[np.float32], model: Model) -> NDArray[np.bool_]:
    """Return where a chip was seen as the model needs it."""
    steps = ~np.isnan(layers.reshape(-1, len(model.bands), *layers.shape[1:])).any(axis=1)
    seen: NDArray[np.bool_] = np.logical_and.reduce(steps) if model.needs == "all" else np.logical_or.reduce(steps)
    return seen


def _classes(found: _Map) -> NDArray[np.uint8]:
    best = np.where(found.known, np.nan_to_num(found.answer).argmax(axis=0), files.NOTHING)
    return best.astype(np.uint8)


def _names(model: Model, number: int) -> dict[str, str]:
    maps = {"classes": "classes.tif", "probability": "probability.tif"} if model.classes else {"values": "values.tif"}
    return {kind: f"{number}/{name}" for kind, name in {**maps, "preview": "preview.png"}.items()}


def _write(outdir: Path, model: Model, area: Area, found: _Map, names: dict[str, str], number: int) -> list[Artifact]:
    (outdir / str(number)).mkdir()
    at: dict[str, Any] = {"crs": area.crs, "transform": area.affine}
    place = f"place {number + 1}"
    if model.classes:
        classes, colours = _classes(found), [each.colour for each in model.classes]
        tags = {f"CLASS_{value}": each.name for value, each in enumerate(model.classes)}
        files.write_cog(outdir / names["classes"], classes, nodata=files.NOTHING, colours=colours, tags=tags, **at)
        best = found.answer.max(axis=0)
        files.write_cog(outdir / names["probability"], best, nodata=np.nan, **at)
        files.draw_classes(outdir / names["preview"], classes, colours)
        maps = [
            Artifact(names["classes"], TIFF, f"Classes of {place}"),
            Artifact(names["probability"], TIFF, f"Probability of the class of {place}"),
        ]
    else:
        assert model.quantity is not None  # noqa: S101  (narrowing: the manifest was checked)
        tags = {"QUANTITY": model.quantity.name, "UNIT": model.quantity.unit}
        files.write_cog(outdir / names["values"], found.answer[0], nodata=np.nan, tags=tags, **at)
        files.draw_values(outdir / names["preview"], found.answer[0], model.quantity.shown)
        maps = [Artifact(names["values"], TIFF, f"{model.quantity.name} of {place}")]
    return [*maps, Artifact(names["preview"], "image/png", f"Preview of {place}")]


def _describe(model: Model, area: Area, found: _Map, names: dict[str, str], listed: ChipList) -> dict[str, Any]:
    cell = abs(area.transform[1] * area.transform[5])
    left, top = area.transform[0], area.transform[3]
    bounds = (left, top + area.height * area.transform[5], left + area.width * area.transform[1], top)
    known, total = int(found.known.sum()), found.known.size
    return {
        "bbox": list(area.box),
        "crs": area.crs,
        "bounds": list(bounds),
        "bounds_wgs84": [round(x, 7) for x in transform_bounds(area.crs, "EPSG:4326", *bounds, densify_pts=21)],
        "resolution": area.transform[1],
        "width": area.width,
        "height": area.height,
        "coverage": round(known / total, 6),
        "unknown": {"cells": total - known, "area": (total - known) * cell},
        **(_class_areas(model, found, cell) if model.classes else _figures(model, found)),
        "steps": [
            {"clear": round(clear, 6), "scenes": scenes} for clear, scenes in zip(area.clear, area.scenes, strict=True)
        ],
        "chips": {"size": listed.chip_size, "overlap": listed.overlap, "count": len(area.chips)},
        "files": names,
    }


def _class_areas(model: Model, found: _Map, cell: float) -> dict[str, Any]:
    classes = _classes(found)
    best = found.answer.max(axis=0)
    rows = []
    for value, each in enumerate(model.classes):
        here = classes == value
        cells = int(here.sum())
        rows.append(
            {
                "value": value,
                "name": each.name,
                "colour": each.colour,
                "cells": cells,
                "area": cells * cell,
                "mean_probability": round(float(best[here].mean(dtype=np.float64)), 6) if cells else None,
            }
        )
    return {"classes": rows}


def _figures(model: Model, found: _Map) -> dict[str, Any]:
    assert model.quantity is not None  # noqa: S101  (narrowing: the manifest was checked)
    values = found.answer[0][found.known].astype(np.float64)
    figures = {
        word: float(figure(values)) if values.size else None
        for word, figure in (("min", np.min), ("mean", np.mean), ("max", np.max))
    }
    return {"values": {"name": model.quantity.name, "unit": model.quantity.unit, **figures}}


def _document(run: Run, params: Params, model: Model, areas: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema": "volcal/raster_prediction/1",
        "model": {
            "name": model.name,
            "title": model.title,
            "version": model.version,
            "sha256": model.sha256,
            "note": model.note,
        },
        "source": run.facts.get("source", ""),
        "days": run.facts.get("days", []),
        "unit": "metre",
        "areas": areas,
        "notes": list(NOTES),
        "warnings": run.facts.get("warnings", []),
        "parameters": params.model_dump(mode="json"),
        "versions": {name: version(name) for name in ("volcal-server", "onnxruntime", "rasterio")},
    }
