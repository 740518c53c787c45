"""What a URL really points at: read once and strictly, so that what is checked is what is connected to."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, urlsplit

import idna

from app.domain.errors import UrlRefused

LONGEST = 2048
DEFAULT_PORTS = {"http": 80, "https": 443}

_NEVER = re.compile(r"[\x00-\x20\x7f\\]")  # browsers mend these, each in its own way
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_KEPT = "%/:=&?~+!$,;'@()*[]"

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes.

    Args:
        scheme: ``http`` or ``https``.
        host: Name or address in ASCII and lower case, without brackets or a dot at the end.
        port: 1 to 65535.
        path: Path and query as they stand in the request.
        address: The host, if it is an address.
    """

    scheme: str
    host: str
    port: int
    path: str
    address: Address | None = None

    @property
    def authority(self) -> str:
        """Host and port as the ``Host`` header has them."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port: what credentials belong to."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return self.origin + self.path


def read(url: str) -> Target:
    """Return what a URL points at.

    Hosts that only some programs take for an address (``2130706433``, ``0x7f.1``, ``127.1``, ``0177.0.0.1``), logins,
    backslashes and control characters are refused: whatever is unusual here is meant to be read in two ways.

    Raises:
        UrlRefused: If it is not a URL of http or https, or not a plain one.

    >>> read("https://Hooks.Example.com.:443/a?b=c#d")
    Target(scheme='https', host='hooks.example.com', port=443, path='/a?b=c', address=None)
    >>> str(read("http://[::1]:8080"))
    'http://[::1]:8080/'
    """
    if len(url) > LONGEST or _NEVER.search(url):
        raise UrlRefused("form")
    try:
        parts = urlsplit(url)
        scheme, name, port = parts.scheme, parts.hostname or "", parts.port
        path = quote(parts.path or "/", safe=_KEPT) + (f"?{quote(parts.query, safe=_KEPT)}" if parts.query else "")
    except ValueError:  # brackets, ports, halves of characters
        raise UrlRefused("form") from None
    if scheme not in DEFAULT_PORTS:
        raise UrlRefused("scheme")
    if "@" in parts.netloc:
        raise UrlRefused("login")
    if port == 0 or not name:
        raise UrlRefused("form")
    host, address = read_host(name, bracketed="[" in parts.netloc)
    return Target(scheme, host, port or DEFAULT_PORTS[scheme], path, address)


def read_host(name: str, *, bracketed: bool = False) -> tuple[str, Address | None]:
    """Return a host in its one form, and the address if it is one.

    Raises:
        UrlRefused: If it is neither a name nor an address in its usual form.

    >>> read_host("Straße.example")
    ('xn--strae-oqa.example', None)
    >>> read_host("127.0.0.1.")
    ('127.0.0.1', IPv4Address('127.0.0.1'))
    """
    try:
        if bracketed:
            if "%" in name:  # a zone of this machine
                raise UrlRefused("host")
            v6 = IPv6Address(name)
            return str(v6), v6
        host = name.lower()
        if not host.isascii():
            host = idna.encode(host, uts46=True).decode("ascii").lower()
        host = host.removesuffix(".")
        labels = host.split(".")
        if _NUMBER.fullmatch(labels[-1]):
            v4 = IPv4Address(host)
            return str(v4), v4
    except ValueError:  # IDNAError is one too
        raise UrlRefused("host") from None
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise UrlRefused("host")
    return host, None
