"""The result document's shape, said once; ``docs/schema/volume_change-1.json`` is generated from here."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = "volcal/volume_change/1"

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Unit = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Ci95 = Annotated[tuple[Finite, Finite], Field(description="95 % interval: lower and upper end.")]
Vector = tuple[Finite, Finite, Finite]
Row = tuple[Finite, Finite, Finite, Finite]


class _Part(BaseModel):
    """Readers must tolerate further members: they are added without a new version."""

    model_config = ConfigDict(extra="allow", frozen=True)


class Geometry(_Part):
    """A GeoJSON geometry in map coordinates (not in degrees)."""

    type: Literal["Polygon", "MultiPolygon"]
    coordinates: list[Any]


class Volumes(_Part):
    """Material moved, in cubic metres; net = fill − cut."""

    cut_volume: Positive = Field(description="Material removed, m³.")
    fill_volume: Positive = Field(description="Material added, m³.")
    net_volume: Finite = Field(description="Fill minus cut, m³.")
    cut_volume_ci95: Ci95
    fill_volume_ci95: Ci95
    net_volume_ci95: Ci95
    area: Positive = Field(description="m².")


class HullResult(Volumes):
    """One change of the ground; no member is ever null."""

    id: str = Field(min_length=1)
    score: Unit = Field(description="Probability that this is a real change of the ground.")
    kind: Literal["ground", "vegetation", "object", "unknown"]
    mean_change: Finite = Field(description="Mean height change, m.")
    max_change: Finite = Field(description="Largest height change with its sign, m.")
    coverage: Unit = Field(description="Share of the hull that both surveys saw.")
    centroid: tuple[Finite, Finite] = Field(description="Map coordinates.")
    polygon: Geometry
    image: str = Field(
        description="Picture of this hull in the result folder; the overview for hulls beyond the limit of "
        "pictures; empty when no pictures were asked for."
    )


class RegistrationResult(_Part):
    """How the later survey was moved onto the reference."""

    matrix: tuple[Row, Row, Row, Row] = Field(description="4 × 4 rigid motion post → pre in map coordinates.")
    method: str
    converged: bool
    overlap: Unit | None = Field(description="Share of the smaller survey's footprint that both saw.")
    rmse: Positive | None = Field(description="Robust spread of the distances that decided, m.")
    translation: Vector = Field(description="How far the motion moves the centre of the site, m.")
    rotation_deg: Positive = Field(description="Angle of the motion, degrees.")
    inliers: Unit | None = Field(description="Share of the deciding anchors that agree.")
    dof: list[str] = Field(description="Degrees of freedom that were estimated.")


class StableArea(_Part):
    """What the ground that did not move says about the error."""

    points: int = Field(ge=0)
    area: Positive = Field(description="m².")
    bias: Finite = Field(description="Median height change there as delivered, m; removed from every volume.")
    sigma: Positive = Field(description="Robust standard deviation of one cell's height change, m.")
    lod95: Positive = Field(description="Level of detection of one cell at 95 %, m.")
    correlation_length: Positive = Field(description="Distance beyond which errors are unrelated, m.")
    sill_long: Finite = Field(description="Variance of the correlated part, m².")
    nugget: Finite = Field(description="Variance of the uncorrelated part, m².")


class SurveyResult(_Part):
    """What was read of one survey."""

    name: str
    points: int = Field(ge=0)
    density: Positive = Field(description="Points per square metre of ground that it saw.")


class SurveysResult(_Part):
    """Both surveys."""

    pre: SurveyResult
    post: SurveyResult


class NoticeResult(_Part):
    """Something the user must know although the result stands."""

    code: str
    message: str


class ResultDocument(_Part):
    """How much ground moved between two surveys: lengths in metres, volumes in cubic metres."""

    model_config = ConfigDict(extra="allow", frozen=True, title="Volcal volume change, version 1")

    schema_: Literal["volcal/volume_change/1"] = Field(alias="schema")
    crs: str | None = Field(description="EPSG:n, or WKT; null where the files name none.")
    unit: Literal["metre"]
    input_unit: str = Field(description="The files' own unit of length; converted if it is not the metre.")
    hulls: list[HullResult] = Field(description="Sorted by score, then by |net|.")
    totals: Volumes = Field(description="Sums over the hulls.")
    site: Volumes = Field(description="Sums over every cell that both surveys saw.")
    registration: RegistrationResult
    stable_area: StableArea
    surveys: SurveysResult
    grid: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(description="Edge of a cell, m.")
    timings: dict[str, Positive] = Field(description="Seconds by stage.")
    peak_memory_mb: Positive = Field(description="Highest memory in use, MiB.")
    parameters: dict[str, Any]
    versions: dict[str, str]
    warnings: list[NoticeResult]


def volcal_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the result document.

    >>> volcal_schema()["$schema"]
    'https://json-schema.org/draft/2020-12/schema'
    """
    body = ResultDocument.model_json_schema(by_alias=True, mode="serialization")
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:" + SCHEMA.replace("/", ":")}
    return head | body
