"""What the protocol does with a connection; what it does with bodies is in tests/e2e."""

import asyncio
import socket

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.streaming import StreamingProtocol


async def _nothing(scope: object, receive: object, send: object) -> None:
    """An application that nobody asks."""


@pytest.mark.parametrize("protocol", [0, socket.IPPROTO_TCP])
def test_an_answer_never_waits_for_an_acknowledgement(protocol: int) -> None:
    async def accepted() -> int:
        config, state = uvicorn.Config(_nothing, ws="none", log_config=None), ServerState()
        config.load()
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
        listening.bind(("127.0.0.1", 0))
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: StreamingProtocol(config, state, {}), sock=listening)
        _, writer = await asyncio.open_connection(*listening.getsockname())
        async with asyncio.timeout(10):
            while not state.connections:
                await asyncio.sleep(0)
        (connection,) = state.connections
        line = connection.transport.get_extra_info("socket")
        said: int = line.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
        await writer.wait_closed()
        connection.transport.close()
        server.close()
        await server.wait_closed()
        return said

    assert asyncio.run(accepted()) == 1
