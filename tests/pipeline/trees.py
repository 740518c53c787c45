"""Copies of the package ``pipeline`` to which a test adds something."""

import shutil
from pathlib import Path

import pipeline


def copy_of_pipeline(folder: Path) -> Path:
    """Copy the package into a folder that is to be put before all others; return the copy."""
    source = Path(pipeline.__file__).parent
    return Path(shutil.copytree(source, folder / "pipeline", ignore=shutil.ignore_patterns("__pycache__")))
