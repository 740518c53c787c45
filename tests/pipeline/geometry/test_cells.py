import numpy as np
import pytest
from scipy.spatial import cKDTree

from pipeline.geometry.cells import CellList, cylinder_stats, normals

RNG = np.random.default_rng(3)
POINTS = RNG.uniform((-20, 5, 0), (30, 40, 6), (6000, 3))
CORES = RNG.uniform((-25, 0, 0), (35, 45, 6), (150, 3))
DIRECTIONS = RNG.normal(size=(150, 3))
DIRECTIONS /= np.linalg.norm(DIRECTIONS, axis=1)[:, None]


def test_every_point_lies_in_its_cell_in_the_given_order() -> None:
    index = CellList.build(POINTS, 1.7)
    cell = np.repeat(np.arange(index.rows * index.cols), np.diff(index.starts))
    col, row = np.floor((POINTS[:, :2] - (index.x0, index.y0)) / index.cell).astype(int).T
    assert np.array_equal(index.points, POINTS[np.argsort(row * index.cols + col, kind="stable")])
    assert np.array_equal(cell % index.cols, np.floor((index.points[:, 0] - index.x0) / index.cell))
    assert np.array_equal(cell // index.cols, np.floor((index.points[:, 1] - index.y0) / index.cell))


@pytest.mark.parametrize("cell", [0.4, 2.0, 100.0])
def test_cylinders_agree_with_the_definition_by_brute_force(cell: float) -> None:
    count, mean, variance = cylinder_stats(CellList.build(POINTS, cell), CORES, DIRECTIONS, 1.5, 2.5)
    for k, (core, axis) in enumerate(zip(CORES, DIRECTIONS, strict=True)):
        along = (POINTS - core) @ axis
        across = np.linalg.norm(POINTS - core - along[:, None] * axis, axis=1)
        expected = along[(np.abs(along) <= 2.5) & (across <= 1.5)]
        assert count[k] == len(expected)
        if len(expected) > 1:
            assert mean[k] == pytest.approx(expected.mean())
            assert variance[k] == pytest.approx(expected.var(ddof=1))


def test_an_empty_cylinder_has_no_mean_and_a_single_point_no_variance() -> None:
    index = CellList.build(np.array([[0.0, 0, 0.5]]), 1.0)
    count, mean, variance = cylinder_stats(
        index, np.array([[0.0, 0, 0], [9, 9, 9]]), np.tile([0, 0, 1.0], (2, 1)), 1, 2
    )
    assert count.tolist() == [1, 0]
    assert mean[0] == 0.5
    assert np.isnan(mean[1])
    assert np.isnan(variance).all()


def test_normals_are_the_least_axis_of_the_neighbours_and_point_upward() -> None:
    normal, roughness, count = normals(CellList.build(POINTS, 1.0), CORES, 3.0)
    for k, near in enumerate(cKDTree(POINTS).query_ball_point(CORES, 3.0)):
        assert count[k] == len(near)
        if len(near) > 3:
            values, vectors = np.linalg.eigh(np.cov(POINTS[near].T, bias=True))
            assert roughness[k] == pytest.approx(np.sqrt(values[0]), abs=1e-9)
            assert abs(normal[k] @ vectors[:, 0]) == pytest.approx(1, abs=1e-6)
            assert normal[k, 2] >= 0


def test_a_core_without_neighbours_gets_an_upright_normal_and_no_roughness() -> None:
    normal, roughness, count = normals(CellList.build(POINTS, 1.0), np.array([[500.0, 500, 0]]), 3.0)
    assert normal.tolist() == [[0, 0, 1]]
    assert np.isnan(roughness).all()
    assert count.tolist() == [0]


def test_a_stray_point_far_away_does_not_ask_for_endless_cells() -> None:
    far = np.vstack([POINTS, [[1e9, 1e9, 0]]])
    index = CellList.build(far, 0.5)
    assert index.rows * index.cols <= 1 << 16
    near, _, _ = cylinder_stats(index, CORES, DIRECTIONS, 1.5, 2.5)
    assert np.array_equal(near, cylinder_stats(CellList.build(POINTS, 0.5), CORES, DIRECTIONS, 1.5, 2.5)[0])


def test_points_outside_the_grid_are_found_where_they_are() -> None:
    far = np.vstack([POINTS, [[1e9, 1e9, 0], [1e9, 1e9, 0.5]]])
    count, mean, _ = cylinder_stats(CellList.build(far, 0.5), far[-1:], np.array([[0, 0, 1.0]]), 1.0, 1.0)
    assert count.tolist() == [2]
    assert mean.tolist() == [-0.25]


def test_an_index_of_nothing_finds_nothing() -> None:
    index = CellList.build(np.zeros((0, 3)), 1.0)
    assert cylinder_stats(index, CORES, DIRECTIONS, 1.5, 2.5)[0].sum() == 0


def test_a_cell_without_size_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        CellList.build(POINTS, 0.0)
