"""What may a run read? Files below the catalogue's folder, and the web through the gate; nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlsplit

import rasterio
from pystac import Link, StacIO
from pystac_client.stac_api_io import StacApiIO

from pipeline.errors import CatalogueUnusable
from pipeline.site import Site

_TIMEOUT_S = 30.0
_EARTHDATA = "urs.earthdata.nasa.gov"


class OutOfReach(ValueError):
    """A catalogue names a file that this run may not read."""


class Reach(StacApiIO):
    """Reads what a catalogue names, if it may.

    Args:
        catalogue: Where it is: a URL, or the path of a file that the operator chose.
        site: What the deployment gives to runs.

    Raises:
        CatalogueUnusable: If it is in the web, and there is no gate to it.
    """

    def __init__(self, catalogue: str, site: Site) -> None:
        super().__init__(timeout=_TIMEOUT_S, max_retries=3)
        self._site = site
        self.is_api = False  # until its first document says otherwise
        is_web = _is_web(catalogue)
        self._root = None if is_web else _path(catalogue).resolve().parent
        if is_web and not site.gate:
            raise CatalogueUnusable(
                "The catalogue is in the web, and this run has no way there.",
                remedy="Run it as a task of a worker, or choose a catalogue in a folder.",
            )
        self.session.trust_env = False  # no other proxy, and no other login
        self.session.proxies = {"http": site.gate, "https": site.gate} if site.gate else {}

    def read_text(self, source: Any, *more: Any, **how: Any) -> str:
        """Return a document of the catalogue.

        Raises:
            OutOfReach: If it is not one that may be read.
        """
        href = source.absolute_href if isinstance(source, Link) else str(source)
        if self._web(href):
            text: str = super().read_text(source, *more, **how)
            return text
        return self._file(href).read_text()

    def stac_object_from_dict(self, *arguments: Any, **options: Any) -> Any:
        """Return what a document describes: for an API's its client, for a static catalogue's what pystac makes."""
        kind = StacApiIO if self.is_api else StacIO
        return kind.stac_object_from_dict(self, *arguments, **options)

    def write_text_to_href(self, href: str, *_: Any, **__: Any) -> None:
        """Refuse: catalogues are read only."""
        raise OutOfReach(f"{href} is not to be written")

    def raster(self, href: str) -> str:
        """Return the name under which GDAL finds a file.

        Raises:
            OutOfReach: If it is not one that may be read.
        """
        return f"/vsicurl/{href}" if self._web(href) else str(self._file(href))

    def _web(self, href: str) -> bool:
        if not _is_web(href):
            return False
        if not self._site.gate:
            raise OutOfReach("it is in the web, and this run has no way there")
        if any(sign in href for sign in ("|", "\\", " ")):  # none of which GDAL's file systems may see
            raise OutOfReach("it is no plain URL")
        return True

    def _file(self, href: str) -> Path:
        if self._root is None:
            raise OutOfReach("a catalogue in the web may name files in the web alone")
        path = _path(href).resolve()
        if not path.is_relative_to(self._root):
            raise OutOfReach("it lies outside the catalogue's folder")
        return path

    @contextmanager
    def files(self, *, earthdata: bool) -> Iterator[None]:
        """Set GDAL up for reading: bounded, through the gate, without looking around; use in a ``with`` block.

        Args:
            earthdata: Whether to log in at NASA Earthdata when its login page asks for it.
        """
        options: dict[str, Any] = {
            "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
            "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif,.tiff,.TIF,.TIFF",
            "CPL_VSIL_CURL_USE_HEAD": "NO",
            "GDAL_HTTP_CONNECTTIMEOUT": "10",
            "GDAL_HTTP_TIMEOUT": "60",
            "GDAL_HTTP_LOW_SPEED_TIME": "20",
            "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
            "GDAL_HTTP_MAX_RETRY": "3",
            "GDAL_HTTP_RETRY_DELAY": "1",
            "GDAL_CACHEMAX": 64 * 2**20,
            "VSI_CACHE": "TRUE",
            "GDAL_HTTP_NETRC": "NO",
        }
        if self._site.gate:
            gate = urlsplit(self._site.gate)
            options |= {
                "GDAL_HTTP_PROXY": f"{gate.hostname}:{gate.port}",
                "GDAL_HTTP_PROXYUSERPWD": f"{gate.username}:{gate.password}",
                "GDAL_PROXY_AUTH": "BASIC",
            }
        with TemporaryDirectory(prefix="login-") as folder:
            if earthdata and self._site.earthdata is not None:
                user, password = self._site.earthdata
                netrc, cookies = Path(folder, "netrc"), Path(folder, "cookies")
                netrc.touch(mode=0o600)
                netrc.write_text(f"machine {_EARTHDATA} login {user} password {password}\n")  # curl tells no other host
                options |= {
                    "GDAL_HTTP_NETRC": "YES",
                    "GDAL_HTTP_NETRC_FILE": str(netrc),
                    "GDAL_HTTP_COOKIEFILE": str(cookies),
                    "GDAL_HTTP_COOKIEJAR": str(cookies),
                }
            with rasterio.Env(**options):
                yield


def _is_web(href: str) -> bool:
    return href.lower().startswith(("http://", "https://"))


def _path(href: str) -> Path:
    if href.startswith("file://"):
        return Path(unquote(urlsplit(href).path))
    if "://" in href or href.startswith("/vsi"):
        raise OutOfReach(f"only http, https and files are read, not {href[:20]!r}")
    return Path(href)
