"""How the gateway listens: uvicorn, told how this application wants to be served."""

from typing import Any

import uvicorn

from app.streaming import StreamingProtocol

GRACEFUL_S = 5  # for open connections, when the gateway is asked to stop


def server(app: Any, *, trusted_proxies: str = "127.0.0.1") -> uvicorn.Server:
    """Return a server for the application; ``run(sockets=[...])`` serves until SIGTERM or SIGINT.

    Args:
        app: The ASGI application.
        trusted_proxies: Addresses and networks, with commas, whose word on a client's address is taken.
    """
    config = uvicorn.Config(
        app,
        http=StreamingProtocol,
        ws="none",
        log_config=None,
        access_log=False,  # the application logs requests itself, without secrets in queries
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=trusted_proxies,
        timeout_graceful_shutdown=GRACEFUL_S,
    )
    return uvicorn.Server(config)
