"""Two surveys and stable ground in, scored change hulls out: the whole method, one line a stage."""

from pipeline.contracts import Outcome, Run
from pipeline.progress import Stopwatch
from pipeline.volume_change import Params
from pipeline.volume_change.detect import detect
from pipeline.volume_change.ground import select_ground
from pipeline.volume_change.output.present import present
from pipeline.volume_change.read import read_surveys
from pipeline.volume_change.register import register


def run(run: Run, params: Params) -> Outcome:
    """Read, keep the ground, align, compare, and show: docs/method.md has the why of each line."""
    clock = Stopwatch(run.report)

    with clock.stage("reading", until=0.15):
        surveys = read_surveys(run.inputs, max_points=params.max_points)
    with clock.stage("selecting ground", until=0.20):
        ground = select_ground(surveys.pre, surveys.post, params.ground)
    with clock.stage("registering", until=0.50):
        registration = register(ground.pre, ground.post, surveys.stable, engine=params.registration, seed=run.seed)
    with clock.stage("detecting change", until=0.70) as report:
        analysis = detect(surveys, ground, registration, cell=params.cell, min_score=params.min_score, report=report)
    with clock.stage("drawing", until=1.0) as report:
        return present(
            analysis,
            run.outdir,
            images=params.images,
            max_hull_images=params.max_hull_images,
            params=params.model_dump(mode="json") | {"seed": run.seed},
            timings=clock.timings,
            report=report,
        )
