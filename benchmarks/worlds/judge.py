"""One world through the stages of a run, and what came out held against the truth."""

import traceback
from dataclasses import asdict, dataclass, field
from time import process_time
from typing import Any

import numpy as np
from shapely import MultiPolygon, Polygon, affinity

from benchmarks.worlds.changes import Truth
from benchmarks.worlds.kinds import TABLES, Set, world
from benchmarks.worlds.world import World
from pipeline.errors import PipelineError
from pipeline.volume_change.detect import detect
from pipeline.volume_change.ground import select_ground
from pipeline.volume_change.register import register
from pipeline.volume_change.types import Analysis, Hull, Surveys

BELIEVED = 0.5  # score from which a hull counts
PARTNER = 0.25  # share of the smaller of hull and footprint that both cover if the hull is of that change
ON_CHANGE = (
    0.1  # and the least share of the hull that must lie on changes of its sign: a hull of the whole site is false
)
LEAST_VOLUME, LEAST_HEIGHT = 3.0, 3.0  # m³ and LoD95 (of a nine-point cell) that a change must have to be asked for


@dataclass
class JudgedChange:
    """What became of one change."""

    shape: str
    volume: float
    area: float  # of the footprint (|dz| > 2 cm), m²
    exact_area: float  # where dz is not 0, m²
    lod_area: float  # where |dz| > half the LoD95, which noise lets one see, m²
    asked: bool  # whether it must be found: > 3 m³ and on average > 3 LoD95
    fate: str  # found, missed, split, merged
    whole: bool  # whether both surveys show all of it
    net: float = 0.0  # of its hull if found, m³
    half_width: float = 0.0
    hull_area: float = 0.0
    score: float = 0.0


@dataclass
class JudgedHull:
    """What one hull was."""

    score: float
    real: bool
    cause: str  # change, vegetation, vehicle, nothing
    net: float
    area: float
    kind: str
    at: tuple[float, float]


@dataclass
class Verdict:
    """What became of one world; volumes m³, lengths m."""

    kind: str
    index: int
    seen: bool | None
    outcome: str  # result, refused, defect
    expected: str
    density: tuple[float, float]
    size: float
    lod95: float
    shared_error: bool  # whether the surveys have errors that neighbours share
    why: str = ""
    seconds: float = 0.0  # CPU of the stages
    changes: list[JudgedChange] = field(default_factory=list)
    hulls: list[JudgedHull] = field(default_factory=list)
    registration: float = np.nan  # RMS over the site in space
    registration_normal: float = np.nan  # and along the ground's normals
    method: str = ""
    moved: float = 0.0  # sum of |volume|
    truth: float = 0.0  # sum of volumes
    net: float = 0.0  # over hulls that are believed
    site: float = 0.0
    site_half: float = 0.0

    def document(self) -> dict[str, Any]:
        return asdict(self)


def analyse(surveys: Surveys) -> Analysis:
    """The stages of ``volcal run`` with default options, from what was read to the hulls."""
    ground = select_ground(surveys.pre, surveys.post, "auto")
    registration = register(ground.pre, ground.post, surveys.stable)
    return detect(surveys, ground, registration, cell=None, min_score=0.0, report=lambda *_: None)


def judge(which: Set, name: str, index: int) -> Verdict:
    """Draw a world, run it, and say what became of it; never raises for what the pipeline does."""
    pair = world(which, name, index)
    errors = (pair.pre.errors, pair.post.errors)
    verdict = Verdict(
        name, index, TABLES[which][name].seen, "result", pair.expected, (pair.pre.density, pair.post.density),
        pair.size, pair.lod95, any(e.correlated or e.stripes or e.dome for e in errors),
        moved=sum(abs(t.volume) for t in pair.truths), truth=sum(t.volume for t in pair.truths),
    )  # fmt: skip
    surveys = pair.surveys()
    start = process_time()
    try:
        analysis = analyse(surveys)
    except PipelineError as refusal:
        verdict.outcome, verdict.why = "refused", f"{refusal.code}: {refusal.message}"
    except Exception as defect:  # noqa: BLE001 - a defect of the pipeline is a finding, and the run goes on
        at = traceback.extract_tb(defect.__traceback__)[-1]
        verdict.outcome, verdict.why = "defect", f"{type(defect).__name__}: {defect} ({at.name}:{at.lineno})"
    else:
        _compare(verdict, pair, analysis)
    verdict.seconds = process_time() - start
    return verdict


