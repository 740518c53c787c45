"""Fine registration by Open3D, an optional second opinion."""

import numpy as np

from pipeline.errors import InputInvalid
from pipeline.volume_change.align.samples import Thinned
from pipeline.volume_change.types import Array

REACH = 3.0  # cells
NORMAL_REACH = 2.5  # cells
TUKEY_WIDTH = 0.1  # m
STEPS = 60


def open3d_fit(pre: Thinned, post: Thinned, matrix: Array) -> Array:
    """Refine a motion by Open3D's robust point-to-plane registration.

    Args:
        pre: The thinned reference.
        post: The thinned later survey.
        matrix: Where to start, later → reference, 4 × 4.

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
    clouds = []
    for points in (post.points, pre.points):
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
        cloud.estimate_normals(o3d.geometry.KDTreeSearchParamRadius(NORMAL_REACH * pre.cell))
        clouds.append(cloud)
    reg = o3d.pipelines.registration
    result = reg.registration_icp(
        *clouds,
        REACH * pre.cell,
        matrix,
        reg.TransformationEstimationPointToPlane(reg.TukeyLoss(k=TUKEY_WIDTH)),
        reg.ICPConvergenceCriteria(max_iteration=STEPS),
    )
    return np.array(result.transformation, dtype=np.float64)
