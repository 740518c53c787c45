"""What is the address of a container's name? A name server that podman takes for its own, which falls silent at times.

Debian's aardvark-dns 1.4 loses its listeners now and then when containers come and go. This one reads, for each
question, the same files that podman's network program writes: one for each network, first the addresses to listen on,
then a line for each container: id, IPv4, IPv6, names.
"""

import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_FREEBIND = 15
_LOOK_S = 0.2
_HEADER = struct.Struct(">HHHHHH")
_A, _FOUND, _UNKNOWN = 1, 0x8580, 0x8583


def files(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each network and the lines about it."""
    for path in sorted(folder.glob("*")):
        with suppress(FileNotFoundError):  # went meanwhile
            if path.name != "aardvark.pid" and (lines := path.read_text().splitlines()):
                yield path.name, lines


def entries(folder: Path) -> Iterator[tuple[str, str, set[str], set[str]]]:
    """Yield network, container, addresses and names."""
    for network, (_, *lines) in files(folder):
        for line in lines:
            container, addresses, _, names, *_ = [*line.split(" "), "", "", ""]
            yield network, container, set(addresses.split(",")), set(names.split(","))


def addresses(folder: Path, asker: str, name: str) -> list[str]:
    """Return the addresses of a name in the networks of who asks."""
    known = list(entries(folder))
    who = {container for _, container, theirs, _ in known if asker in theirs}
    networks = {network for network, container, _, _ in known if container in who}
    wanted = name.lower().removesuffix(".dns.podman")
    return sorted(
        {address for net, _, theirs, names in known if net in networks and wanted in names for address in theirs}
    )


def answer(folder: Path, question: bytes, asker: str) -> bytes:
    """Return the answer to a question."""
    number, *_ = _HEADER.unpack_from(question)
    labels, at = [], _HEADER.size
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    (kind,) = struct.unpack_from(">H", question, at + 1)
    found = addresses(folder, asker, ".".join(labels))
    told = found if kind == _A else []
    records = b"".join(struct.pack(">HHHIH4s", 0xC00C, _A, 1, 1, 4, socket.inet_aton(each)) for each in told)
    flags = _FOUND if found else _UNKNOWN
    return _HEADER.pack(number, flags, 1, len(told), 0, 0) + question[_HEADER.size : at + 5] + records


def serve(folder: Path, port: int) -> None:
    """Answer on the addresses of all networks, also of those that come later."""
    listening = selectors.DefaultSelector()
    bound: set[str] = set()
    while True:
        for _, (first, *_) in files(folder):
            for address in {each for each in first.split(" ")[0].split(",") if "." in each} - bound:
                udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                udp.setsockopt(socket.IPPROTO_IP, _FREEBIND, 1)
                with suppress(OSError):  # tried again the next time
                    udp.bind((address, port))
                    listening.register(udp, selectors.EVENT_READ)
                    bound.add(address)
        for key, _ in listening.select(_LOOK_S):
            udp = key.fileobj  # type: ignore[assignment]
            question, asker = udp.recvfrom(4096)
            try:
                udp.sendto(answer(folder, question, asker[0]), asker)
            except (IndexError, OSError, ValueError, struct.error) as error:
                print(f"no answer: {error!r}", file=sys.stderr)


def main() -> None:
    """Take the command line of aardvark-dns, and go into the background as it does."""
    folder = Path(sys.argv[sys.argv.index("--config") + 1])
    port = int(sys.argv[sys.argv.index("-p") + 1])
    if os.fork():
        return
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # files are read anew anyway
    (folder / "aardvark.pid").write_text(str(os.getpid()))
    serve(folder, port)


if __name__ == "__main__":
    main()
