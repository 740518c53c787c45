"""A world that is served on loopback by the real server, in a thread of the test's process."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from app.context import Context
from app.main import create_app
from app.serving import server
from app.storage.local import LocalStore
from app.uploads.tus import TusUploads
from tests.app.conftest import World


@contextmanager
def served(
    world: World, *, change: Callable[[Context], Context] = lambda context: context, **policy: Any
) -> Iterator[str]:
    """Serve a world under another policy; yield the base URL, which its links have as well.

    Args:
        world: Whose parts.
        change: Puts other parts in the place of some.
        policy: What else is to be.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        store = LocalStore(world.root / "objects", base_url=url, secret=b"not secret")
        uploads = TusUploads(world.root / "uploads", store, base_url=url, max_bytes=1 << 30)
        context = world.with_policy(public_url=url, **policy).context
        gateway = server(create_app(change(replace(context, store=store, uploads=uploads))))
        thread = threading.Thread(target=gateway.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            while not gateway.started:
                assert thread.is_alive(), "the gateway did not start"
                time.sleep(0.01)
            yield url
        finally:
            gateway.should_exit = True
            thread.join()
