"""What kind of file is this, by its name, and may a browser run it?"""

import mimetypes
from pathlib import PurePosixPath
from urllib.parse import quote

_TYPES = {
    ".geojson": "application/geo+json",
    ".gpkg": "application/geopackage+sqlite3",
    ".json": "application/json",
    ".laz": "application/vnd.laszip",
    ".las": "application/vnd.las",
    ".tif": "image/tiff; application=geotiff",
    ".html": "text/html; charset=utf-8",
}
_ACTIVE = {".html", ".htm", ".xhtml", ".svg", ".xml"}


def media_type(name: str) -> str:
    """Return the media type of a file; ``name`` may be a key.

    >>> media_type("tasks/7/out/1/Hull.PNG")
    'image/png'
    """
    suffix = PurePosixPath(name).suffix.lower()
    return _TYPES.get(suffix) or mimetypes.types_map.get(suffix, "application/octet-stream")


def is_active(name: str) -> bool:
    """Return whether a browser that shows the file may run scripts in it.

    >>> is_active("report.HTML"), is_active("hull.png")
    (True, False)
    """
    return PurePosixPath(name).suffix.lower() in _ACTIVE


def disposition(name: str, *, inline: bool) -> str:
    r"""Return the Content-Disposition that shows a file, or saves it, under a name in any script (RFC 6266).

    >>> disposition("Zürich.png", inline=False)
    'attachment; filename="Z_rich.png"; filename*=UTF-8\'\'Z%C3%BCrich.png'
    """
    kind = "inline" if inline else "attachment"
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    more = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
    return f'{kind}; filename="{plain}"{more}'
