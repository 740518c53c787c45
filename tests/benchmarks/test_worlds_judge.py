"""How a result is held against the truth: whose a hull is, what became of a change, how scores are calibrated."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from shapely import MultiPolygon, Polygon, affinity

from benchmarks.worlds import judge as judging
from benchmarks.worlds.changes import Block
from benchmarks.worlds.cover import Thing
from benchmarks.worlds.judge import Verdict, judge
from benchmarks.worlds.kinds import world
from benchmarks.worlds.report import brier, ece, summary, table, width, worst
from benchmarks.worlds.world import World
from pipeline.errors import RegistrationFailed
from pipeline.volume_change.types import Hull

CUT, FILL = Block(20, 20, 8, 6, 0.0, -1.0), Block(30, 20, 8, 6, 0.0, 1.0)


def pair_of(*changes: Block) -> World:
    return replace(world("judge", "field", 0), changes=changes, size=50.0)


def hull(line: Polygon, net: float, score: float = 0.9, half: float = 1.0) -> Hull:
    cut, fill = max(-net, 0.0), max(net, 0.0)
    return Hull(
        "1", score, "ground", line.area, cut, fill, net, (0, 0), (0, 0), (net - half, net + half), 0, 0, 1,
        (line.centroid.x, line.centroid.y), MultiPolygon([line]),
    )  # fmt: skip


def verdict_of(pair: World, *hulls: Hull, site: float = 0.0) -> Verdict:
    analysis = SimpleNamespace(
        surveys=SimpleNamespace(origin=pair.origin),
        registration=SimpleNamespace(matrix=np.eye(4), method="identity"),
        hulls=hulls,
        site=SimpleNamespace(net_volume=site, net_volume_ci95=(site - 2, site + 2)),
    )
    verdict = Verdict("field", 0, True, "result", "result", (10.0, 10.0), 50.0, 0.02, False)
    verdict.truth, verdict.moved = sum(t.volume for t in pair.truths), sum(abs(t.volume) for t in pair.truths)
    judging._compare(verdict, pair, analysis)
    return verdict


def half(change: Block, side: int) -> Polygon:
    """The left (−1) or right (1) half of an unturned block."""
    return replace(change, x=change.x + side * change.length / 4, length=change.length / 2).outline(0.0)


def test_a_hull_on_a_change_finds_it() -> None:
    verdict = verdict_of(pair_of(CUT, FILL), hull(CUT.outline(0), -47.5), hull(FILL.outline(0), 46.0))
    assert [c.fate for c in verdict.changes] == ["found", "found"]
    assert [(c.net, c.half_width) for c in verdict.changes] == [(-47.5, 1.0), (46.0, 1.0)]
    assert all(c.asked and c.area == pytest.approx(48) for c in verdict.changes)
    assert all(h.real and h.cause == "change" for h in verdict.hulls)


def test_a_hull_of_the_other_sign_does_not() -> None:
    verdict = verdict_of(pair_of(CUT), hull(CUT.outline(0), 47.5))
    assert verdict.changes[0].fate == "missed"
    assert (verdict.hulls[0].real, verdict.hulls[0].cause) == (False, "nothing")


def test_a_hull_of_the_whole_site_finds_nothing() -> None:
    verdict = verdict_of(pair_of(CUT), hull(Polygon([(0, 0), (50, 0), (50, 50), (0, 50)]), -60.0))
    assert verdict.changes[0].fate == "missed"
    assert not verdict.hulls[0].real


def test_two_hulls_on_one_change_are_a_split_and_one_on_two_is_a_merger() -> None:
    halves = [hull(half(CUT, side), -24) for side in (-1, 1)]
    assert verdict_of(pair_of(CUT), *halves).changes[0].fate == "split"
    other = replace(FILL, height=-1.0)
    joined = CUT.outline(0).union(other.outline(0)).convex_hull
    assert [c.fate for c in verdict_of(pair_of(CUT, other), hull(joined, -96)).changes] == ["merged", "merged"]


def test_a_hull_that_nobody_believes_finds_nothing_and_is_no_false_one() -> None:
    verdict = verdict_of(pair_of(CUT), hull(CUT.outline(0), -48, score=0.4))
    assert verdict.changes[0].fate == "missed"
    assert "| 0, 0, 0 |" in list(table([verdict]))[2]


def test_a_false_hull_on_a_vehicle_is_told_from_one_on_nothing() -> None:
    pair = pair_of(CUT)
    lorry = Thing(40, 40, 6, 2.5, 2, 0.3)
    pair = replace(pair, post=replace(pair.post, cover=replace(pair.post.cover, things=(lorry,))))
    verdict = verdict_of(pair, hull(lorry.outline, 30), hull(affinity.translate(lorry.outline, -30, 0), 30))
    assert [h.cause for h in verdict.hulls] == ["vehicle", "nothing"]


def test_small_or_faint_changes_are_not_asked_for() -> None:
    faint, small = replace(CUT, height=-0.07), replace(FILL, length=1.0, width=1.0)
    assert [c.asked for c in verdict_of(pair_of(faint, small)).changes] == [False, False]


def test_intervals_of_hulls_and_site_are_held_against_the_truth() -> None:
    good = verdict_of(pair_of(CUT), hull(CUT.outline(0), -48.9), site=-49.0)
    bad = verdict_of(pair_of(CUT), hull(CUT.outline(0), -50.0), site=-45.0)
    row = next(line for line in table([good, bad]) if "**all**" in line)
    assert row.count("1 of 2 (50.0%)") == 2
    assert any("hull intervals hold 1 of 2" in line for line in summary([good, bad]))
    said = "\n".join(worst([good, bad], 5))
    assert "2.0 × half width: Block of -48.0 m³ measured as -50.0" in said
    assert "1.5 × half width: -48.0 m³ measured as -45.0 ± 2.0" in said


def test_a_refusal_is_counted_and_a_defect_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RegistrationFailed("no", remedy="none")

    def fail(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr(judging, "analyse", refuse)
    refused = judge("judge", "field", 0)
    assert (refused.outcome, refused.why) == ("refused", "REGISTRATION_FAILED: no")
    monkeypatch.setattr(judging, "analyse", fail)
    defect = judge("judge", "field", 0)
    assert defect.outcome == "defect"
    assert "ZeroDivisionError: oh" in defect.why
    assert next(line for line in table([refused, defect]) if "**all**" in line).endswith("| 1 |")


def test_calibration_is_the_gap_between_score_and_share() -> None:
    assert ece([(0.85, True)] * 17 + [(0.85, False)] * 3) == pytest.approx(0.0)
    assert ece([(0.95, False)] * 5 + [(0.05, True)] * 5) == pytest.approx(0.95)
    assert ece([(1.0, True), (0.0, False)]) == 0.0
    assert brier([(0.8, True), (0.4, False)]) == pytest.approx((0.04 + 0.16) / 2)
    assert width([0.5] * 20) == "2.0"


def test_a_world_goes_through_the_whole_method_the_same_way_twice() -> None:
    once, again = (judge("judge", "field", 1) for _ in range(2))
    assert once.outcome == "result"
    assert len(once.changes) == 4
    assert once.registration_normal < 0.02
    assert {**once.document(), "seconds": 0} == {**again.document(), "seconds": 0}
