"""Volume change between two surveys: what it asks for and what can be set."""

from typing import Literal

from pydantic import BaseModel, Field

from pipeline.contracts import InputPair, InputSlot, OutputSlot, Spec, Step

CLOUD_FORMATS = (".las", ".laz", ".copc.laz", ".ply", ".xyz", ".txt", ".asc", ".csv")


class Params(BaseModel, frozen=True, extra="forbid"):
    """Options of a run; every default adapts to the surveys, so most people set none.

    Lengths are metres. None means: chosen from the point density.
    """

    cell: float | None = Field(default=None, gt=0, description="Edge of a grid cell, m; None = 3 × point spacing.")
    registration: Literal["auto", "none", "open3d"] = Field(
        default="auto",
        description="auto: identity first, aligned only as far as the data show; none: trust the coordinates; "
        "open3d: fine registration by Open3D (optional extra) as a cross-check.",
    )
    ground: Literal["auto", "classified", "filter", "all"] = Field(
        default="auto",
        description="Which points are ground: auto = class 2 where both clouds are classified, else a ground filter.",
    )
    min_score: float = Field(default=0.0, ge=0, le=1, description="Hulls that score less are left out.")
    max_points: int = Field(default=200_000_000, ge=1000, description="Refuse clouds with more points than this.")
    tile_points: int | None = Field(
        default=None,
        ge=1000,
        description="Keep the surveys on disk in tiles of at most this many points, so that memory does not grow with "
        "them; None = in memory up to 30 million points together, beyond that tiles of a million.",
    )
    images: bool = Field(default=True, description="Whether to draw pictures and the reports.")
    max_hull_images: int = Field(default=50, ge=0, description="Draw at most this many hulls, best first.")


SPEC = Spec(
    name="volume_change",
    title="Volume change between two surveys",
    inputs=(
        InputSlot("pre", "Reference survey", CLOUD_FORMATS),
        InputSlot("post", "Changed survey", CLOUD_FORMATS),
        InputSlot("shp", "Ground that did not move (polygons)", (".shp",)),
        InputSlot("shx", "Index of the shapefile", (".shx",)),
        InputSlot("dbf", "Attributes of the shapefile", (".dbf",), required=False),
        InputSlot("prj", "Coordinate system of the shapefile", (".prj",), required=False),
    ),
    params=Params,
    steps=(Step("run", "Volume change", "pipeline.volume_change.run:run"),),
    inspector="pipeline.formats.inspect:inspect",
    pairs=(InputPair("shp", "shx", "pipeline.formats.inspect_shape:check_shape_pair"),),
    outputs=(
        OutputSlot(
            "totals", "Cut, fill and net volume in all, with 95 % intervals", "application/json", member="totals"
        ),
        OutputSlot("hulls", "Changes (GeoJSON)", "application/geo+json", "hulls.geojson"),
        OutputSlot(
            "hulls_gpkg", "Changes and stable ground (GeoPackage)", "application/geopackage+sqlite3", "hulls.gpkg"
        ),
        OutputSlot(
            "difference",
            "Height change, m (GeoTIFF)",
            "image/tiff; application=geotiff; profile=cloud-optimized",
            "difference.tif",
        ),
        OutputSlot(
            "changed_points", "Core points with distance and hull", "application/vnd.laszip", "changed_points.laz"
        ),
        OutputSlot("overview", "Overview", "image/png", "overview.png"),
        OutputSlot("report", "Report", "text/html", "report.html"),
    ),
)
