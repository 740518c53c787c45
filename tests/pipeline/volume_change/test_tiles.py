"""Surveys in tiles give the results of surveys in memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import app.samples
from benchmarks.scenes import Bump, Plateau, Scene, hills, write_las
from pipeline.contracts import Run
from pipeline.errors import InputInvalid
from pipeline.geometry.rigid import motion
from pipeline.volume_change import Params
from pipeline.volume_change.inputs.points import IN_MEMORY, TilePlan
from pipeline.volume_change.read import read_surveys
from pipeline.volume_change.run import run
from tests.pipeline.formats import files

TTP = Path(app.samples.__file__).parent / "ttp"
SAMPLE = {"pre": TTP / "pre_2015.laz", "post": TTP / "post_2023.laz", "shp": TTP / "stable_area.shp"}
CHANGES = (Bump(22, 24, 8, 1.2), Bump(50, 45, 7, -0.9), Plateau(25, 55, 4, 0.6))
PAIR = Scene("tiles", hills(), CHANGES, size=75.0, density=20.0, seed=5, margin=10.0)


def written(folder: Path, scene: Scene, *, plants: bool = False) -> dict[str, Path]:
    """Write a pair without classes, with a few bushes and vehicles on it if asked for."""
    paths = dict(zip(("pre", "post", "shp"), scene.write(folder), strict=True))
    if plants:
        rng = np.random.default_rng(1)
        for label, points in zip(("pre", "post"), scene.clouds(), strict=True):
            local = points - points.min(axis=0)
            above = np.zeros(len(points))
            for x, y, height in ((60, 20, 2.0), (65, 60, 3.0), (10, 40, 2.5)):
                near = np.hypot(local[:, 0] - x, local[:, 1] - y) < 2.5
                above[near] = rng.uniform(0, height, near.sum())
            write_las(paths[label], points + np.column_stack([0 * above, 0 * above, above]))
    return paths


def result(folder: Path, inputs: dict[str, Path], **options: object) -> dict:
    folder.mkdir()
    outcome = run(Run(inputs=inputs, outdir=folder), Params(images=False, **options))
    assert not (folder / ".tiles").exists()
    return outcome.document


def assert_alike(one: dict, other: dict) -> None:
    """Hold the numbers of two documents against each other: what order the points were added in may show, no more."""
    assert one["registration"]["dof"] == other["registration"]["dof"]
    np.testing.assert_allclose(one["registration"]["matrix"], other["registration"]["matrix"], rtol=0, atol=1e-4)
    assert one["surveys"] == other["surveys"]
    assert [hull["kind"] for hull in one["hulls"]] == [hull["kind"] for hull in other["hulls"]]
    for a, b in zip(one["hulls"], other["hulls"], strict=True):
        assert a["net_volume"] == pytest.approx(b["net_volume"], rel=1e-3)
        assert a["area"] == pytest.approx(b["area"], rel=1e-2)
        assert a["net_volume_ci95"] == pytest.approx(b["net_volume_ci95"], rel=1e-2, abs=0.01)
    assert one["site"]["net_volume"] == pytest.approx(other["site"]["net_volume"], rel=1e-3, abs=0.02)
    assert [w["code"] for w in one["warnings"]] == [w["code"] for w in other["warnings"]]


def test_the_real_sample_is_the_same_to_the_last_digit(tmp_path: Path) -> None:
    whole, tiled = (result(tmp_path / str(n), SAMPLE, tile_points=n) for n in (10_000_000, 9000))
    for document in (whole, tiled):
        for varying in ("timings", "peak_memory_mb", "parameters"):
            del document[varying]
    assert tiled == whole


def test_unclassified_ground_with_plants_is_filtered_alike(tmp_path: Path) -> None:
    inputs = written(tmp_path, PAIR, plants=True)
    whole, tiled = result(tmp_path / "whole", inputs), result(tmp_path / "tiled", inputs, tile_points=7000)
    assert len(whole["hulls"]) >= len(CHANGES)
    assert_alike(tiled, whole)


def test_a_survey_that_must_be_turned_is_found_by_its_tiles(tmp_path: Path) -> None:
    turned = replace(PAIR, motion=motion(np.array([4.0, -3.0, 0.4, 0, 0, np.radians(150)]), np.zeros(3)))
    inputs = written(tmp_path, turned)
    whole, tiled = result(tmp_path / "whole", inputs), result(tmp_path / "tiled", inputs, tile_points=7000)
    assert "search" in tiled["registration"]["method"]
    np.testing.assert_allclose(
        tiled["registration"]["matrix"], whole["registration"]["matrix"], rtol=0, atol=2e-3
    )  # other samples of the same points
    for a, b in zip(tiled["hulls"][: len(CHANGES)], whole["hulls"][: len(CHANGES)], strict=True):
        assert abs(a["net_volume"] - b["net_volume"]) < b["net_volume_ci95"][1] - b["net_volume"]


def test_strays_repeats_noise_and_broken_points_are_left_out_and_told_alike(tmp_path: Path) -> None:
    ground = files.terrain()
    rough = np.vstack([ground, ground[:200], [[0.0, 0, 0], [np.nan, 1, 2]]])
    inputs = files.write(tmp_path, files.xyz_bytes(rough), files.las_bytes(files.terrain(seed=2)))
    whole = read_surveys(inputs)
    tiled = read_surveys(inputs, tiles=TilePlan(tmp_path / "tiles", 1000))
    assert tiled.warnings == whole.warnings
    assert {"POINTS_BROKEN", "POINTS_STRAY", "POINTS_REPEATED"} <= {notice.code for notice in tiled.warnings}
    assert tiled.origin.tolist() == whole.origin.tolist()
    for one, other in ((tiled.pre, whole.pre), (tiled.post, whole.post)):
        together = np.vstack([block.points for block in one.blocks()])
        assert sorted(together.tolist()) == sorted(other.points.tolist())
    assert tiled.stable.equals(whole.stable)


def test_text_that_must_be_read_word_by_word_is_not_dealt_out_twice(tmp_path: Path) -> None:
    text = files.xyz_bytes(files.terrain()) + b"1.0 abc 3.0\n"
    inputs = files.write(tmp_path, text, files.las_bytes(files.terrain(seed=2)))
    tiled = read_surveys(inputs, tiles=TilePlan(tmp_path / "tiles", 1000))
    assert len(tiled.pre) == len(files.terrain())


def test_a_refused_survey_leaves_no_tiles(tmp_path: Path) -> None:
    inputs = files.write(tmp_path, files.las_bytes(files.terrain()), files.las_bytes(files.terrain()[:20]))
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputInvalid, match="at least 100 are needed"):
        run(Run(inputs=inputs, outdir=out), Params(images=False, tile_points=1000))
    assert list(out.iterdir()) == []


def test_only_surveys_too_large_for_memory_are_dealt_out_unasked(tmp_path: Path) -> None:
    plan = TilePlan(tmp_path)
    assert plan.stores(IN_MEMORY) == (None, None)
    assert None not in plan.stores(IN_MEMORY + 1)
    assert None not in replace(plan, most=1000).stores(10)
