"""Where do scenes come from, and what do their files mean? A JSON manifest for each source."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import CatalogueUnusable, InputInvalid
from pipeline.site import Site

_OWN = Path(__file__).parent / "known_sources"


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Mask(_Manifest):
    """Which cells are not the ground: clouds, their shadows, nothing at all.

    A cell is masked if its value has one of the bits, is one of the classes, or is ``nodata``.
    """

    asset: str
    bits: tuple[int, ...] = Field(default=(), description="Numbers of bits, the lowest is 0, any of which masks.")
    classes: tuple[int, ...] = Field(default=(), description="Values that mask.")
    nodata: int | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.bits and not self.classes:
            raise ValueError("a mask needs bits or classes")
        if any(not 0 <= bit < 16 for bit in self.bits):
            raise ValueError("bits are numbered 0 to 15")
        return self


class Collection(_Manifest):
    """A STAC collection: which asset is which band, and what its numbers mean."""

    id: str
    assets: dict[str, str] = Field(min_length=1, description="The asset of each band.")
    scale: float = 1.0
    offset: float = 0.0
    item_scale: bool = Field(default=False, description="Whether scale and offset that an item states go first.")
    nodata: float | None = None
    mask: Mask | None = None


class Source(_Manifest):
    """A source of scenes."""

    name: str
    title: str = ""
    catalogue: str | None = Field(default=None, description="STAC API or catalogue; none is the deployment's.")
    collections: tuple[Collection, ...] = Field(min_length=1)
    earthdata: bool = Field(default=False, description="Whether files need a login at NASA Earthdata.")
    note: str = ""

    def lacks(self, bands: tuple[str, ...]) -> list[str]:
        """Return those of the bands that some collection does not have."""
        return [band for band in bands if any(band not in each.assets for each in self.collections)]


def known(site: Site) -> Iterator[Source]:
    """Yield every source: the operator's, then those that come with the software.

    Raises:
        CatalogueUnusable: If a manifest of the operator's is not good.
    """
    folders = ([site.sources] if site.sources is not None and site.sources.is_dir() else []) + [_OWN]
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            try:
                yield Source.model_validate(json.loads(path.read_text()))
            except (OSError, ValueError) as error:
                raise CatalogueUnusable(
                    f"The manifest of the source {path.stem!r} is not good: {words(error)}",
                    remedy="The operator mends it; docs/rasters.md shows one.",
                ) from None


def find(name: str, site: Site) -> Source:
    """Return a source.

    Raises:
        InputInvalid: If there is none of that name.
        CatalogueUnusable: If a manifest is not good.
    """
    found = list(known(site))
    for source in found:
        if source.name.lower() == name.lower():
            return source
    raise InputInvalid(
        f"There is no data source {name[:64]!r}.", label="source", remedy=f"Known: {', '.join(s.name for s in found)}."
    )


def words(error: Exception) -> str:
    """Return what is wrong with a manifest, in a line."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors())[:500]
    return f"{type(error).__name__}: {error}"[:500]
