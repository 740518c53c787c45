from app.services.following import history
from tests.app.conftest import World


def test_three_runs_that_ended_well_are_a_history(world: World) -> None:
    def seconds() -> dict[str, float]:
        with world.context.unit_of_work(read_only=True) as work:
            return history.stage_seconds(work, "constant")

    def ran(outcome: str, pipeline: str = "constant") -> None:
        with world.context.unit_of_work() as work:
            work.observe("run_seconds", 5.0, pipeline=pipeline, outcome=outcome)
            work.observe("run_stage_seconds", 4.0, pipeline=pipeline, stage="working")
            work.commit()

    for outcome in ("done", "done", "failed"):
        ran(outcome)
    ran("done", "another")
    assert seconds() == {}
    ran("done")
    assert seconds() == {"working": 16.0}
