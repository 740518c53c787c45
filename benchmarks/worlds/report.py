"""What many verdicts say together: a row per kind, the targets, and the worst cases, as Markdown."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from benchmarks.worlds.judge import BELIEVED, JudgedChange, Verdict

LOST = 0.05  # m along normals over the site: a registration that is this far off and gave a result is silently wrong
BINS = 10
HEAD = (
    "kind (worlds)", "asked: found as one hull", "split, merged, missed", "false: nothing, plants, vehicles",
    "area ratio", "hull error, %", "hull 95 %", "width", "net of moved, %", "site 95 %",
    "registration, mm", "along normals, mm", "refused",
)  # fmt: skip


def placed(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Those whose registration holds: what the later stages can be blamed for."""
    return [v for v in verdicts if v.outcome == "result" and v.registration_normal <= LOST]


def table(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield a row for each kind, and one for all seen, all unseen and all."""
    yield f"| {' | '.join(HEAD)} |"
    yield f"| {' | '.join('---' for _ in HEAD)} |"
    for name in dict.fromkeys(v.kind for v in verdicts):
        yield row(name + _label(verdicts, name), [v for v in verdicts if v.kind == name])
    for name, wanted in (("**seen kinds**", True), ("**unseen kinds**", False)):
        part = [v for v in verdicts if v.seen is wanted]
        if part:
            yield row(name, part)
    yield row("**all**", verdicts)
    if len(placed(verdicts)) < len(verdicts):
        yield row(f"**registered within {LOST * 100:.0f} cm**", placed(verdicts))


def row(name: str, verdicts: Sequence[Verdict]) -> str:
    """One row: medians and worst cases over these worlds."""
    done = [v for v in verdicts if v.outcome == "result"]
    asked = [c for v in done for c in v.changes if c.asked]
    found = found_of(done)
    fates = [sum(c.fate == fate for c in asked) for fate in ("split", "merged", "missed")]
    false = [h.cause for v in done for h in v.hulls if h.score >= BELIEVED and not h.real]
    refused = [v for v in verdicts if v.outcome == "refused"]
    moved = [abs(v.net - v.truth) / v.moved * 100 for v in done if v.moved]
    cells = (
        f"{name} ({len(verdicts)})",
        share(sum(c.fate == "found" for c in asked), len(asked)),
        "–" if not asked else ", ".join(map(str, fates)),
        ", ".join(str(false.count(cause)) for cause in ("nothing", "vegetation", "vehicle")),
        _area(found),
        spread(_errors(found)),
        share(sum(_held(c) for c in found), len(found)),
        width([abs(c.net - c.volume) / c.half_width for c in found]),
        spread(moved),
        share(sum(abs(v.site - v.truth) <= v.site_half for v in done), len(done)),
        spread([v.registration * 1e3 for v in done]),
        spread([v.registration_normal * 1e3 for v in done]),
        f"{len(refused)}" + (" (as expected)" if refused and all(v.expected != "result" for v in refused) else ""),
    )
    return f"| {' | '.join(cells)} |"


def summary(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield what was reached of the targets, one line each."""
    done = [v for v in verdicts if v.outcome == "result"]
    still = [v for v in done if not v.moved and v.expected == "result"]
    quiet = sum(not any(h.score >= BELIEVED for h in v.hulls) for v in still)
    asked, found = [c for v in done for c in v.changes if c.asked], found_of(done)
    yield f"- Cost (target 1 is `make bench-speed`): {np.median([v.seconds for v in verdicts]):.1f} CPU s a pair."
    yield from _registration(verdicts)
    yield f"- Found as one hull (target ≥ 98 %): {share(sum(c.fate == 'found' for c in asked), len(asked))}."
    yield f"- No-change pairs without a hull that scores ≥ 0.5 (≥ 98 %): {share(quiet, len(still))}."
    for least, most in ((100, 0.5), (800, 0.3)):
        own = _errors([c for c in found if abs(c.volume) > least])
        net = [abs(v.net - v.truth) / v.moved * 100 for v in done if v.moved > least]
        hulls, pairs = sum(e <= most for e in own), sum(e <= most for e in net)
        yield (
            f"- Net error ≤ {most} % of moved, above {least} m³: "
            f"{share(hulls, len(own))} of the hulls (median {_median(own)} %, p95 {_p95(own)} %); "
            f"sum of hulls {share(pairs, len(net))} of the pairs (median {_median(net)} %, p95 {_p95(net)} %)."
        )
    yield from _honesty(done)
    ratio = np.array([c.hull_area / c.area for c in found if c.asked])
    visible = np.array([c.hull_area / max(c.lod_area, 1e-9) for c in found if c.asked])
    near, seen = (int((np.abs(each - 1) <= 0.1).sum()) for each in (ratio, visible))
    yield (
        f"- Area within 10 % of the footprint (|dz| > 2 cm): {share(near, len(ratio))}; "
        f"of where |dz| > LoD95 / 2: {share(seen, len(visible))}."
    )
    for cause in ("nothing", "vegetation", "vehicle"):
        on = sum(h.score >= BELIEVED and h.cause == cause for v in done for h in v.hulls)
        yield f"- Hulls with score ≥ 0.5 on {cause}: {on} in {len(done)} pairs."


def _registration(verdicts: Sequence[Verdict]) -> Iterator[str]:
    done = [v for v in verdicts if v.outcome == "result"]
    clean = [v for v in done if not v.shared_error]
    good = [sum(getattr(v, what) <= 1e-3 for v in clean) for what in ("registration", "registration_normal")]
    yield (
        f"- Registration ≤ 1 mm RMS without shared errors: {share(good[0], len(clean))} in space, "
        f"{share(good[1], len(clean))} along normals."
    )
    lost = [v for v in done if v.registration_normal > LOST or v.expected == "refusal"]
    refused = [v for v in verdicts if v.outcome == "refused"]
    wrongly = sum(v.expected == "result" for v in refused)
    yield (
        f"- Silently wrong (more than {LOST * 100:.0f} cm along normals, or a result where a refusal is right): "
        f"{len(lost)}; refused {len(refused)}, of them {wrongly} that have an answer."
    )


def _honesty(done: Sequence[Verdict]) -> Iterator[str]:
    for name, wanted in (("seen", True), ("unseen", False), ("all", None)):
        part = [v for v in done if wanted is None or v.seen is wanted]
        own = found_of(part)
        if not part:
            continue
        scores = [(h.score, h.real) for v in part for h in v.hulls]
        width_of, held = width([abs(c.net - c.volume) / c.half_width for c in own]), sum(_held(c) for c in own)
        site = sum(abs(v.site - v.truth) <= v.site_half for v in part)
        site_width = width([abs(v.site - v.truth) / v.site_half for v in part])
        hulls = f"hull intervals hold {share(held, len(own))} (93–97 %), width {width_of} (≤ 2)"
        total = f"site {share(site, len(part))}, width {site_width}"
        calibrated = f"ECE {ece(scores):.3f} (≤ 0.02), Brier {brier(scores):.3f}"
        yield f"- Honesty, {name}: {hulls}; {total}; scores of {len(scores)} hulls: {calibrated}."


def worst(verdicts: Sequence[Verdict], most: int) -> Iterator[str]:
    """Yield the failures, worst first within each sort, at most ``most`` of each."""
    for title, found in (
        ("Defects and refusals", _ends(verdicts)),
        ("Registrations silently wrong", _lost(verdicts)),
        ("Asked for, not found as one hull", _fates(verdicts)),
        ("False hulls", _false(verdicts)),
        ("Hull intervals that fail (error over half width)", _beyond(verdicts)),
        ("Site intervals that fail", _site(verdicts)),
        ("Outlines", _outlines(verdicts)),
    ):
        lines = [line for _, line in sorted(found, key=lambda each: -each[0])]
        if lines:
            yield f"\n**{title}** ({len(lines)})\n"
            yield from (f"- {line}" for line in lines[:most])


Lines = Iterator[tuple[float, str]]


def _ends(verdicts: Iterable[Verdict]) -> Lines:
    for v in verdicts:
        if v.outcome == "defect" or (v.outcome == "refused" and v.expected == "result"):
            yield float(v.outcome == "defect"), f"{_name(v)}: {v.outcome}: {v.why}"


def _lost(verdicts: Iterable[Verdict]) -> Lines:
    for v in verdicts:
        if v.outcome == "result" and (v.registration_normal > LOST or v.expected == "refusal"):
            said = (
                f"{_name(v)}: {v.registration * 1e3:.0f} mm, "
                f"along normals {v.registration_normal * 1e3:.0f} mm, {v.method}"
            )
            yield v.registration_normal, said


def _fates(verdicts: Iterable[Verdict]) -> Lines:
    for v in verdicts:
        for c in v.changes:
            if c.asked and c.fate != "found":
                said = f"{_name(v)}: {c.fate} {c.shape} of {c.volume:.1f} m³ on {c.area:.1f} m², LoD95 {v.lod95:.3f} m"
                yield abs(c.volume), said


def _false(verdicts: Iterable[Verdict]) -> Lines:
    for v in verdicts:
        for h in v.hulls:
            if h.score >= BELIEVED and not h.real:
                said = (
                    f"{_name(v)}: score {h.score:.2f} on {h.cause}, {h.net:+.2f} m³ on {h.area:.1f} m² "
                    f"at {h.at}, kind {h.kind}"
                )
                yield h.score, said


def _beyond(verdicts: Iterable[Verdict]) -> Lines:
    for v in verdicts:
        for c in found_of([v]):
            if not _held(c):
                times = abs(c.net - c.volume) / c.half_width
                said = (
                    f"{_name(v)}: {times:.1f} × half width: {c.shape} of {c.volume:.1f} m³ measured as {c.net:.1f} ± "
                    f"{c.half_width:.2f}, area ratio {c.hull_area / c.area:.2f}"
                )
                yield times, said


def _site(verdicts: Iterable[Verdict]) -> Lines:
    for v in verdicts:
        if v.outcome == "result" and abs(v.site - v.truth) > v.site_half:
            times = abs(v.site - v.truth) / v.site_half
            said = (
                f"{_name(v)}: {times:.1f} × half width: {v.truth:.1f} m³ measured as {v.site:.1f} ± {v.site_half:.1f}"
            )
            yield times, said


def _outlines(verdicts: Iterable[Verdict]) -> Lines:
    for v in verdicts:
        for c in found_of([v]):
            ratio = c.hull_area / c.area
            if c.asked and not 0.8 <= ratio <= 1.25:
                said = f"{_name(v)}: {c.shape} of {c.area:.1f} m² outlined with {c.hull_area:.1f} (ratio {ratio:.2f})"
                yield abs(np.log(ratio)), said


def ece(scores: Sequence[tuple[float, bool]]) -> float:
    """Expected calibration error in ten bins of equal width."""
    if not scores:
        return float("nan")
    score, real = (np.array(each, dtype=float) for each in zip(*scores, strict=True))
    which = np.minimum((score * BINS).astype(int), BINS - 1)
    return float(sum(abs((score[which == b] - real[which == b]).sum()) for b in range(BINS)) / len(score))


def brier(scores: Sequence[tuple[float, bool]]) -> float:
    """Mean squared difference of score and truth."""
    return float(np.mean([(score - real) ** 2 for score, real in scores])) if scores else float("nan")


def width(ratios: Sequence[float]) -> str:
    """Half width over the 95th percentile of the errors, which are given as shares of theirs; 1 is just wide enough."""
    return f"{1 / max(float(np.quantile(ratios, 0.95)), 1e-9):.1f}" if ratios else "–"


def share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})" if whole else "–"


