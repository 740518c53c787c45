"""Two surveys and stable ground in, scored change hulls out: the whole method, one line a stage."""

import gc
from contextlib import suppress
from shutil import rmtree
from threading import Thread

from pipeline.contracts import Outcome, Run
from pipeline.progress import Stopwatch
from pipeline.volume_change import Params
from pipeline.volume_change.inputs.points import TilePlan
from pipeline.volume_change.read import read_surveys


def run(run: Run, params: Params) -> Outcome:
    """Read, keep the ground, align, compare, and show: docs/method.md has the why of each line."""
    clock = Stopwatch(run.report)
    tiles = TilePlan(run.outdir / ".tiles", params.tile_points)
    try:
        return _run(run, params, tiles, clock)
    finally:
        rmtree(tiles.folder, ignore_errors=True)


def _run(run: Run, params: Params, tiles: TilePlan, clock: Stopwatch) -> Outcome:
    # The later stages' libraries take longer to load than a million points to read: do both at once.
    Thread(target=_load, args=(params.images,), name="loader").start()

    with clock.stage("reading", until=0.15) as report:
        surveys = read_surveys(
            run.inputs, max_points=params.max_points, tiles=tiles, helpers=run.helpers, report=report
        )
    with clock.stage("selecting ground", until=0.20):
        from pipeline.volume_change.ground import select_ground

        ground = select_ground(surveys.pre, surveys.post, params.ground, helpers=run.helpers)
    with clock.stage("registering", until=0.50):
        from pipeline.volume_change.register import register

        registration = register(ground.pre, ground.post, surveys.stable, engine=params.registration, seed=run.seed)
    with clock.stage("detecting change", until=0.70) as report:
        from pipeline.volume_change.detect import detect

        analysis = detect(
            surveys,
            ground,
            registration,
            cell=params.cell,
            min_score=params.min_score,
            report=report,
            helpers=run.helpers,
        )
    with clock.stage("drawing", until=1.0) as report:
        from pipeline.volume_change.output.present import present

        return present(
            analysis,
            run.outdir,
            images=params.images,
            max_hull_images=params.max_hull_images,
            params=params.model_dump(mode="json") | {"seed": run.seed},
            timings=clock.timings,
            report=report,
        )


def _load(images: bool) -> None:
    """Import what the stages after reading need, in their order; what fails here fails there again, and is told."""
    # The collector would look at everything that was loaded so far again and again; none of it is ever garbage.
    collecting = gc.isenabled()
    gc.disable()
    with suppress(Exception):
        import pipeline.volume_change.ground
        import pipeline.volume_change.register
        import pipeline.volume_change.detect  # isort: skip
        import pipeline.volume_change.output.present  # isort: skip

        if images:
            import pipeline.volume_change.output.pictures.hull_view
            import pipeline.volume_change.output.pictures.overview
            import pipeline.volume_change.output.report
            import pipeline.volume_change.output.printed.report  # noqa: F401  # isort: skip
    gc.freeze()
    if collecting:
        gc.enable()
