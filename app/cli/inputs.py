"""The files of a task on this machine: which there are, and whether they can be used."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import InputInvalid
from pipeline.registry import CATALOGUE


def gather(pre: Path, post: Path, stable: Path) -> dict[str, Path]:
    """Return the files to send, by label.

    Raises:
        InputInvalid: If one is not there.
    """
    if stable.suffix.lower() == ".shx":
        stable = stable.with_suffix(".shp" if stable.suffix == ".shx" else ".SHP")
    files = {"pre": pre, "post": post, "shp": stable}
    for label, path in files.items():
        if not path.is_file():
            raise InputInvalid(
                f"{label}: {path} {'is a folder' if path.is_dir() else 'does not exist'}.",
                label=label,
                remedy="Check the name.",
            )
    for label in ("shx", "dbf", "prj"):
        for suffix in (f".{label}", f".{label.upper()}"):
            if (beside := stable.with_suffix(suffix)).is_file():
                files[label] = beside
    if "shx" not in files:
        missing = stable.with_suffix(".shx").name
        raise InputInvalid(
            f"{stable.name} lies without its index {missing}.",
            label="shx",
            remedy=f"Copy {missing} beside it; a shapefile is several files of one name.",
        )
    return files


def check(files: Mapping[str, Path]) -> None:
    """Look at the files as the server will, before an hour of upload.

    Raises:
        PipelineError: If one cannot be used.
    """
    inspect = CATALOGUE.inspector("volume_change")
    for label, path in files.items():
        with path.open("rb") as stream:
            inspect(label, stream, path.stat().st_size, path.name)
    for first, second, look in CATALOGUE.pairs("volume_change"):
        if first in files and second in files:
            with files[first].open("rb") as stream, files[second].open("rb") as against:
                look(stream, files[first].stat().st_size, against, files[second].stat().st_size)