def spread(values: Sequence[float]) -> str:
    return f"{np.median(values):.2g} / {max(values):.2g}" if len(values) else "–"


def found_of(verdicts: Iterable[Verdict]) -> list[JudgedChange]:
    return [c for v in verdicts for c in v.changes if c.fate == "found"]


def _held(change: JudgedChange) -> bool:
    return abs(change.net - change.volume) <= change.half_width


def _errors(found: Sequence[JudgedChange]) -> list[float]:
    return [abs(c.net - c.volume) / abs(c.volume) * 100 for c in found]


def _area(found: Sequence[JudgedChange]) -> str:
    ratio = np.array([c.hull_area / c.area for c in found])
    exact = np.array([c.hull_area / c.exact_area for c in found])
    return (
        f"{np.median(ratio):.2f} ({ratio.min():.2f}–{ratio.max():.2f}; exact {np.median(exact):.2f})"
        if len(found)
        else "–"
    )


def _median(values: Sequence[float]) -> str:
    return f"{np.median(values):.2f}" if values else "–"


def _p95(values: Sequence[float]) -> str:
    return f"{np.quantile(values, 0.95):.2f}" if values else "–"


def _label(verdicts: Sequence[Verdict], name: str) -> str:
    seen = next(v.seen for v in verdicts if v.kind == name)
    return "" if seen is None else ", *seen*" if seen else ""


def _name(v: Verdict) -> str:
    return f"`{v.kind}` {v.index} ({min(v.density):.3g} per m², {v.size:.0f} m)"
