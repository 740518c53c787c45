"""Fine registration by Open3D, an optional second opinion."""

import numpy as np

from pipeline.errors import InputInvalid
from pipeline.volume_change.types import Array

MOST_REFERENCE = 1_000_000  # points
MOST_LATER = 100_000
REACH = 6.0  # spacings
NORMAL_REACH = 4.0  # spacings: some fifty points
TUKEY_WIDTH = 0.1  # m
STEPS = 60


def open3d_fit(pre: Array, post: Array, matrix: Array, spacing: float) -> Array:
    """Refine a motion by Open3D's robust point-to-plane registration.

    Planes are fitted to the reference's own points: those of cell means cut the corners of benches by centimetres.

    Args:
        pre: Ground of the reference, metres, shape (n, 3).
        post: Ground of the later survey, metres, shape (m, 3).
        matrix: Where to start, later → reference, 4 × 4.
        spacing: The larger mean spacing of both, metres.

    Raises:
        InputInvalid: If Open3D is not installed.

    Source:
        Open3D (Zhou et al. 2018, arXiv:1801.09847), Tukey loss.
    """
    try:
        import open3d as o3d
    except ImportError:
        raise InputInvalid(
            "registration=open3d was asked for, but Open3D is not installed",
            remedy="Install it with pip install 'volcal-server[open3d]', or use registration=auto.",
        ) from None
    later, reference = (
        o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points[:: max(1, len(points) // most)]))
        for points, most in ((post, MOST_LATER), (pre, MOST_REFERENCE))
    )
    reference.estimate_normals(o3d.geometry.KDTreeSearchParamRadius(NORMAL_REACH * spacing))
    reg = o3d.pipelines.registration
    result = reg.registration_icp(
        later,
        reference,
        REACH * spacing,
        matrix,
        reg.TransformationEstimationPointToPlane(reg.TukeyLoss(k=TUKEY_WIDTH)),
        reg.ICPConvergenceCriteria(max_iteration=STEPS),
    )
    return np.array(result.transformation, dtype=np.float64)
