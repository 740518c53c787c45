"""How fast the built-in upload endpoint is, what it holds in memory, and how quick other routes stay meanwhile.

``python benchmarks/tus.py [--mib 1024] [--chunked]``: a gateway in a process of its own, a client that does nothing
but send, and a prober that asks ``/livez`` all the while. Needs twice the size on the disk of ``--folder``.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx

SERVER = Path(__file__).resolve().parents[1] / "tests" / "e2e" / "serve.py"
BLOCK = 1 << 20


def send(url: str, total: int, *, chunked: bool, piece: int) -> float:
    """Send ``total`` bytes and return the seconds until the server had them on the disk."""
    parts = urlsplit(url)
    block = os.urandom(BLOCK)
    frame = b"".join(b"1000\r\n%b\r\n" % block[i : i + 4096] for i in range(0, BLOCK, 4096)) if chunked else block
    began, offset = time.perf_counter(), 0
    while offset < total:
        length = min(piece, total - offset)
        with socket.create_connection((parts.hostname, parts.port)) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            size = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"
            line.sendall(
                f"PATCH {parts.path} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n"
                f"Upload-Length: {total}\r\nContent-Type: application/offset+octet-stream\r\n{size}\r\n\r\n".encode()
            )
            for _ in range(length // BLOCK):
                line.sendall(frame)
            if chunked:
                line.sendall(b"0\r\n\r\n")
            answer = line.recv(65536).decode()
            assert " 204 " in answer.split("\r\n")[0], answer
        offset += length
    return time.perf_counter() - began


def probe(base: str, stop: threading.Event, times: list[float]) -> None:
    """Ask for something small, again and again."""
    with httpx.Client() as http:
        while not stop.is_set():
            began = time.perf_counter()
            http.get(f"{base}/livez").raise_for_status()
            times.append(time.perf_counter() - began)
            time.sleep(0.02)


def start(folder: str, total: int) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, SERVER, folder, str(port), str(total)], stderr=subprocess.DEVNULL)
    base = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            if httpx.get(f"{base}/livez").is_success:
                return server, base
        except httpx.TransportError:
            time.sleep(0.1)
    server.kill()
    raise SystemExit("the gateway did not start")


def measure(folder: str, mib: int, *, chunked: bool, piece: int) -> dict[str, float | str]:
    total = mib << 20
    server, base = start(folder, total)
    try:
        task = httpx.post(f"{base}/api/v1/tasks", json={"pipeline": "constant"}).json()
        stop, times = threading.Event(), [0.0]
        prober = threading.Thread(target=probe, args=(base, stop, times))
        prober.start()
        seconds = send(task["uploads"]["file"]["url"], total, chunked=chunked, piece=piece)
        stop.set()
        prober.join()
        status = Path(f"/proc/{server.pid}/status").read_text()
        return {
            "mode": "phone: chunked, 10 MiB pieces" if chunked else "one request with Content-Length",
            "mib": mib,
            "seconds": round(seconds, 2),
            "mb_per_s": round(total / 1e6 / seconds, 1),
            "peak_memory_mib": round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1),
            "other_routes_median_ms": round(statistics.median(times) * 1e3, 1),
            "other_routes_p99_ms": round(sorted(times)[int(0.99 * (len(times) - 1))] * 1e3, 1),
        }
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="size of the upload (at most 8192)")
    parser.add_argument("--folder", help="where to store it; a fresh folder below the temporary one by default")
    options = parser.parse_args()
    for chunked, piece in ((False, 1 << 40), (True, 10 << 20)):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            print(json.dumps(measure(folder, min(options.mib, 8192), chunked=chunked, piece=piece)))


if __name__ == "__main__":
    main()
