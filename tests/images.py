"""Images of a test's own, and a web server on loopback that has them."""

import io
import struct
import zlib
from collections.abc import Mapping
from socket import socket
from typing import Any

from PIL import Image

from tests.receivers import Receiver, Request, answer


def picture(kind: str = "JPEG", size: tuple[int, int] = (640, 480), colour: str = "olive", **options: Any) -> bytes:
    """Return an image file of one colour."""
    Image.new("RGB", size, colour).save(stream := io.BytesIO(), kind, **options)
    return stream.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    """Return a small file, well formed, that says that it has so many pixels; they are not in it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def image_server(files: Mapping[str, bytes]) -> Receiver:
    """Return a web server that has these files, and 404 for everything else."""

    def react(connection: socket, request: Request) -> None:
        name = request.line.split()[1].lstrip("/")
        reaction = answer(200, files[name]) if name in files else answer(404, b"no such image")
        reaction(connection, request)

    return Receiver(react)
