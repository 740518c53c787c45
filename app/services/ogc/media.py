"""Which media types a file that a process asks for may have, and what a file of such a type is called."""

from collections.abc import Iterable

ANY = "application/octet-stream"
_TYPES = {
    ".las": "application/vnd.las",
    ".laz": "application/vnd.laszip",
    ".copc.laz": "application/vnd.laszip+copc",
    ".ply": "model/ply",
    ".xyz": "text/plain",
    ".txt": "text/plain",
    ".asc": "text/plain",
    ".csv": "text/csv",
    ".shp": "application/vnd.shp",
    ".shx": "application/vnd.shx",
    ".dbf": "application/vnd.dbf",
    ".prj": "text/plain",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".json": "application/json",
    ".geojson": "application/geo+json",
    ".zip": "application/zip",
}


def types_of(endings: Iterable[str]) -> dict[str, str]:
    """Return the media types of files with such endings, each with the first of its endings.

    >>> types_of([".xyz", ".txt", ".laz"])
    {'text/plain': '.xyz', 'application/vnd.laszip': '.laz'}
    >>> types_of([""])
    {'application/octet-stream': ''}
    """
    found: dict[str, str] = {}
    for ending in endings:
        found.setdefault(_TYPES.get(ending, ANY), ending)
    return found


def plain(media_type: str) -> str:
    """Return a media type without its parameters.

    >>> plain("image/tiff; application=geotiff")
    'image/tiff'
    """
    return media_type.partition(";")[0].strip().lower()


def is_json(media_type: str) -> bool:
    """Return whether such a file is JSON.

    >>> is_json("application/geo+json"), is_json("text/html")
    (True, False)
    """
    kind = plain(media_type)
    return kind == "application/json" or kind.endswith("+json")


def is_text(media_type: str) -> bool:
    """Return whether such a file is text."""
    return plain(media_type).startswith("text/")
