"""The usable points of one survey, in memory or, if there are too many, in tiles on disk."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.clouds import Cloud, PointCloud
from pipeline.formats import crs
from pipeline.formats.inspect_las import LasFacts
from pipeline.formats.inspect_text import PlyHeader, TextLayout
from pipeline.formats.las import read_las
from pipeline.formats.ply import read_ply, stored_step
from pipeline.formats.raw import (
    STRAY_SAMPLE,
    Frame,
    RawCloud,
    Sink,
    cloud_within,
    sound_bounds,
    without_duplicates,
    without_strays,
)
from pipeline.formats.source import CLOUD_REMEDY, Source
from pipeline.formats.xyz import read_xyz
from pipeline.tiled.cloud import TiledCloud
from pipeline.tiled.store import Tile, TileStore
from pipeline.volume_change.inputs.agreement import Place, degrees
from pipeline.volume_change.types import Notice

Array = NDArray[np.float64]
Facts = LasFacts | PlyHeader | TextLayout
Survey = PointCloud | TiledCloud

IN_MEMORY = 30_000_000  # points of both surveys together, about 2 GB at the peak of a run
TILE_POINTS = 1_000_000
MIN_POINTS = 100
_LINE_BYTES = 30  # of a point in a text file, about
_MANY_NOISE, _MANY_REPEATS, _MOST = 0.05, 0.001, 0.5
_COARSE_STEP_M = 0.005


@dataclass(frozen=True, slots=True)
class TilePlan:
    """Where and when surveys are kept as tiles.

    Args:
        folder: For the tiles; made when it is needed, and the caller's to remove.
        most: Points of a tile at most; None = tiles only if the surveys are too large for memory.
    """

    folder: Path
    most: int | None = None

    @property
    def points(self) -> int:
        """Points of a tile at most."""
        return TILE_POINTS if self.most is None else self.most

    def stores(self, points: int) -> tuple[TileStore | None, TileStore | None]:
        """Return where the two surveys go that have so many points together; None = into memory."""
        if self.most is None and points <= IN_MEMORY:
            return None, None
        return TileStore(self.folder / "pre", self.points), TileStore(self.folder / "post", self.points)


def expected_points(source: Source, facts: Facts) -> int:
    """Return how many points a file has, about."""
    return source.size // _LINE_BYTES if isinstance(facts, TextLayout) else facts.count


def prepare(store: TileStore | None, facts: Facts, frame: Frame) -> None:
    """Tell a store what will come, if that is known."""
    if store is not None and isinstance(facts, LasFacts):
        store.expect(facts.count, float(np.prod(((facts.bounds.high - np.array(facts.bounds.low)) * frame.scale)[:2])))


def usable_points(
    place: Place,
    facts: Facts,
    frame: Frame,
    max_points: int,
    store: TileStore | None = None,
    raw: RawCloud | None = None,
) -> tuple[Survey, list[Notice]]:
    """Read one survey without strays and repeated points.

    Args:
        place: The file, its system and a place inside.
        facts: What its first bytes say.
        frame: File units to local metres.
        max_points: Refuse text files with more lines than this.
        store: Takes the points; None = they stay in memory.
        raw: What is to be said of the file if its points are in the store already.

    Returns:
        The survey about the frame's origin, and what to say of it.

    Raises:
        InputInvalid: If most points are broken, or too few are left, or they are degrees.
        InputTooLarge: If a text file has too many lines.
    """
    source = place.source
    if raw is None:
        prepare(store, facts, frame)
        raw = _read(source, facts, frame, max_points, store)
    cleaned: tuple[Survey, int, int] = _cleaned(raw, frame) if store is None else _cleaned_tiles(raw, store, frame)
    found, strays, repeats = cleaned
    found = replace(found, name=source.name or source.label)
    total = len(found) + strays + repeats + raw.flagged + raw.broken
    notices = _left_out(source, found, total, raw, strays, repeats)
    notices += _check_numbers(place, facts, found, frame)
    return found, notices


def rebased(cloud: Survey, shift: Array, system: str | None) -> Survey:
    """Return the survey about an origin that lies ``shift`` (metres, shape (3,)) further, in a named system."""
    if isinstance(cloud, TiledCloud):
        return replace(cloud, shift=shift, origin=cloud.origin + shift, crs=system)
    if shift.any():
        np.subtract(cloud.points, shift, out=cloud.points)
    return replace(cloud, origin=cloud.origin + shift, crs=system)


def _read(source: Source, facts: Facts, frame: Frame, max_points: int, into: Sink | None) -> RawCloud:
    if isinstance(facts, LasFacts):
        return read_las(source, facts, frame, into)
    if isinstance(facts, PlyHeader):
        return read_ply(source, facts, frame, into)
    return read_xyz(source, facts, frame, max_points=max_points, into=into)


def _cleaned(raw: RawCloud, frame: Frame) -> tuple[PointCloud, int, int]:
    cloud, strays = without_strays(raw)
    cloud, repeats = without_duplicates(cloud)
    return PointCloud(cloud.points, frame.origin, cloud.classes), strays, repeats


def _cleaned_tiles(raw: RawCloud, store: TileStore, frame: Frame) -> tuple[TiledCloud, int, int]:
    """Return the survey in tiles; points at one place share a tile, so tile by tile is as good as all at once."""
    everything = TiledCloud(store.tiles(), frame.origin, classified=raw.told)
    low, high = sound_bounds(everything.sample(STRAY_SAMPLE))
    tiles: list[Tile] = []
    strays = repeats = 0
    for tile in everything.tiles:
        cloud = RawCloud(tile.points(), tile.classes())
        kept, outside = cloud_within(cloud, low, high)
        kept, twice = without_duplicates(kept)
        strays, repeats = strays + outside, repeats + twice
        if outside or twice:
            tile = tile.rewritten(kept.points, kept.classes)
        if tile.count:
            tiles.append(tile)
    return replace(everything, tiles=tuple(tiles)), strays, repeats


def _left_out(source: Source, cloud: Cloud, total: int, raw: RawCloud, strays: int, repeats: int) -> list[Notice]:
    """Refuse surveys that are hardly usable; say what was left out of others."""
    if raw.broken > _MOST * total:
        raise source.invalid(f"has {raw.broken:,} points out of {total:,} without finite coordinates", CLOUD_REMEDY)
    if len(cloud) < MIN_POINTS:
        left_out = "" if len(cloud) == total else f" usable points out of {total:,}"
        raise source.invalid(
            f"has only {len(cloud)}{left_out or ' points'}; at least {MIN_POINTS} are needed",
            "Check the export: a survey has thousands of different points.",
            points=len(cloud),
        )
    notices = [
        Notice(code, f"{source}: {count:,} points of {total:,} {what}; they were left out.")
        for count, least, code, what in (
            (raw.broken, 0, "POINTS_BROKEN", "have no finite coordinates"),
            (strays, 0, "POINTS_STRAY", "lie absurdly far from all others"),
            (raw.flagged, _MANY_NOISE * total, "POINTS_NOISE", "are marked as noise or withheld"),
            (repeats, _MANY_REPEATS * total, "POINTS_REPEATED", "repeat others exactly"),
        )
        if count > least
    ]
    low, high = cloud.extent
    if (high[:2] <= low[:2]).any():
        raise source.invalid("has all its points on one line", "Check the export: a survey covers an area.")
    return notices


def _check_numbers(place: Place, facts: Facts, cloud: Cloud, frame: Frame) -> list[Notice]:
    """Refuse degrees that pass for metres; note coordinates that were rounded before they came."""
    low, high = ((corner + frame.origin) / frame.scale for corner in cloud.extent)
    if crs.look_like_degrees(list(low), list(high)):
        raise degrees(Place(place.source, place.system, (low + high) / 2), "has coordinates that look like degrees")
    step = stored_step(place.source, facts) * frame.scale[0] if isinstance(facts, PlyHeader) else 0.0
    if step <= _COARSE_STEP_M:
        return []
    return [Notice("PRECISION_LOW", f"{place.source} stores 32-bit coordinates, which are {step:.3g} m "
                   "apart here; export it with doubles or as LAS.")]  # fmt: skip
