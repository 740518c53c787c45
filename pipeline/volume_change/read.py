"""Both surveys and the stable ground, in metres about one local origin, or a clear refusal."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.abreast import both
from pipeline.clouds import Cloud
from pipeline.contracts import Helpers, Report
from pipeline.errors import InputInvalid, RegistrationFailed
from pipeline.formats import crs
from pipeline.formats.inspect import cloud_kind, inspect
from pipeline.formats.inspect_las import LasFacts, inspect_las
from pipeline.formats.inspect_text import PlyHeader, TextLayout, ply_header, text_layout
from pipeline.formats.ply import sample as sample_ply
from pipeline.formats.raw import Frame, RawCloud
from pipeline.formats.shape import read_rings
from pipeline.formats.source import Source
from pipeline.formats.xyz import sample as sample_xyz
from pipeline.tiled.store import TileStore
from pipeline.volume_change.inputs.agreement import Place, agree
from pipeline.volume_change.inputs.points import Facts, TilePlan, expected_points, prepare, rebased, usable_points
from pipeline.volume_change.inputs.stable_area import Ground, stable_area
from pipeline.volume_change.types import Notice, Surveys

Array = NDArray[np.float64]
REACH_M = 100.0  # the registration finds shifts up to this
_ROUND_M = 100.0
_SUFFIXES = (".las", ".laz", ".ply", ".xyz", ".txt", ".asc", ".csv", ".pts", ".shp", ".shx", ".dbf", ".prj")


def read_surveys(
    inputs: Mapping[str, Path],
    *,
    max_points: int = 200_000_000,
    tiles: TilePlan | None = None,
    helpers: Helpers | None = None,
    report: Report = lambda _fraction, _stage: None,
) -> Surveys:
    """Read the inputs of a run.

    Args:
        inputs: Paths by label: ``pre``, ``post``, ``shp``; ``shx`` and ``prj`` are looked for beside the ``shp``
            if they are not given. Formats are told by content, never by name.
        max_points: Refuse clouds with more points than this.
        tiles: Where surveys that are too large for memory may lie as tiles; None = all in memory.
        helpers: Who may decode files whose points go to tiles.
        report: Told how far it is.

    Raises:
        InputInvalid: If a file is missing, unreadable, damaged, in degrees or nearly empty.
        InputTooLarge: If a file claims or holds more than the limits allow.
        RegistrationFailed: If the surveys name different systems or lie too far apart to be matched.
        StableAreaEmpty: If the stable polygons lie outside both surveys.
    """
    notices: list[Notice] = []
    with ExitStack() as files:
        sources = {label: _open(files, label, path) for label, path in _with_neighbours(inputs).items()}
        pre, post = (_head(sources[label], max_points) for label in ("pre", "post"))
        ground = Ground(sources["shp"], read_rings(sources["shp"], sources.get("shx")), _prj(sources, notices))
        places = _place(sources["pre"], pre), _place(sources["post"], post)
        agreed = agree(*places, ground.system)
        notices.extend(agreed.notices)
        origin = _round_down(places[0].anchor * agreed.pre)
        expected = sum(expected_points(place.source, facts) for place, facts in zip(places, (pre, post), strict=True))
        stores = (None, None) if tiles is None else tiles.stores(expected)
        frames = Frame(agreed.pre, origin), Frame(agreed.post, origin)
        raws: Sequence[RawCloud | None] = (None, None)
        if tiles is not None and helpers is not None:
            raws = _read_together(helpers, tiles.points, report, places, (pre, post), frames, stores)
        (first, said), (second, said2) = both(
            lambda place, facts, frame, store, raw: usable_points(place, facts, frame, max_points, store, raw),
            (places[0], pre, frames[0], stores[0], raws[0]),
            (places[1], post, frames[1], stores[1], raws[1]),
        )
    notices.extend((*said, *said2))
    shift = _round_down(first.extent[0])  # the first survey decides where the local zero is
    clouds = [rebased(cloud, shift, agreed.system) for cloud in (first, second)]
    _check_apart(*clouds)
    stable = stable_area(ground, agreed, clouds, notices)
    return Surveys(clouds[0], clouds[1], stable, agreed.unit, tuple(notices))


def _read_together(
    helpers: Helpers,
    most: int,
    report: Report,
    places: tuple[Place, Place],
    heads: tuple[Facts, Facts],
    frames: tuple[Frame, Frame],
    stores: tuple[TileStore | None, TileStore | None],
) -> Sequence[RawCloud | None]:
    """Read both files with the help of others, if both are of a kind whose parts can be read by themselves."""
    from pipeline.volume_change.parts.reading import Survey, read_together

    surveys: list[Survey] = []
    for place, facts, frame, store in zip(places, heads, frames, stores, strict=True):
        if isinstance(facts, LasFacts) and store is not None:
            prepare(store, facts, frame)
            surveys.append((place.source, facts, frame, store))
    if len(surveys) < 2:
        return (None, None)
    return read_together(helpers, (surveys[0], surveys[1]), most, report)


def _with_neighbours(inputs: Mapping[str, Path]) -> dict[str, Path]:
    """Return the paths by label, with the .shx and .prj that lie beside the .shp."""
    found = {label: Path(path) for label, path in inputs.items() if label in ("pre", "post", "shp", "shx", "prj")}
    for label in ("pre", "post", "shp"):
        if label not in found:
            raise InputInvalid(f"There is no input {label}.", label=label, remedy="Give both surveys and a shapefile.")
    shp = found["shp"]
    if shp.suffix.lower() == ".shp":
        for label in ("shx", "prj"):
            beside = [shp.with_suffix(f".{label}"), shp.with_suffix(f".{label.upper()}")]
            there = next((path for path in beside if path.is_file()), None)
            if label not in found and there is not None:
                found[label] = there
    return found


def _open(files: ExitStack, label: str, path: Path) -> Source:
    name = path.name if path.suffix.lower() in _SUFFIXES else ""
    try:
        stream = files.enter_context(path.open("rb", buffering=1 << 20))
        size = path.stat().st_size
        stream.read(1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputInvalid(
            f"{label} cannot be read: {path.name}: {reason}.", label=label, remedy="Check the path and its permissions."
        ) from error
    if label != "prj":  # one that cannot be understood is only left out
        inspect(label, stream, size, name)
    return Source(label, stream, size, name)


def _prj(sources: Mapping[str, Source], notices: list[Notice]) -> crs.System | None:
    """Return the system that the .prj names, noting what had to be made up."""
    if "shx" not in sources:
        notices.append(Notice("SHX_REBUILT", "The shapefile came without its .shx; the index was made anew."))
    if "prj" not in sources:
        return None
    text = sources["prj"].read(0, 65_536).decode("utf-8-sig", errors="replace")
    system = crs.from_wkt(text)
    if system is None:
        notices.append(Notice("PRJ_IGNORED", f"{sources['prj']} is not a coordinate system that is understood; the "
                              "polygons are taken to be in that of the surveys."))  # fmt: skip
    return system


def _head(source: Source, max_points: int) -> Facts:
    """Return what the file's first bytes say, having held its claims against the limit."""
    kind = cloud_kind(source)
    facts = inspect_las(source) if kind == "las" else ply_header(source) if kind == "ply" else text_layout(source)
    if not isinstance(facts, TextLayout) and facts.count > max_points:
        raise source.too_large(
            f"has {facts.count:,} points; the limit of this run is {max_points:,}",
            "Cut the survey to the area of interest, thin it out, or raise max_points.",
            points=facts.count,
        )
    return facts


def _place(source: Source, facts: Facts) -> Place:
    if isinstance(facts, LasFacts):
        return Place(source, crs.from_las(facts.projection), np.array(facts.bounds.low))
    sample = sample_ply(source, facts) if isinstance(facts, PlyHeader) else sample_xyz(source, facts)
    return Place(source, None, np.median(sample, axis=0) if len(sample) else np.zeros(3))


def _round_down(place: Array) -> Array:
    rounded: Array = np.floor(place / _ROUND_M) * _ROUND_M
    return rounded


def _check_apart(pre: Cloud, post: Cloud) -> None:
    """Refuse surveys so far apart that no motion within reach brings them together."""
    (pre_low, pre_high), (post_low, post_high) = pre.extent, post.extent
    between = np.maximum(pre_low, post_low) - np.minimum(pre_high, post_high)
    gap = float(np.hypot(*np.maximum(between[:2], 0.0)))
    if gap > REACH_M:
        raise RegistrationFailed(
            f"The surveys do not overlap: {pre.name} and {post.name} lie {crs.distance_text(gap)} apart.",
            remedy="Check that both show the same site and are in the same coordinate system and unit.",
            details={"overlap": 0.0, "distance": round(gap, 1)},
        )
