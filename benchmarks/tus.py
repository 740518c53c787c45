"""How fast the built-in upload endpoint is, what it holds in memory, and how quick other routes stay meanwhile.

``python benchmarks/tus.py [--mib 1024] [--repeat 5] [--before CHECKOUT]``: a gateway in a process of its own, clients
that do nothing but send, and a prober that asks for small things all the while. Beside it, in turns, a sink that only
receives and writes, which is what this machine can do, and the gateway of another checkout. Each file's SHA-256 is
compared. Prints the medians as a table. Needs the size on the disk of ``--folder``.
"""

import argparse
import hashlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

HERE = Path(__file__).resolve().parents[1]
BLOCK = 1 << 20
PIECE = 10 << 20
CHUNK = 4096
LARGEST = 8192
SINK = """
import os, socket, sys
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
line, _ = listening.accept()
file, offset, total = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), 0, int(sys.argv[2])
buffer = memoryview(bytearray(1 << 20))
while offset < total:
    size = line.recv_into(buffer)
    offset += os.pwrite(file, buffer[:size], offset)
os.fsync(file)
line.sendall(b"done")
"""


@dataclass
class Found:
    """What one run gave."""

    mb_per_s: float
    cpu_s: float = 0.0
    peak_mib: float = 0.0
    times: dict[str, list[float]] = field(default_factory=dict)


class Blocks:
    """A file of distinct blocks of 1 MiB, whole or as chunks of 4 KiB, without holding it."""

    def __init__(self, *, chunked: bool) -> None:
        block = os.urandom(BLOCK)
        frame = b"".join(b"%x\r\n%b\r\n" % (CHUNK, block[i : i + CHUNK]) for i in range(0, BLOCK, CHUNK))
        self.plain = bytearray(block)
        self._sent = bytearray(frame) if chunked else self.plain
        self._at = frame.index(b"\r\n") + 2 if chunked else 0

    def wire(self, number: int) -> bytearray:
        """Return a block as it is sent."""
        self._sent[self._at : self._at + 8] = number.to_bytes(8, "big")
        return self._sent

    def sha256(self, total: int) -> str:
        sum_ = hashlib.sha256()
        for number in range(total // BLOCK):
            self.plain[:8] = number.to_bytes(8, "big")
            sum_.update(self.plain)
        return sum_.hexdigest()


def connect(port: int) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port))
    line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    return line


