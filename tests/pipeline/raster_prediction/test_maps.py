"""Do the maps show what was there, where it was?"""

from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from PIL import Image

from tests.rasters import BOX, CELL, CLOUD, COLUMNS, EMPTY, ROWS, Sky, cells_of, ndvi, place_of, plain, sloping


def test_every_cell_of_a_band_ratio_is_exactly_what_the_bands_say(sky: Sky, predicted: Any) -> None:
    red, nir = sloping(0.05, 0.30), sloping(0.40, 0.10, down=True)
    sky.scene("a", "2024-06-09", red, nir)
    sky.greenness()
    found = predicted("greenness")
    values = found.map("values")
    assert not np.isnan(values).any()
    np.testing.assert_allclose(values, ndvi(red, nir)[cells_of(found.path("values"))], atol=2e-6)
    assert found.area["coverage"] == 1.0
    assert found.area["values"]["max"] == pytest.approx(values.max())


def test_the_map_covers_the_box_on_a_utm_grid_of_whole_cells(sky: Sky, predicted: Any) -> None:
    sky.scene("a", "2024-06-09", plain(0.1), plain(0.3))
    sky.greenness()
    found = predicted("greenness")
    with rasterio.open(found.path("values")) as file:
        assert file.crs.to_epsg() == 32633
        assert (file.transform.a, file.transform.e) == (CELL, -CELL)
        assert [x % CELL for x in file.bounds] == [0, 0, 0, 0]
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        bounds = file.bounds
    # by pyproj, along all four sides: no corner of the box lies outside, and no side more than two cells further out
    west, south, east, north = BOX
    lon = np.concatenate([np.linspace(west, east, 50)] * 2 + [np.full(50, west), np.full(50, east)])
    lat = np.concatenate([np.full(50, south), np.full(50, north)] + [np.linspace(south, north, 50)] * 2)
    x, y = pyproj.Transformer.from_crs(4326, 32633, always_xy=True).transform(lon, lat)
    for inner, outer in ((x.min(), bounds.left), (y.min(), bounds.bottom), (-x.max(), -bounds.right)):
        assert outer <= inner < outer + 2 * CELL
    assert bounds.top - 2 * CELL < y.max() <= bounds.top
    assert found.area["bounds"] == list(bounds)
    assert found.area["crs"] == "EPSG:32633"


def test_a_pond_is_found_where_it_lies_and_its_area_adds_up(sky: Sky, predicted: Any) -> None:
    red, nir = plain(0.1), plain(0.3)
    row, column = place_of(15.01, 47.007)
    red[row - 2 : row + 3, column - 3 : column + 4] = 2000
    nir[row - 2 : row + 3, column - 3 : column + 4] = 500
    sky.scene("a", "2024-06-09", red, nir)
    sky.water()
    found = predicted("water")
    land, water = found.area["classes"]
    assert (water["cells"], water["area"]) == (35, 35 * CELL**2)
    assert land["cells"] + 35 == found.area["width"] * found.area["height"]
    assert found.area["unknown"] == {"cells": 0, "area": 0.0}
    # water has the logit -4 · NDVI = 2.4 against 0
    assert water["mean_probability"] == pytest.approx(1 / (1 + np.exp(-2.4)), abs=1e-5)
    x, y = pyproj.Transformer.from_crs(4326, 32633, always_xy=True).transform(15.01, 47.007)
    with rasterio.open(found.path("classes")) as file:
        assert [v[0] for v in file.sample([(x, y), (x + 5 * CELL, y)])] == [1, 0]
        assert file.nodata == 255
        assert file.colormap(1)[1] == (0x33, 0x66, 0xCC, 255)
        assert file.tags()["CLASS_1"] == "water"


def test_the_picture_shows_the_classes_and_is_transparent_where_nothing_is_known(sky: Sky, predicted: Any) -> None:
    nir = plain(0.3)
    nir[:, place_of(15.015, 47.007)[1] :] = EMPTY
    sky.scene("a", "2024-06-09", plain(0.1), nir)
    sky.water()
    found = predicted("water")
    pixels = np.asarray(Image.open(found.path("preview")))
    classes = found.map("classes")
    assert pixels.shape == (*classes.shape, 4)
    assert {tuple(p) for p in pixels[classes == 0]} == {(0x33, 0x66, 0x33, 255)}
    assert {int(p[3]) for p in pixels[classes == 255]} == {0}


