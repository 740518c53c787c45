"""The files of a task: which there are on this machine or behind a URL, and whether those here can be used."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import InputInvalid
from pipeline.registry import CATALOGUE

_SCHEMES = ("https", "http", "s3")
_LABELS = ("pre", "post", "shp", "shx", "dbf", "prj")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the files of a task are, by label.

    Args:
        files: Those on this machine.
        urls: Those that the server is to fetch.
    """

    files: dict[str, Path] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)

    @property
    def hosts(self) -> list[str]:
        """Where the server is to fetch from; the rest of a URL may be a secret."""
        return sorted({urlsplit(url).netloc for url in self.urls.values()})


def is_url(text: str) -> bool:
    """Return whether this names a file elsewhere.

    >>> is_url("https://example.org/a.laz"), is_url("s3://surveys/a.laz"), is_url("a.laz")
    (True, True, False)
    """
    scheme, mark, _ = text.partition("://")
    return bool(mark) and scheme.lower() in _SCHEMES


def find(pre: str, post: str, stable: str, more: Iterable[str] = ()) -> Sources:
    """Return where the files are that a command line names, each a path or a URL.

    Args:
        pre: The first survey.
        post: The second.
        stable: The shapefile; what belongs to one on this machine is found beside it, and the index of one elsewhere is
            supposed to be there.
        more: Further ones, or others, as LABEL=PATH or LABEL=URL.

    Raises:
        InputInvalid: If one on this machine is not there, or a word has another form.
    """
    named = dict(_read(word) for word in more)
    if is_url(stable) and "shx" not in named:
        named["shx"] = _beside(stable)
    given = {"pre": pre, "post": post, "shp": stable} | named
    urls = {label: given[label] for label in _LABELS if label in given and is_url(given[label])}
    paths = {label: Path(text) for label, text in given.items() if label not in urls}
    if "shp" in paths:
        shape = _shape(paths.pop("shp"), given)
        paths = {label: path for label, path in shape.items() if label not in urls} | paths
    _check_there(paths)
    return Sources({label: paths[label] for label in _LABELS if label in paths}, urls)


def _read(word: str) -> tuple[str, str]:
    label, equals, place = word.partition("=")
    if not equals or not place or label not in _LABELS:
        raise InputInvalid(
            f"--input {label} is not LABEL=FILE or LABEL=URL.", remedy=f"Labels are {', '.join(_LABELS)}."
        )
    return label, place


def _beside(url: str) -> str:
    """Return where the index of a shapefile is that is behind a URL.

    >>> _beside("https://example.org/area.shp?v=2")
    'https://example.org/area.shx?v=2'
    """
    parts = urlsplit(url)
    if not parts.path.lower().endswith(".shp"):
        raise InputInvalid(
            "shp: the URL does not end with .shp, so nobody can tell where its index is.",
            label="shx",
            remedy="Name it by --input shx=URL.",
        )
    return parts._replace(path=parts.path[:-1] + ("X" if parts.path.endswith("P") else "x")).geturl()


def gather(pre: Path, post: Path, stable: Path) -> dict[str, Path]:
    """Return the files to send, by label.

    Raises:
        InputInvalid: If one is not there.
    """
    return find(str(pre), str(post), str(stable)).files


def _check_there(files: Mapping[str, Path]) -> None:
    for label, path in files.items():
        if not path.is_file():
            raise InputInvalid(
                f"{label}: {path} {'is a folder' if path.is_dir() else 'does not exist'}.",
                label=label,
                remedy="Check the name.",
            )


def _shape(stable: Path, known: Mapping[str, object]) -> dict[str, Path]:
    """Return the parts of a shapefile on this machine; of those that are known by another name, none."""
    if stable.suffix.lower() == ".shx":
        stable = stable.with_suffix(".shp" if stable.suffix == ".shx" else ".SHP")
    files = {"shp": stable}
    _check_there(files)
    for label in ("shx", "dbf", "prj"):
        for suffix in (f".{label}", f".{label.upper()}"):
            if (beside := stable.with_suffix(suffix)).is_file():
                files[label] = beside
    if "shx" not in files and "shx" not in known:
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
