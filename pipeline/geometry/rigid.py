"""Rigid motions as 4 × 4 matrices, and small ones as six numbers."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FREEDOMS = ("x", "y", "z", "roll", "pitch", "yaw")
"""The six numbers of a small motion: shifts along and turns (right-handed) about x, y, z."""


def motion(step: Array, centre: Array) -> Array:
    """Return the motion that turns about ``centre`` and then shifts.

    Args:
        step: Shift in metres and rotation vector in radians, shape (6,).
        centre: Fixed point of the rotation, metres, shape (3,).

    Returns:
        Matrix, shape (4, 4).

    Source:
        Rodrigues' formula.

    >>> quarter = motion(np.array([0, 0, 1, 0, 0, np.pi / 2]), np.zeros(3))
    >>> apply(quarter, np.array([[1.0, 0, 0]])).round(6).tolist()
    [[0.0, 1.0, 1.0]]
    """
    axis = step[3:]
    angle = float(np.linalg.norm(axis))
    K = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    first, second = (np.sin(angle) / angle, (1 - np.cos(angle)) / angle**2) if angle > 1e-8 else (1.0, 0.5)
    matrix = np.eye(4)
    matrix[:3, :3] += first * K + second * K @ K
    matrix[:3, 3] = centre + step[:3] - matrix[:3, :3] @ centre
    return matrix


def lift(height: float) -> Array:
    """Return the motion that lifts by a height, metres, shape (4, 4)."""
    return motion(np.array([0, 0, height, 0, 0, 0]), np.zeros(3))


def apply(matrix: Array, points: Array) -> Array:
    """Return the points, shape (n, 3), after the motion."""
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def inverse(matrix: Array) -> Array:
    """Return the motion back.

    >>> there = motion(np.array([1.0, 2, 3, 0.1, 0.2, 0.3]), np.ones(3))
    >>> np.allclose(inverse(there) @ there, np.eye(4))
    True
    """
    back = np.eye(4)
    back[:3, :3] = matrix[:3, :3].T
    back[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return back


def jacobian(points: Array, normals: Array, centre: Array, radius: float) -> Array:
    """How a small motion of the points changes their distance along the normals.

    Turns are measured by the path they make at ``radius`` from the centre, so that all six columns are
    metres per metre and can be compared.

    Args:
        points: Metres, shape (n, 3).
        normals: Unit vectors, shape (n, 3).
        centre: Fixed point of the turns, metres, shape (3,).
        radius: Size of the site, metres.

    Returns:
        Shape (n, 6), columns as in ``FREEDOMS``.
    """
    return np.hstack([normals, np.cross((points - centre) / radius, normals)])


def unscaled(step: Array, radius: float) -> Array:
    """Return a step in the units of ``motion`` from one in the units of ``jacobian``."""
    return np.concatenate([step[:3], step[3:] / radius])


def turn_degrees(matrix: Array) -> float:
    """Return the angle of the rotation in degrees."""
    return float(np.degrees(np.arccos(np.clip((np.trace(matrix[:3, :3]) - 1) / 2, -1, 1))))
