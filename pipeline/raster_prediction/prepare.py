"""The first step: find scenes, read them without their clouds, lay them onto one grid, cut chips."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from pipeline.contracts import Artifact, Outcome, Report, Run
from pipeline.errors import ScenesMissing, ScenesUnreadable
from pipeline.raster_prediction import Box, Params, chips, models, sources
from pipeline.raster_prediction.models import Model, Wanted
from pipeline.raster_prediction.scenes.catalogue import Scene, Scenes
from pipeline.raster_prediction.scenes.composite import COMPOSITES, Picture
from pipeline.raster_prediction.scenes.grid import Grid, grid_of
from pipeline.raster_prediction.scenes.reading import Strip, Unreadable, read_bands

log = logging.getLogger(__name__)

STRIP_ROWS = 512


@dataclass
class _Work:
    """What is under way, and what went wrong on it."""

    params: Params
    model: Model
    wanted: Wanted
    scenes: Scenes
    report: Report
    warnings: list[dict[str, str]] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)


def run(run: Run, params: Params) -> Outcome:
    """Leave chips of every place, each with all time steps, and the list of them.

    Raises:
        PipelineError: If the model, the source or the catalogue cannot be used, or nothing was seen.
    """
    model = models.find(params.model, run.site)
    wanted = models.resolve(params, model, run.site)
    source = sources.find(wanted.source, run.site)
    run.report(0.01, "searching")
    work = _Work(params, model, wanted, Scenes(source, run.site), run.report)
    areas, artifacts = [], []
    with work.scenes.reach.files(earthdata=source.earthdata):
        found = [_search(work, box) for box in params.bboxes]
        for number, (box, steps) in enumerate(zip(params.bboxes, found, strict=True)):
            share = (0.05 + 0.9 * number / len(found), 0.9 / len(found))
            area, files = _prepare(run, work, number, box, steps, share)
            areas.append(area)
            artifacts += files
    _insist(work, areas)
    listed = chips.ChipList(
        chip_size=wanted.chip_size,
        overlap=wanted.overlap,
        time_steps=len(wanted.days),
        bands=list(model.bands),
        areas=areas,
    )
    artifacts.append(listed.write(run.outdir))
    return Outcome(_facts(work, areas), tuple(artifacts))


def _search(work: _Work, box: Box) -> list[list[Scene]]:
    find = partial(work.scenes.find, most_clouds=work.params.cloud_coverage)
    found = [find(box, day, work.params.temporal_tolerance) for day in work.wanted.days]
    for day, scenes in zip(work.wanted.days, found, strict=True):
        if not scenes:
            _warn(work, "SCENES_MISSING", f"No scene touches {list(box)} around {day}.")
    return found


def _prepare(
    run: Run, work: _Work, number: int, box: Box, steps: list[list[Scene]], share: tuple[float, float]
) -> tuple[chips.Area, list[Artifact]]:
    """Composite the time steps of a place and cut them into chips."""
    grid = grid_of(box, work.model.resolution)
    depth = len(work.model.bands)
    cells = np.full((len(steps) * depth, grid.height, grid.width), np.nan, np.float32)
    used: list[list[Scene]] = []
    for at, scenes in enumerate(steps):
        begun = share[0] + share[1] * at / len(steps)
        tell = partial(
            _tell, work.report, begun, share[1] / len(steps), f"reading {number + 1} of {len(work.params.bboxes)}"
        )
        used.append(_composite(work, scenes, grid, cells[at * depth : (at + 1) * depth], tell))
    listed, files = _cut(run, work, number, grid, cells)
    area = chips.Area(
        box=box,
        crs=grid.epsg,
        transform=grid.transform.to_gdal(),
        width=grid.width,
        height=grid.height,
        scenes=[[_about(scene) for scene in scenes] for scenes in used],
        clear=[float(1 - np.isnan(cells[at * depth]).mean()) for at in range(len(steps))],
        chips=listed,
    )
    return area, files


def _tell(report: Report, begun: float, share: float, stage: str, fraction: float) -> None:
    report(begun + share * fraction, stage)


def _composite(
    work: _Work, scenes: list[Scene], grid: Grid, into: NDArray[np.float32], tell: Callable[[float], None]
) -> list[Scene]:
    """Write the picture of a time step, strip by strip; return the scenes that it was made of."""
    used: dict[str, Scene] = {}
    for row in range(0, grid.height, STRIP_ROWS):
        strip = Strip(row, min(STRIP_ROWS, grid.height - row))
        part = into[:, row : row + strip.rows]
        read = [partial(_read, work, scene, grid, strip, used) for scene in scenes]
        part[...] = COMPOSITES[work.params.composite](read, part)
        tell(min(1.0, (row + strip.rows) / grid.height))
    return [scene for scene in scenes if scene.id in used]


def _read(work: _Work, scene: Scene, grid: Grid, strip: Strip, used: dict[str, Scene]) -> Picture | None:
    if scene.id in work.unreadable:
        return None
    try:
        seen = read_bands(scene, work.model.bands, grid, strip, work.scenes.reach)
    except Unreadable as error:
        work.unreadable.add(scene.id)
        _warn(work, "SCENE_UNREADABLE", f"The scene {scene.id} is left out: {error}.")
        return None
    work.used.add(scene.id)
    if not np.isnan(seen).all():
        used[scene.id] = scene
    return seen


def _cut(
    run: Run, work: _Work, number: int, grid: Grid, cells: NDArray[np.float32]
) -> tuple[list[chips.Chip], list[Artifact]]:
    folder = run.outdir / "chips" / str(number)
    folder.mkdir(parents=True)
    names = [f"{day} {band}" for day in work.wanted.days for band in work.model.bands]
    listed, files = [], []
    for row, column, square in chips.cut(cells, work.wanted.chip_size, work.wanted.overlap):
        name = None
        if not np.isnan(square).all():
            name = f"chips/{number}/{row}_{column}.tif"
            transform = grid.transform @ Affine.translation(column, row)
            chips.write(run.outdir / name, square, grid.epsg, transform, names)
            files.append(
                Artifact(name, "image/tiff; application=geotiff", f"Chip {row}, {column} of place {number + 1}")
            )
        listed.append(chips.Chip(row=row, column=column, name=name))
    return listed, files


def _insist(work: _Work, areas: list[chips.Area]) -> None:
    """Refuse to go on with nothing."""
    if any(chip.name is not None for area in areas for chip in area.chips):
        return
    details = {"warnings": work.warnings[:20]}
    if work.unreadable and not work.used:
        raise ScenesUnreadable(
            f"Of {len(work.unreadable)} scenes none can be read. {work.warnings[-1]['message']}",
            remedy="Restart the task later; if it fails again, the operator checks the network and the source's login.",
            details=details,
        )
    raise ScenesMissing(
        "Nothing was seen of the places at those times: there is no scene, or all of them are clouded.",
        label="bboxes",
        remedy="Allow more days (temporal_tolerance) or clouds (cloud_coverage), or choose another date.",
        details=details,
    )


def _warn(work: _Work, code: str, message: str) -> None:
    log.warning("%s", message)
    work.warnings.append({"code": code, "message": message})


def _about(scene: Scene) -> dict[str, str | float | None]:
    return {
        "id": scene.id,
        "collection": scene.collection.id,
        "taken": scene.taken.isoformat(),
        "cloud_cover": scene.clouds,
    }


def _facts(work: _Work, areas: list[chips.Area]) -> dict[str, Any]:
    return {
        "schema": "volcal/raster_chips/1",
        "source": work.wanted.source,
        "days": [day.isoformat() for day in work.wanted.days],
        "chips": sum(chip.name is not None for area in areas for chip in area.chips),
        "areas": [{"bbox": list(a.box), "scenes": a.scenes, "clear": [round(c, 4) for c in a.clear]} for a in areas],
        "warnings": work.warnings,
    }