def test_what_is_under_clouds_or_missing_is_unknown_and_not_any_class(sky: Sky, predicted: Any) -> None:
    row, column = place_of(15.01, 47.007)
    mask = np.zeros((ROWS, COLUMNS), np.uint8)
    mask[row - 3 : row, column] = CLOUD
    mask[row + 2, column] = 0b1000  # a shadow
    mask[row + 3, column] = 0b10000  # a bit that the manifest does not name
    mask[row + 4, column] = 255
    red = plain(0.1)
    red[row + 5, column] = EMPTY
    sky.scene("a", "2024-06-09", red, plain(0.3), mask=mask)
    sky.water()
    found = predicted("water")
    rows, columns = cells_of(found.path("classes"))
    unknown = np.zeros((ROWS, COLUMNS), bool)
    unknown[[row - 3, row - 2, row - 1, row + 2, row + 4, row + 5], column] = True
    assert (found.map("classes") == 255).tolist() == unknown[rows, columns].tolist()
    assert np.isnan(found.map("probability")).tolist() == unknown[rows, columns].tolist()
    assert found.area["unknown"] == {"cells": 6, "area": 6 * CELL**2}
    assert found.area["classes"][0]["cells"] == found.map("classes").size - 6


def test_clouds_of_the_clearest_scene_are_filled_from_the_next_alone(sky: Sky, predicted: Any) -> None:
    row, column = place_of(15.01, 47.007)
    mask = np.zeros((ROWS, COLUMNS), np.uint8)
    mask[row, column] = CLOUD
    sky.scene("clear", "2024-06-09", plain(0.1), plain(0.3), mask=mask, clouds=1.0)
    sky.scene("hazy", "2024-06-11", plain(0.2), plain(0.2), clouds=40.0)
    sky.greenness()
    found = predicted("greenness")
    rows, columns = cells_of(found.path("values"))
    expected = np.full((ROWS, COLUMNS), 0.5)
    expected[row, column] = 0.0
    np.testing.assert_allclose(found.map("values"), expected[rows, columns], atol=1e-6)
    assert [scene["id"] for scene in found.area["steps"][0]["scenes"]] == ["clear", "hazy"]
    strict = predicted("greenness", cloud_coverage=10)
    assert np.isnan(strict.map("values")).sum() == 1


def test_the_median_is_that_of_the_scenes_in_which_a_cell_is_clear(sky: Sky, predicted: Any) -> None:
    row, column = place_of(15.01, 47.007)
    mask = np.zeros((ROWS, COLUMNS), np.uint8)
    mask[row, column] = CLOUD
    for name, red, hidden in (("a", 0.1, None), ("b", 0.3, mask), ("c", 0.2, None)):
        sky.scene(name, "2024-06-09", plain(red), plain(0.3), mask=hidden)
    sky.greenness()
    found = predicted("greenness", composite="median")
    rows, columns = cells_of(found.path("values"))
    expected = np.full((ROWS, COLUMNS), (0.3 - 0.2) / 0.5)
    expected[row, column] = (0.3 - 0.15) / 0.45
    np.testing.assert_allclose(found.map("values"), expected[rows, columns], atol=1e-6)


def test_a_scene_in_another_projection_and_resolution_comes_to_lie_where_it_belongs(sky: Sky, predicted: Any) -> None:
    # cells of 0.0004 degrees, in which the red is the longitude and the infrared the latitude
    west, north, edge = 14.98, 47.03, 0.0004
    lon, lat = west + edge * (np.arange(160) + 0.5), north - edge * (np.arange(120) + 0.5)
    red = np.broadcast_to((lon - 14) * 10_000, (120, 160)).round().astype(np.int16)
    nir = np.broadcast_to(((lat - 46) * 10_000)[:, None], (120, 160)).round().astype(np.int16)
    transform = rasterio.Affine(edge, 0, west, 0, -edge, north)
    sky.scene("a", "2024-06-09", red, nir, crs="EPSG:4326", transform=transform)
    sky.greenness()
    found = predicted("greenness")
    with rasterio.open(found.path("values")) as file:
        columns, rows = np.meshgrid(np.arange(file.width) + 0.5, np.arange(file.height) + 0.5)
        x, y = file.transform @ (columns, rows)
        values = file.read(1)
    lon, lat = pyproj.Transformer.from_crs(32633, 4326, always_xy=True).transform(x, y)
    expected = ((lat - 46) - (lon - 14)) / ((lat - 46) + (lon - 14))
    # a cell is 0.0004 degrees wide; being off by half of one would be 1e-4
    np.testing.assert_allclose(values, expected, atol=2e-5)


def test_several_places_have_a_map_each(sky: Sky, predicted: Any) -> None:
    sky.scene("a", "2024-06-09", sloping(0.05, 0.3), plain(0.3))
    sky.greenness()
    small = (15.002, 47.002, 15.006, 47.004)
    found = predicted("greenness", bboxes=[small, BOX])
    one, two = found.document["areas"]
    assert (one["bbox"], two["bbox"]) == (list(small), list(BOX))
    assert one["files"]["values"] != two["files"]["values"]
    assert one["width"] < two["width"]
    assert {a.name for a in found.last.artifacts} == {*one["files"].values(), *two["files"].values(), "results.json"}
