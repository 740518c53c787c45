"""Which models are there, and what do they want? A folder each, with a manifest; nothing here loads a model."""

import json
import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from pipeline.errors import InputInvalid, InputTooLarge, ModelUnknown, ModelUnusable
from pipeline.raster_prediction import Params, size_of
from pipeline.raster_prediction.sources import find as find_source
from pipeline.raster_prediction.sources import words
from pipeline.site import Site

MANIFEST = "model.json"
MOST_VALUES = 2**28  # of a box at a time: 1 GiB
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class _Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Class(_Manifest):
    """One of the classes that a model tells apart; its number is its place in the list."""

    name: str
    colour: str = Field(default="#888888", pattern=r"^#[0-9a-fA-F]{6}$")


class Quantity(_Manifest):
    """What a model that tells no classes estimates."""

    name: str
    unit: str = ""
    shown: tuple[FiniteFloat, FiniteFloat] = Field(default=(0.0, 1.0), description="Range of the preview's colours.")


class Model(_Manifest):
    """A model's manifest: ``model.json`` in its folder."""

    name: str = Field(pattern=_NAME, description="Also the folder's name.")
    title: str = ""
    version: str = "1"
    key: str = Field(default="", description="What several sizes of a model have in common; empty is the name.")
    size: str = Field(default="", description="Which of the sizes.")
    file: str = Field(default="model.onnx", pattern=_NAME, description="The ONNX model, beside the manifest.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of the file.")
    source: str = Field(description="Data source that it was made for.")
    bands: tuple[str, ...] = Field(min_length=1, max_length=32)
    resolution: FiniteFloat = Field(gt=0, description="Edge of a cell, m.")
    time_steps: int = Field(default=1, ge=1, le=24)
    temporal_step: int = Field(default=30, ge=1, le=366, description="Days.")
    layout: Literal["NCHW", "NCTHW"] = Field(
        default="NCHW",
        description="Of the input; NCHW has the bands of each time step one after the other, oldest first.",
    )
    chip_size: int = Field(ge=16, le=2048, description="Edge of its input, cells.")
    any_size: bool = Field(default=False, description="Whether it takes chips of any size.")
    overlap: int = Field(default=0, ge=0, description="Cells that neighbouring chips share.")
    mean: tuple[FiniteFloat, ...] = Field(default=(), description="Subtracted from each band; none is 0.")
    std: tuple[FiniteFloat, ...] = Field(default=(), description="What each band is then divided by; none is 1.")
    fill: FiniteFloat = Field(default=0.0, description="What it is given where nothing was seen, after normalisation.")
    needs: Literal["all", "any"] = Field(
        default="all", description="Whether a cell must have been seen at all time steps, or at any."
    )
    output: Literal["logits", "probabilities", "value"] = Field(description="What comes out, a channel for each class.")
    classes: tuple[Class, ...] = Field(default=(), max_length=254)
    quantity: Quantity | None = None
    note: str = Field(default="", description="What whoever uses a result has to know.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name in ("mean", "std"):
            if len(given := getattr(self, name)) not in {0, len(self.bands)}:
                raise ValueError(f"{name} has {len(given)} numbers for {len(self.bands)} bands")
        if any(value <= 0 for value in self.std):
            raise ValueError("std holds a number that is not above 0")
        if self.overlap * 2 > self.chip_size:
            raise ValueError("overlap is more than half of chip_size")
        if (self.quantity is None, bool(self.classes)) != ((False, False) if self.output == "value" else (True, True)):
            raise ValueError("output 'value' goes with a quantity and no classes, the others with classes alone")
        if self.output != "value" and len(self.classes) < 2:
            raise ValueError("there must be two classes at least")
        return self

    @property
    def family(self) -> str:
        """What several sizes of it have in common."""
        return self.key or self.name

    @property
    def channels(self) -> int:
        """How many numbers come out for a cell."""
        return max(1, len(self.classes))


class Wanted(_Manifest):
    """What a task wants of its model, what it left open filled in."""

    source: str
    chip_size: int
    overlap: int
    days: tuple[date, ...]


def known(site: Site) -> Iterator[Model]:
    """Yield every model whose manifest is good, by name."""
    if site.models is None or not site.models.is_dir():
        return
    for folder in sorted(path for path in site.models.iterdir() if (path / MANIFEST).is_file()):
        try:
            yield _read(folder)
        except ModelUnusable:
            continue  # whoever asks for this one by name is told


def find(name: str, site: Site, size: str | None = None) -> Model:
    """Return a model by its name, or by the key of a family and the size.

    Raises:
        ModelUnknown: If there is none, or a family has several and no size was given.
        ModelUnusable: If its manifest is not good.
    """
    models = list(known(site))
    exact = [model for model in models if model.name == name and size in {None, model.size}]
    found = exact or [m for m in models if m.family == name and (size is None or m.size == size)]
    if len(found) == 1:
        return found[0]
    folder = None if site.models is None or re.fullmatch(_NAME, name) is None else site.models / name
    if not found and size is None and folder is not None and (folder / MANIFEST).is_file():
        return _read(folder)
    wanted = f"{name[:64]!r}" if size is None else f"{name[:64]!r} of size {size[:64]!r}"
    there = ", ".join(f"{m.name} ({m.family}, {m.size})" if m.size else m.name for m in models)
    raise ModelUnknown(
        f"There is no one model {wanted}." if found else f"There is no model {wanted}.",
        label="model",
        remedy=f"There are: {there}." if there else "The operator puts models into the folder VOLCAL_MODELS_DIR.",
    )


def _read(folder: Path) -> Model:
    try:
        model = Model.model_validate(json.loads((folder / MANIFEST).read_text()))
        if model.name != folder.name:
            raise ValueError(f"the folder is named {folder.name!r}, the model {model.name!r}")
    except (OSError, ValueError) as error:
        raise ModelUnusable(
            f"The manifest of the model {folder.name!r} is not good: {words(error)}",
            label="model",
            remedy="The operator mends it; docs/rasters.md shows one.",
        ) from None
    return model


def preflight(params: Params, site: Site) -> None:
    """Refuse at once what cannot come to a good end.

    Raises:
        PipelineError: If there is no such model or source, or they do not fit the options.
    """
    model = find(params.model, site)
    resolve(params, model, site)


def resolve(params: Params, model: Model, site: Site) -> Wanted:
    """Return what a task wants, defaults of the model filled in.

    Raises:
        InputInvalid: If the options do not fit the model.
        InputTooLarge: If a box has more cells than fit into memory.
    """
    source = find_source(params.source or model.source, site)
    if lacking := source.lacks(model.bands):
        raise InputInvalid(
            f"The source {source.name} has no {', '.join(lacking)}, which the model {model.name} needs.",
            label="source",
            remedy=f"Leave the source out: the model was made for {model.source}.",
        )
    steps = params.num_steps or model.time_steps
    if steps != model.time_steps:
        raise _unfit("num_steps", steps, model.time_steps, model.name)
    chip = params.chip_size or model.chip_size
    if chip != model.chip_size and not model.any_size:
        raise _unfit("chip_size", chip, model.chip_size, model.name)
    for box in params.bboxes:
        across, down = size_of(box, model.resolution)
        if across * down * max(steps * len(model.bands), model.channels) > MOST_VALUES:
            raise InputTooLarge(
                f"The box {list(box)} has about {across} x {down} cells of {model.resolution:g} m: too many for a run.",
                label="bboxes",
                remedy="Give several smaller boxes.",
            )
    apart = params.temporal_step or model.temporal_step
    days = tuple(params.date - timedelta(days=apart * back) for back in reversed(range(steps)))
    return Wanted(source=source.name, chip_size=chip, overlap=min(model.overlap, chip // 2), days=days)


def _unfit(option: str, given: int, wanted: int, model: str) -> InputInvalid:
    return InputInvalid(
        f"{option} is {given}, but the model {model} takes {wanted} alone.", label=option, remedy="Leave it out."
    )
