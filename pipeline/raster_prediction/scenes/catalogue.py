"""Which scenes were taken of a place in some days? Asks a STAC API, or walks through a static catalogue."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Any

import pystac
from pystac import Catalog, Item
from pystac_client import Client
from pystac_client.exceptions import APIError

from pipeline.errors import CatalogueUnusable, ScenesMissing
from pipeline.raster_prediction import Box
from pipeline.raster_prediction.scenes.reach import Reach
from pipeline.raster_prediction.sources import Collection, Source
from pipeline.site import Site

_MOST_ITEMS = 20_000  # of a static catalogue, which is walked through as a whole
_MOST_FOUND = 200  # of one search
_DEEPEST = 8
_UNKNOWN_CLOUDS = 100.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What a satellite saw of a place at an instant.

    Args:
        id: The catalogue's name for it.
        taken: When.
        clouds: Percent; None if the catalogue does not say.
        collection: What its files mean.
        files: By asset, where its file is, with scale and offset if the catalogue says them.
    """

    id: str
    taken: datetime
    clouds: float | None
    collection: Collection
    files: dict[str, tuple[str, float | None, float | None]]

    @property
    def worth(self) -> tuple[float, str]:
        """What scenes are sorted by: the least cloudy first."""
        return (_UNKNOWN_CLOUDS if self.clouds is None else self.clouds, self.id)


class Scenes:
    """The scenes of a source.

    Args:
        source: Which.
        site: What the deployment gives to runs.

    Raises:
        CatalogueUnusable: If no catalogue is set.
    """

    def __init__(self, source: Source, site: Site) -> None:
        self._source = source
        self._where = source.catalogue or site.catalogue
        if not self._where:
            raise CatalogueUnusable(
                f"No catalogue is set for the source {source.name}.", remedy="The operator sets VOLCAL_STAC_CATALOGUE."
            )
        self._collections = {each.id: each for each in source.collections}
        self.reach = self._asking(lambda: Reach(self._where, site))

    def find(self, box: Box, day: date, tolerance: int, *, most_clouds: float) -> list[Scene]:
        """Return the scenes that touch a box on a day or so many days before and after, the least cloudy first.

        Args:
            box: West, south, east, north, degrees.
            day: Which; a day lasts from midnight to midnight UTC.
            tolerance: Days.
            most_clouds: Percent; cloudier ones are left out.

        Raises:
            CatalogueUnusable: If the catalogue cannot be read.
            ScenesMissing: If there are more than can be looked at.
        """
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=tolerance)
        end = begin + timedelta(days=2 * tolerance + 1) - timedelta(microseconds=1)
        items = self._asking(lambda: list(self._items(box, begin, end)))
        if len(items) > _MOST_FOUND:
            raise ScenesMissing(
                f"More than {_MOST_FOUND} scenes touch {list(box)} within {tolerance} days of {day}: too many.",
                remedy="Allow fewer days (temporal_tolerance) or clouds (cloud_coverage), or give smaller boxes.",
            )
        scenes = [self._scene(item) for item in items]
        return sorted((s for s in scenes if (s.clouds or 0.0) <= most_clouds), key=lambda scene: scene.worth)

    def _items(self, box: Box, begin: datetime, end: datetime) -> Iterator[Item]:
        if isinstance(self._root, Client):
            found = self._root.search(
                collections=list(self._collections), bbox=box, datetime=(begin, end), max_items=_MOST_FOUND + 1
            )
            candidates: Iterable[Item] = found.items()
        else:
            candidates = self._walked
        # An API's word is not taken for it: some ignore what they do not understand.
        for item in candidates:
            if item.collection_id in self._collections and _touches(item, box) and begin <= _taken(item) <= end:
                yield item

    @cached_property
    def _root(self) -> Catalog:
        document: dict[str, Any] = json.loads(self.reach.read_text(self._where))
        self.reach.is_api = any(link.get("rel") == "search" for link in document.get("links", []))
        kind = Client if self.reach.is_api else Catalog
        root: Catalog = kind.from_file(self._where, stac_io=self.reach)
        return root

    @cached_property
    def _walked(self) -> list[Item]:
        found: list[Item] = []
        for item in _walk(self._root, set(self._collections)):
            found.append(item)
            if len(found) > _MOST_ITEMS:
                raise ValueError(f"it has more than {_MOST_ITEMS} items; serve it by a STAC API")
        return found

    def _scene(self, item: Item) -> Scene:
        collection = self._collections[item.collection_id or ""]
        clouds = item.properties.get("eo:cloud_cover")
        files = {name: _file(asset) for name, asset in item.assets.items()}
        return Scene(item.id, _taken(item), None if clouds is None else float(clouds), collection, files)

    def _asking(self, ask: Callable[[], Any]) -> Any:
        """Return what asking the catalogue gives, whatever can go wrong with it in our words."""
        try:
            return ask()
        except (
            APIError,
            pystac.STACError,
            pystac.STACTypeError,
            OSError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
        ) as error:
            if isinstance(error, CatalogueUnusable | ScenesMissing):
                raise
            said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise CatalogueUnusable(
                f"The catalogue of the source {self._source.name} cannot be read: {said}",
                remedy="Restart the task later; if it fails again, the operator checks the catalogue and the network.",
            ) from error


def _walk(catalog: Catalog, wanted: set[str], depth: int = 0) -> Iterator[Item]:
    if isinstance(catalog, pystac.Collection) and catalog.id not in wanted:
        return
    yield from catalog.get_items()
    if depth < _DEEPEST:
        for child in catalog.get_children():
            yield from _walk(child, wanted, depth + 1)


def _file(asset: pystac.Asset) -> tuple[str, float | None, float | None]:
    bands = asset.extra_fields.get("raster:bands") or asset.extra_fields.get("bands") or [{}]
    said = {**asset.extra_fields, **bands[0]}
    scale, offset = (said.get(f"raster:{word}", said.get(word)) for word in ("scale", "offset"))
    href = asset.get_absolute_href() or asset.href
    return href, None if scale is None else float(scale), None if offset is None else float(offset)


def _taken(item: Item) -> datetime:
    taken = item.datetime or pystac.utils.str_to_datetime(item.properties["start_datetime"])
    return taken if taken.tzinfo is not None else taken.replace(tzinfo=UTC)


def _touches(item: Item, box: Box) -> bool:
    """Return whether the box around an item meets another; one from 170 to -170 lies across the antimeridian."""
    if item.bbox is None:
        return False
    flat = item.bbox if len(item.bbox) == 4 else [*item.bbox[:2], *item.bbox[3:5]]
    west, south, east, north = flat
    if north <= box[1] or south >= box[3]:
        return False
    if west > east:
        return box[2] > west or box[0] < east
    return bool(east > box[0] and west < box[2])
