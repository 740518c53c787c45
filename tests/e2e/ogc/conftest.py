"""The whole service as `volcal up` starts it, allowed to reach what tests serve on loopback."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

import app.samples

PATIENCE_S = 60.0
SAMPLES = Path(app.samples.__file__).parent / "ttp"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def samples_url() -> Iterator[str]:
    """Where a drone platform of our own hands out the bundled surveys."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(SAMPLES))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def ogc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a real service, at /ogc."""
    folder = tmp_path_factory.mktemp("ogc")
    command = [sys.executable, "-P", "-m", "app.cli", "up", "--port", "0", "--data", folder / "data"]
    settings = {"VOLCAL_FETCH_ALLOW": "127.0.0.1", "VOLCAL_REAP_INTERVAL_S": "0.5", "VOLCAL_OGC_WAIT_S": "110"}
    with (folder / "out").open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env={**os.environ, **settings})
    try:
        deadline = time.monotonic() + PATIENCE_S
        while (found := re.search(r"API docs +(\S+)/docs", said := (folder / "out").read_text())) is None:
            assert process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        with httpx.Client(base_url=f"{found[1]}/ogc", timeout=120) as client:
            yield client
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)
