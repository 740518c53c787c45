"""Where do the independent tools come from, and what must be known to run them beside ours?"""

import importlib
import logging
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from pipeline.geometry.cells import CellList, normals
from tests.servers.base import absent, program

Array = NDArray[np.float64]


def library(name: str) -> ModuleType:
    """Import a Python package that `make crosschecks` installs."""
    # Numba looks for a threading layer once, and would find the old TBB that Open3D brings: let it look before.
    normals(CellList.build(np.eye(3), 1.0), np.eye(3), 1.0)
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError):  # OSError: a library of the system that the wheel needs is missing
        absent(f"{name} (make crosschecks)")
    log = logging.getLogger(name)  # py4dgeo writes py4dgeo.log into the current folder
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()
    return module


@dataclass(frozen=True)
class Volumes:
    """What CloudCompare reports, m³ and m²."""

    net: float
    fill: float
    cut: float
    area: float


def cloudcompare_volume(before: Array, after: Array, cell: float, folder: Path) -> Volumes:
    """Let CloudCompare compute its 2.5-D volume: plain means of the points in each cell that both clouds saw.

    Its first cell is centred on the least x and y of both clouds.
    """
    binary = program("CloudCompare")
    for name, points in (("before", before), ("after", after)):
        np.savetxt(folder / f"{name}.xyz", points, fmt="%.7f")
    subprocess.run(
        [binary, "-SILENT", "-NO_TIMESTAMP", "-AUTO_SAVE", "OFF", "-O", "before.xyz", "-O", "after.xyz",
         "-VOLUME", "-GRID_STEP", repr(cell), "-GROUND_IS_FIRST"],
        cwd=folder,
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "LC_ALL": "C"},
        check=True,
        capture_output=True,
        timeout=120,
    )  # fmt: skip
    report = (folder / "VolumeCalculationReport.txt").read_text().replace(",", "")
    value = {label: float(number) for label, number in re.findall(r"^([\w ]+): (?:\([+-]\))?(-?[\d.]+)", report, re.M)}
    return Volumes(value["Volume"], value["Added volume"], value["Removed volume"], value["Surface"])