def send(url: str, total: int, blocks: Blocks, *, chunked: bool) -> None:
    """Send a file: in one request with its length, or as the phone does, chunked and 10 MiB at a time."""
    parts, offset = urlsplit(url), 0
    while offset < total:
        length = min(PIECE, total - offset) if chunked else total
        size = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"
        known = f"Upload-Length: {total}\r\n" if offset == 0 else ""
        with connect(parts.port or 0) as line:
            line.sendall(
                f"PATCH {parts.path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n{known}"
                f"Content-Type: application/offset+octet-stream\r\n{size}\r\n\r\n".encode()
            )
            for number in range(offset // BLOCK, (offset + length) // BLOCK):
                line.sendall(blocks.wire(number))
            if chunked:
                line.sendall(b"0\r\n\r\n")
            answer = line.recv(65536).decode()
            assert " 204 " in answer.split("\r\n")[0], answer
        offset += length


def sink(folder: str, total: int) -> Found:
    """Measure what a server can do that only receives, writes and flushes."""
    blocks, target = Blocks(chunked=False), Path(folder) / "sink"
    server = subprocess.Popen([sys.executable, "-c", SINK, target, str(total)], stdout=subprocess.PIPE)
    assert server.stdout is not None
    with connect(int(server.stdout.readline())) as line:
        began = time.perf_counter()
        for number in range(total // BLOCK):
            line.sendall(blocks.wire(number))
        assert line.recv(4) == b"done"
        seconds = time.perf_counter() - began
    server.wait()
    server.stdout.close()
    assert digest(target) == blocks.sha256(total)
    return Found(total / 1e6 / seconds)


class Gateway:
    """A gateway of a checkout, for as long as a ``with`` block lasts."""

    def __init__(self, checkout: Path, folder: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.folder = Path(folder)
        self._process = subprocess.Popen(
            [sys.executable, checkout / "tests" / "e2e" / "serve.py", folder, str(port), str(LARGEST << 20)],
            env={**os.environ, "PYTHONPATH": str(checkout)},
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> "Gateway":
        for _ in range(600):
            try:
                if httpx.get(f"{self.url}/livez").is_success:
                    return self
            except httpx.TransportError:
                time.sleep(0.1)
        self.__exit__()
        raise SystemExit("the gateway did not start")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def slot(self) -> tuple[str, str]:
        """Return a new task, and where its file goes."""
        task = httpx.post(f"{self.url}/api/v1/tasks", json={"pipeline": "constant"}, timeout=60).json()
        return task["id"], task["uploads"]["file"]["url"]

    def stored(self, task_id: str) -> Path:
        return next((self.folder / "objects" / "tasks" / task_id / "in").glob("file-*"))

    def peak_mib(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def cpu_s(self) -> float:
        words = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def probe(routes: dict[str, str], ready: threading.Event, stop: threading.Event, times: dict[str, list[float]]) -> None:
    """Ask for small things, again and again."""
    with httpx.Client() as http:
        for url in routes.values():  # the first request of a kind imports and connects
            http.get(url).raise_for_status()
        ready.set()
        while not stop.is_set():
            for name, url in routes.items():
                began = time.perf_counter()
                http.get(url).raise_for_status()
                times[name].append(time.perf_counter() - began)
                time.sleep(0.01)


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def measure(checkout: Path, folder: str, total: int, *, chunked: bool, uploads: int) -> Found:
    """Send ``total`` bytes to a checkout's gateway, in ``uploads`` files at a time."""
    each = total // uploads // BLOCK * BLOCK
    with Gateway(checkout, folder) as gateway:
        slots = [gateway.slot() for _ in range(uploads)]
        blocks = [Blocks(chunked=chunked) for _ in slots]
        routes = {"livez": f"{gateway.url}/livez", "query": f"{gateway.url}/api/v1/tasks/{slots[0][0]}"}
        ready, stop, times = threading.Event(), threading.Event(), {name: [0.0] for name in routes}
        prober = threading.Thread(target=probe, args=(routes, ready, stop, times))
        senders = [
            threading.Thread(target=send, args=(url, each, of), kwargs={"chunked": chunked})
            for (_, url), of in zip(slots, blocks, strict=True)
        ]
        prober.start()
        ready.wait()
        cpu, began = gateway.cpu_s(), time.perf_counter()
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        seconds = time.perf_counter() - began
        stop.set()
        prober.join()
        for (task_id, _), of in zip(slots, blocks, strict=True):
            assert digest(gateway.stored(task_id)) == of.sha256(each), "the file is not what was sent"
        return Found(each * uploads / 1e6 / seconds, gateway.cpu_s() - cpu, gateway.peak_mib(), times)


def row(name: str, found: list[Found]) -> str:
    def median(of: str) -> float:
        return statistics.median(getattr(each, of) for each in found)

    speeds = sorted(each.mb_per_s for each in found)
    cells = [name, f"{median('mb_per_s'):.0f}", f"{speeds[0]:.0f} to {speeds[-1]:.0f}"]
    if found[0].times:
        cells += [f"{median('cpu_s'):.1f}", f"{median('peak_mib'):.0f}"]
        for route in ("livez", "query"):
            times = sorted(time for each in found for time in each.times[route])
            cells.append(f"{times[int(0.99 * (len(times) - 1))] * 1e3:.0f}")
    return "| " + " | ".join([*cells, *["–"] * (7 - len(cells))]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help=f"size of all uploads together (at most {LARGEST})")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each kind; the table has the medians")
    parser.add_argument("--before", type=Path, help="root of another checkout to measure beside this one")
    parser.add_argument("--folder", help="where to store it; a fresh folder below the temporary one by default")
    options = parser.parse_args()
    total = min(options.mib, LARGEST) << 20
    checkouts = {"before: ": options.before.resolve()} if options.before else {}
    found: dict[str, list[Found]] = {}
    for _ in range(options.repeat):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            found.setdefault("a sink that only receives, writes, flushes", []).append(sink(folder, total))
        for chunked, kind in ((False, "one request with Content-Length"), (True, "phone: chunked, 10 MiB pieces")):
            for uploads in (1, 4):
                for when, checkout in {**checkouts, "": HERE}.items():
                    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                        each = measure(checkout, folder, total, chunked=chunked, uploads=uploads)
                    found.setdefault(f"{when}{kind}{', 4 at a time' if uploads > 1 else ''}", []).append(each)
    print("| request | MB/s | from, to | gateway's CPU s | its peak MiB | /livez, p99 ms | task query, p99 ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, runs in found.items():
        print(row(name, runs))


if __name__ == "__main__":
    main()
