"""What do satellites show of some places, and what does a model make of it? Two steps, from two queues."""

import datetime as dt
import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, FiniteFloat

from pipeline.contracts import Spec, Step

DATA, MODEL = "data-processing", "model-prediction"
_SOUTH, _NORTH = -80.0, 84.0  # where UTM, on whose grids all is computed, ends
_WIDEST = 6.0  # degrees: what lies in more than its own zone is stretched visibly
_M_PER_DEGREE = 111_320.0

Box = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]


def check_box(box: Box) -> Box:
    """Return a bounding box that is one.

    Raises:
        ValueError: If it is not, saying why and what to do.

    >>> check_box((15.0, 47.0, 15.1, 47.1))
    (15.0, 47.0, 15.1, 47.1)
    """
    west, south, east, north = box
    if not all(-180 <= x <= 180 for x in (west, east)) or not all(-90 <= y <= 90 for y in (south, north)):
        raise ValueError("a corner is outside the world; the order is west, south, east, north, in degrees (WGS 84)")
    if south >= north:
        raise ValueError("south is not below north; the order is west, south, east, north")
    if west >= east:
        raise ValueError(
            "west is not left of east; the order is west, south, east, north, and a box across the antimeridian (180°) "
            "must be given as two"
        )
    if south < _SOUTH or north > _NORTH:
        raise ValueError(f"latitudes beyond {_SOUTH:g}° to {_NORTH:g}° are not supported: UTM grids end there")
    if east - west > _WIDEST or north - south > _WIDEST:
        raise ValueError(f"a side is longer than {_WIDEST:g}°; give several smaller boxes")
    return box


def size_of(box: Box, resolution: float) -> tuple[int, int]:
    """Return about how many cells of so many metres a box has, across and down.

    >>> size_of((0.0, 0.0, 1.0, 1.0), 30.0)
    (3711, 3711)
    """
    west, south, east, north = box
    nearest = 0.0 if south < 0 < north else min(abs(south), abs(north))  # to the equator: where it is widest
    across = (east - west) * _M_PER_DEGREE * math.cos(math.radians(nearest))
    return math.ceil(across / resolution), math.ceil((north - south) * _M_PER_DEGREE / resolution)


class Params(BaseModel, frozen=True, extra="forbid"):
    """Options."""

    bboxes: list[Annotated[Box, AfterValidator(check_box)]] = Field(
        min_length=1, max_length=32, description="Places: west, south, east, north each, degrees (WGS 84)."
    )
    model: str = Field(min_length=1, max_length=64, description="Name of a model: `GET /api/models` lists them.")
    date: dt.date = Field(
        ge=dt.date(1972, 1, 1), description="The day of the last time step; the others lie before it."
    )
    source: str = Field(default="", max_length=64, description="Where scenes come from; empty is what the model wants.")
    num_steps: int | None = Field(
        default=None, ge=1, le=24, description="Time steps; none is as many as the model wants."
    )
    temporal_step: int | None = Field(
        default=None, ge=1, le=366, description="Days from one time step to the next; none is what the model wants."
    )
    temporal_tolerance: int = Field(
        default=5, ge=0, le=366, description="Days before and after a time step's day that count as it."
    )
    cloud_coverage: FiniteFloat = Field(
        default=100.0, ge=0, le=100, description="Scenes with more clouds than this, in percent, are not used."
    )
    chip_size: int | None = Field(
        default=None, ge=16, le=2048, description="Edge of a chip, cells; none is what the model wants."
    )
    composite: Literal["least_cloudy", "median"] = Field(
        default="least_cloudy",
        description="Of several scenes of a time step: the clear cells of the least cloudy one first, or the median.",
    )


SPEC = Spec(
    name="raster_prediction",
    title="Raster prediction: satellite scenes of some places, and what a model makes of them",
    inputs=(),
    params=Params,
    steps=(
        Step(DATA, "Find, read and prepare scenes", "pipeline.raster_prediction.prepare:run", DATA, fetches=True),
        Step(MODEL, "Predict and map", "pipeline.raster_prediction.predict:run", MODEL),
    ),
    preflight="pipeline.raster_prediction.models:preflight",
    example={"bboxes": [[15.0, 47.0, 15.1, 47.1]], "model": "water", "date": "2024-06-01"},
)
