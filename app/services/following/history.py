"""How long the stages of a pipeline's runs took so far, out of the counters that are kept anyway."""

import json

from sqlalchemy import func, select

from app.db.session import UnitOfWork
from app.db.vitals import Counter

ENOUGH = 3
"""Runs that ended well, before which nothing is said about the next."""


def stage_seconds(work: UnitOfWork, pipeline: str) -> dict[str, float]:
    """Return the seconds that all runs of a pipeline spent in each stage; nothing before ``ENOUGH`` ended well.

    Sums, so that their ratios say how a run's time is shared out: large runs, whose end people wait for, weigh most.

    Args:
        work: The transaction.
        pipeline: Which pipeline.
    """
    found = work.session.execute(
        select(Counter.name, Counter.labels, func.sum(Counter.value))
        .where(Counter.name.in_(["run_seconds_bucket", "run_stage_seconds_sum"]))
        .group_by(Counter.name, Counter.labels)
    )
    runs, seconds = 0.0, dict[str, float]()
    for name, text, value in found:
        labels = json.loads(text)
        if labels["pipeline"] != pipeline:
            continue
        if name == "run_stage_seconds_sum":
            seconds[labels["stage"]] = value
        elif labels["outcome"] == "done":
            runs += value
    return seconds if runs >= ENOUGH else {}
