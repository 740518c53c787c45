"""A gateway of its own process, to be killed and started again; nobody answers its doorbell.

Run as ``python serve.py FOLDER PORT MAX_BYTES``.
"""

import logging
import socket
import sys
from pathlib import Path
from uuid import UUID

from app.context import Context, Policy
from app.db.migrate import upgrade
from app.db.session import make_engine
from app.main import create_app
from app.serving import server
from app.storage.local import LocalStore
from app.uploads.tus import TusUploads
from pipeline.registry import CATALOGUE


class Bell:
    """A JobQueue that writes down who rang."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def submit(self, task_id: UUID, step: int = 0, queue: str = "") -> None:
        with self._path.open("a") as stream:
            stream.write(f"{task_id}\n")


def main(folder: Path, port: int, max_bytes: int) -> None:
    logging.basicConfig(level=logging.INFO)
    url = f"sqlite:///{folder / 'volcal.db'}"
    upgrade(url)
    base_url = f"http://127.0.0.1:{port}"
    store = LocalStore(folder / "objects", base_url=base_url, secret=b"secret")
    uploads = TusUploads(folder / "uploads", store, base_url=base_url, max_bytes=max_bytes)
    context = Context(
        engine=make_engine(url),
        store=store,
        queue=Bell(folder / "rung.txt"),
        uploads=uploads,
        catalogue=CATALOGUE,
        policy=Policy(public_url=base_url, max_upload_bytes=max_bytes),
        data_dir=str(folder),
    )
    with socket.create_server(("127.0.0.1", port)) as listening:
        server(create_app(context)).run(sockets=[listening])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