def _compare(verdict: Verdict, pair: World, analysis: Analysis) -> None:
    origin = analysis.surveys.origin
    registration = analysis.registration
    verdict.registration, verdict.registration_normal = pair.registration_error(registration.matrix, origin)
    verdict.method = registration.method
    shift = origin - pair.origin
    outlines = [affinity.translate(hull.polygon, shift[0], shift[1]) for hull in analysis.hulls]
    partners = [_partners(hull, line, pair.truths) for hull, line in zip(analysis.hulls, outlines, strict=True)]
    green = [survey.cover.green.buffer(pair.cell) for survey in (pair.pre, pair.post)]
    machines = [survey.cover.machines.buffer(pair.cell) for survey in (pair.pre, pair.post)]
    for hull, line, own in zip(analysis.hulls, outlines, partners, strict=True):
        cause = "change" if own else _cause(line, machines, green)
        at = (round(line.centroid.x, 1), round(line.centroid.y, 1))
        verdict.hulls.append(JudgedHull(hull.score, bool(own), cause, hull.net_volume, hull.area, hull.kind, at))
    for number, truth in enumerate(pair.truths):
        verdict.changes.append(_fate(number, truth, pair, analysis.hulls, partners))
    verdict.net = sum(hull.net_volume for hull in analysis.hulls if hull.score >= BELIEVED)
    low, high = analysis.site.net_volume_ci95
    verdict.site, verdict.site_half = analysis.site.net_volume, (high - low) / 2


def _partners(hull: Hull, line: Polygon | MultiPolygon, truths: tuple[Truth, ...]) -> tuple[int, ...]:
    """Numbers of the changes of the hull's sign that it shares enough ground with."""
    shared = {
        number: line.intersection(truth.footprint).area
        for number, truth in enumerate(truths)
        if truth.volume * hull.net_volume > 0
    }
    if sum(shared.values()) < ON_CHANGE * line.area:
        return ()
    return tuple(
        number for number, area in shared.items() if area > PARTNER * min(line.area, truths[number].footprint.area)
    )


def _cause(line: Polygon | MultiPolygon, machines: list[MultiPolygon], green: list[MultiPolygon]) -> str:
    """What a false hull lies on, for at least a third of it or within a cell."""
    for name, shapes in (("vehicle", machines), ("vegetation", green)):
        if any(line.intersection(shape).area > line.area / 3 for shape in shapes):
            return name
    return "nothing"


def _fate(
    number: int, truth: Truth, pair: World, hulls: tuple[Hull, ...], partners: list[tuple[int, ...]]
) -> JudgedChange:
    area = truth.footprint.area
    visible = truth.above(pair.lod95 / 2).area
    mean = abs(truth.volume) / max(area, 1e-9)
    change = JudgedChange(
        type(truth.change).__name__, truth.volume, area, truth.exact.area, visible,
        abs(truth.volume) > LEAST_VOLUME and mean > LEAST_HEIGHT * pair.lod95, "missed", truth.whole,
    )  # fmt: skip
    own = [i for i, mine in enumerate(partners) if number in mine and hulls[i].score >= BELIEVED]
    if len(own) > 1:
        change.fate = "split"
    elif own and len(partners[own[0]]) > 1:
        change.fate = "merged"
    elif own:
        hull = hulls[own[0]]
        low, high = hull.net_volume_ci95
        change.fate, change.net, change.half_width = "found", hull.net_volume, (high - low) / 2
        change.hull_area, change.score = hull.area, hull.score
    return change
