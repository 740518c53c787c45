"""Which addresses and ports may be called: public ones, and those that the operator opened."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network

from app.domain.errors import UrlRefused
from app.outbound.urls import Address, read_host

WEB_PORTS = frozenset({80, 443})
FIRST_FREE_PORT = 1024  # below are mail, files, printers

# Said here and not left to ``ipaddress.is_global``, whose answers changed between patch releases.
_CLOSED_4 = [
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "168.63.129.16/32",  # the platform itself, on Azure
        "169.254.0.0/16",  # link-local; metadata services of clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
_OPEN_6 = IPv6Network("2000::/3")  # all that is global unicast
_CLOSED_6 = [
    IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "3fff::/20")  # protocols (Teredo, ORCHID), documents
]
_NAT64 = IPv6Network("64:ff9b::/96")
_6TO4 = IPv6Network("2002::/16")
_MAPPED = IPv6Network("::ffff:0:0/96")
# A name that the operator trusts may lead to private addresses; to these only if they are opened themselves.
_NEVER_BY_NAME = [
    ip_network(text)
    for text in ("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/128", "fe80::/10", "ff00::/8", "fd00:ec2::/32")
]


def inner(address: Address) -> Address:
    """Return the address that packets reach in the end: the IPv4 one that an IPv6 one may carry.

    >>> from ipaddress import ip_address
    >>> inner(ip_address("::ffff:10.0.0.1")), inner(ip_address("64:ff9b::7f00:1"))
    (IPv4Address('10.0.0.1'), IPv4Address('127.0.0.1'))
    """
    if isinstance(address, IPv4Address):
        return address
    if address in _MAPPED or address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    if address in _6TO4:
        return IPv4Address((int(address) >> 80) & 0xFFFF_FFFF)
    return address


def is_public(address: Address) -> bool:
    """Return whether an address is one of the open internet.

    >>> from ipaddress import ip_address
    >>> [is_public(ip_address(a)) for a in ("93.184.215.14", "2606:2800:21f::1", "100.64.0.1", "fd00::1")]
    [True, True, False, False]
    """
    address = inner(address)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_4)
    return address in _OPEN_6 and not any(address in network for network in _CLOSED_6)


@dataclass(frozen=True, slots=True)
class _Entry:
    network: IPv4Network | IPv6Network | None
    host: str
    port: int | None

    def fits(self, host: str, port: int, address: Address | None) -> bool:
        if self.port is not None and self.port != port:
            return False
        if self.network is not None:
            return address is not None and (address in self.network or inner(address) in self.network)
        return self.host == host and (address is None or not any(inner(address) in net for net in _NEVER_BY_NAME))


class AllowList:
    """What the operator opened beside the open internet.

    >>> from ipaddress import ip_address
    >>> allowed = AllowList(["hooks.lan:8080", "10.1.0.0/16", "127.0.0.1:9000", "[::1]:9000"])
    >>> allowed.permits("hooks.lan", 8080, ip_address("192.168.1.4"))
    True
    >>> allowed.permits("hooks.lan", 22, ip_address("192.168.1.4"))
    False

    Args:
        entries: Each a host, an address or a network (``10.1.0.0/16``), the first two with ``:port`` if only one is
            meant. A host's name opens its private addresses, but never those of the link (169.254.0.0/16, where clouds
            keep credentials): they have to be named themselves.

    Raises:
        ValueError: If an entry is none of these.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._entries = [_read_entry(entry.strip()) for entry in entries if entry.strip()]

    @classmethod
    def of(cls, text: str) -> "AllowList":
        """Read a list with commas, as the settings have it."""
        return cls(text.split(","))

    def knows(self, host: str, port: int) -> bool:
        """Return whether the list may open what a name leads to."""
        return any(
            entry.fits(host, port, None) or (entry.network is not None and entry.port in {None, port})
            for entry in self._entries
        )

    def permits(self, host: str, port: int, address: Address) -> bool:
        """Return whether an address that a host led to may be called at a port."""
        if any(entry.fits(host, port, address) for entry in self._entries):
            return True
        named_in_full = "." in host or ":" in host  # what a short name leads to is a neighbour's business
        return is_public(address) and named_in_full and (port in WEB_PORTS or port >= FIRST_FREE_PORT)


def _read_entry(text: str) -> _Entry:
    try:
        return _Entry(ip_network(text), "", None)
    except ValueError:
        pass
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:/\s]+))(?::([0-9]{1,5}))?", text)
    if found is None or (found[3] is not None and not 0 < int(found[3]) < 65536):
        raise ValueError(f"{text!r} is not a host, an address, host:port, or a network such as 10.1.0.0/16")
    port = None if found[3] is None else int(found[3])
    try:
        host, address = read_host(found[1] or found[2], bracketed=found[1] is not None)
    except UrlRefused:
        raise ValueError(f"{text!r} is not a host or an address") from None
    if address is not None:
        return _Entry(ip_network(str(address)), "", port)
    return _Entry(None, host, port)
