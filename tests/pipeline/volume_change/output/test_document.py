import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import shapely

from benchmarks.scenes import Bump
from pipeline.volume_change.output.document import document, image_names, map_matrix
from pipeline.volume_change.output.schema import volcal_schema
from pipeline.volume_change.types import Analysis, Notice
from tests.pipeline.volume_change.output.synthetic import ORIGIN, SIX, Site, make_analysis

SCHEMA_FILE = Path(__file__).parents[4] / "docs/schema/volume_change-1.json"


def documented(analysis: Analysis, *, images: bool = True) -> dict[str, Any]:
    names = image_names(analysis.hulls, images=images, max_hull_images=4)
    return document(
        analysis, params={"cell": None}, timings={"read": 0.5}, peak_memory_mb=120.0, versions={"x": "2"}, images=names
    )  # fmt: skip


def test_the_published_schema_is_the_one_that_the_code_generates() -> None:
    assert json.loads(SCHEMA_FILE.read_text()) == volcal_schema()


def test_the_schema_is_itself_valid() -> None:
    jsonschema.Draft202012Validator.check_schema(volcal_schema())
    assert volcal_schema()["properties"]["schema"]["const"] == "volcal/volume_change/1"


@pytest.mark.parametrize(
    "site", [Site(), Site(changes=()), Site(crs=None), Site(holes=True), Site(unit="US survey foot")]
)
def test_documents_fit_the_schema_and_are_strict_json(site: Site) -> None:
    found = documented(make_analysis(site))
    text = json.dumps(found, allow_nan=False)
    jsonschema.Draft202012Validator(volcal_schema()).validate(json.loads(text))


def test_every_member_that_clients_were_promised_is_there() -> None:
    found = documented(make_analysis())
    assert {"schema", "crs", "unit", "hulls", "totals", "registration", "stable_area", "grid", "timings",
            "peak_memory_mb", "parameters", "versions", "warnings"} <= found.keys()  # fmt: skip
    assert {"id", "score", "area", "cut_volume", "fill_volume", "net_volume", "net_volume_ci95", "cut_volume_ci95",
            "fill_volume_ci95", "mean_change", "max_change", "coverage", "kind", "centroid", "polygon",
            "image"} <= found["hulls"][0].keys()  # fmt: skip
    assert {"matrix", "method", "converged", "overlap", "rmse", "translation", "rotation_deg"} <= found[
        "registration"
    ].keys()
    assert {"points", "area", "bias", "sigma", "lod95", "correlation_length"} <= found["stable_area"].keys()


def test_volumes_are_those_of_the_mounds() -> None:
    found = documented(make_analysis())
    for hull, bump in zip(found["hulls"], SIX, strict=True):
        assert hull["net_volume"] == pytest.approx(bump.volume, abs=1e-5)
        assert hull["centroid"] == pytest.approx([bump.x + ORIGIN[0], bump.y + ORIGIN[1]])
        assert hull["net_volume_ci95"][0] <= hull["net_volume"] <= hull["net_volume_ci95"][1]
    assert found["totals"]["net_volume"] == pytest.approx(sum(b.volume for b in SIX), abs=1e-5)


def test_polygons_are_in_map_coordinates() -> None:
    found = documented(make_analysis())
    circle = shapely.geometry.shape(found["hulls"][2]["polygon"])
    bump = SIX[2]
    assert circle.is_valid
    assert circle.bounds == pytest.approx(
        (ORIGIN[0] + bump.x - 10.8, ORIGIN[1] + bump.y - 10.8, ORIGIN[0] + bump.x + 10.8, ORIGIN[1] + bump.y + 10.8)
    )


def test_the_matrix_in_map_coordinates_moves_a_map_point_as_the_local_one_moves_the_local_point() -> None:
    angle = np.radians(37)
    local = np.eye(4)
    local[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    local[:3, 3] = (1.5, -2.5, 0.25)
    point = np.array([12.0, 34.0, 5.0])
    expected = local[:3, :3] @ point + local[:3, 3] + ORIGIN
    moved = map_matrix(local, ORIGIN) @ np.append(point + ORIGIN, 1.0)
    assert moved[:3] == pytest.approx(expected, abs=1e-8)


def test_the_translation_is_that_of_the_site_and_not_of_the_far_map_origin() -> None:
    registration = documented(make_analysis())["registration"]
    # turned by 0.01° about the local zero: the centre, 65 m away on both axes, moves by 65 m × 0.01° = 11 mm
    assert registration["translation"] == pytest.approx([-0.01134, 0.01134, 0.41], abs=2e-5)
    assert registration["rotation_deg"] == pytest.approx(0.01, abs=1e-9)
    assert np.abs(np.array(registration["matrix"])[:2, 3]).max() > 100


def test_the_same_input_gives_the_same_bytes_of_hulls() -> None:
    first, second = (json.dumps(documented(make_analysis())["hulls"]) for _ in range(2))
    assert first == second


def test_hulls_beyond_the_limit_of_pictures_point_to_the_overview() -> None:
    images = [hull["image"] for hull in documented(make_analysis())["hulls"]]
    assert images == [*(f"hulls/h00{n}.png" for n in (1, 2, 3, 4)), "overview.png", "overview.png"]


def test_without_pictures_the_image_is_empty_and_not_null() -> None:
    assert {hull["image"] for hull in documented(make_analysis(), images=False)["hulls"]} == {""}


def test_a_hull_with_a_number_that_is_not_finite_is_refused() -> None:
    analysis = make_analysis()
    broken = replace(analysis.hulls[0], mean_change=float("nan"))
    with pytest.raises(ValueError, match="h001"):
        documented(replace(analysis, hulls=(broken, *analysis.hulls[1:])))


def test_figures_that_could_not_be_measured_are_null_outside_of_hulls() -> None:
    analysis = make_analysis()
    found = documented(replace(analysis, registration=replace(analysis.registration, rmse=float("nan"))))
    assert found["registration"]["rmse"] is None
    jsonschema.Draft202012Validator(volcal_schema()).validate(found)


def test_each_warning_is_told_once() -> None:
    notice = Notice("STABLE_BIAS", "The surveys disagree by −0.41 m.")
    analysis = make_analysis(Site(warnings=(notice,)))
    found = documented(replace(analysis, surveys=replace(analysis.surveys, warnings=(notice,))))
    assert found["warnings"] == [{"code": "STABLE_BIAS", "message": "The surveys disagree by −0.41 m."}]


def test_tiny_volumes_keep_their_digits() -> None:
    bump = Bump(0.6, 0.5, 0.3, 0.01)  # 0.84 litres
    site = Site(changes=(bump,), width=1.3, height=1.0, cell=0.01, noise=0.0, relief=0.05, scale=0.01)
    assert documented(make_analysis(site))["hulls"][0]["net_volume"] == pytest.approx(bump.volume, rel=1e-3)
