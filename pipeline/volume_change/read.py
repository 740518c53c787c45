"""Both surveys and the stable ground, in metres about one local origin, or a clear refusal."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.abreast import both
from pipeline.clouds import PointCloud
from pipeline.errors import InputInvalid, RegistrationFailed
from pipeline.formats import crs
from pipeline.formats.inspect import cloud_kind, inspect
from pipeline.formats.inspect_las import LasFacts, inspect_las
from pipeline.formats.inspect_text import PlyHeader, TextLayout, ply_header, text_layout
from pipeline.formats.las import read_las
from pipeline.formats.ply import read_ply, stored_step
from pipeline.formats.ply import sample as sample_ply
from pipeline.formats.raw import Frame, RawCloud, extent, without_duplicates, without_strays
from pipeline.formats.shape import read_rings
from pipeline.formats.source import CLOUD_REMEDY, Source
from pipeline.formats.xyz import read_xyz
from pipeline.formats.xyz import sample as sample_xyz
from pipeline.volume_change.inputs.agreement import Place, agree, degrees
from pipeline.volume_change.inputs.stable_area import Ground, stable_area
from pipeline.volume_change.types import Notice, Surveys

Array = NDArray[np.float64]
Facts = LasFacts | PlyHeader | TextLayout
MIN_POINTS = 100
REACH_M = 100.0  # the registration finds shifts up to this
_ROUND_M = 100.0
_MANY_NOISE, _MANY_REPEATS, _MOST = 0.05, 0.001, 0.5
_COARSE_STEP_M = 0.005
_SUFFIXES = (".las", ".laz", ".ply", ".xyz", ".txt", ".asc", ".csv", ".pts", ".shp", ".shx", ".dbf", ".prj")


def read_surveys(inputs: Mapping[str, Path], *, max_points: int = 200_000_000) -> Surveys:
    """Read the inputs of a run.

    Args:
        inputs: Paths by label: ``pre``, ``post``, ``shp``; ``shx`` and ``prj`` are looked for beside the ``shp``
            if they are not given. Formats are told by content, never by name.
        max_points: Refuse clouds with more points than this.

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
        (raw, said), (raw2, said2) = both(
            lambda place, facts, scale: _points(place, facts, Frame(scale, origin), max_points),
            (places[0], pre, agreed.pre),
            (places[1], post, agreed.post),
        )
    notices.extend((*said, *said2))
    shift = _round_down(extent(raw.points)[0])  # the first survey decides where the local zero is
    clouds: list[PointCloud] = []
    for place, cloud in zip(places, (raw, raw2), strict=True):
        if shift.any():
            np.subtract(cloud.points, shift, out=cloud.points)
        name = place.source.name or place.source.label
        clouds.append(PointCloud(cloud.points, origin + shift, cloud.classes, agreed.system, name))
    _check_apart(*clouds)
    stable = stable_area(ground, agreed, clouds, notices)
    return Surveys(clouds[0], clouds[1], stable, agreed.unit, tuple(notices))


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


def _read(source: Source, facts: Facts, frame: Frame, max_points: int) -> RawCloud:
    if isinstance(facts, LasFacts):
        return read_las(source, facts, frame)
    if isinstance(facts, PlyHeader):
        return read_ply(source, facts, frame)
    return read_xyz(source, facts, frame, max_points=max_points)


def _points(place: Place, facts: Facts, frame: Frame, max_points: int) -> tuple[RawCloud, list[Notice]]:
    """Read one survey: its usable points, and what to say of them."""
    notices: list[Notice] = []
    raw = _usable(place, _read(place.source, facts, frame, max_points), notices)
    _check_numbers(place, facts, raw, frame, notices)
    return raw, notices


def _usable(place: Place, raw: RawCloud, notices: list[Notice]) -> RawCloud:
    """Return the cloud without strays and repeated points.

    Raises:
        InputInvalid: If most points are broken, or too few are left.
    """
    source = place.source
    total = len(raw.points) + raw.flagged + raw.broken
    if raw.broken > _MOST * total:
        raise source.invalid(f"has {raw.broken:,} points out of {total:,} without finite coordinates", CLOUD_REMEDY)
    cloud, strays = without_strays(raw)
    cloud, repeats = without_duplicates(cloud)
    if len(cloud.points) < MIN_POINTS:
        left_out = "" if len(cloud.points) == total else f" usable points out of {total:,}"
        raise source.invalid(
            f"has only {len(cloud.points)}{left_out or ' points'}; at least {MIN_POINTS} are needed",
            "Check the export: a survey has thousands of different points.",
            points=len(cloud.points),
        )
    for count, least, code, what in (
        (raw.broken, 0, "POINTS_BROKEN", "have no finite coordinates"),
        (strays, 0, "POINTS_STRAY", "lie absurdly far from all others"),
        (raw.flagged, _MANY_NOISE * total, "POINTS_NOISE", "are marked as noise or withheld"),
        (repeats, _MANY_REPEATS * total, "POINTS_REPEATED", "repeat others exactly"),
    ):
        if count > least:
            notices.append(Notice(code, f"{source}: {count:,} points of {total:,} {what}; they were left out."))
    low, high = extent(cloud.points)
    if (high[:2] <= low[:2]).any():
        raise source.invalid("has all its points on one line", "Check the export: a survey covers an area.")
    return cloud


def _check_numbers(place: Place, facts: Facts, raw: RawCloud, frame: Frame, notices: list[Notice]) -> None:
    """Refuse degrees that pass for metres; note coordinates that were rounded before they came."""
    low, high = ((corner + frame.origin) / frame.scale for corner in extent(raw.points))
    if crs.look_like_degrees(list(low), list(high)):
        raise degrees(Place(place.source, place.system, (low + high) / 2), "has coordinates that look like degrees")
    step = stored_step(place.source, facts) * frame.scale[0] if isinstance(facts, PlyHeader) else 0.0
    if step > _COARSE_STEP_M:
        notices.append(Notice("PRECISION_LOW", f"{place.source} stores 32-bit coordinates, which are {step:.3g} m "
                              "apart here; export it with doubles or as LAS."))  # fmt: skip


def _round_down(place: Array) -> Array:
    rounded: Array = np.floor(place / _ROUND_M) * _ROUND_M
    return rounded


def _check_apart(pre: PointCloud, post: PointCloud) -> None:
    """Refuse surveys so far apart that no motion within reach brings them together."""
    (pre_low, pre_high), (post_low, post_high) = extent(pre.points), extent(post.points)
    between = np.maximum(pre_low, post_low) - np.minimum(pre_high, post_high)
    gap = float(np.hypot(*np.maximum(between[:2], 0.0)))
    if gap > REACH_M:
        raise RegistrationFailed(
            f"The surveys do not overlap: {pre.name} and {post.name} lie {crs.distance_text(gap)} apart.",
            remedy="Check that both show the same site and are in the same coordinate system and unit.",
            details={"overlap": 0.0, "distance": round(gap, 1)},
        )
