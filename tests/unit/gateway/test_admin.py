"""The admin port, for those who are no users: who may not drain."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from localmodel.gateway.admin import AdminSite
from localmodel.gateway.server import Listener


@pytest.fixture
async def admin() -> AsyncIterator[tuple[list[str], int]]:
    drains: list[str] = []

    async def drain() -> bool:
        drains.append("drain")
        return True

    nothing: Any = None
    site = AdminSite(status=nothing, why_backend_dead=nothing, drain=drain, metrics=nothing)
    listener = Listener(site)
    server = await asyncio.get_running_loop().create_server(listener, "127.0.0.1", 0)
    yield drains, server.sockets[0].getsockname()[1]
    server.close()
    await listener.end(1)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("", 200),
        ("sec-fetch-site: none\r\n", 200),
        ("sec-fetch-site: cross-site\r\n", 403),
        ("sec-fetch-site: same-site\r\n", 403),
    ],
)
async def test_no_page_of_another_site_can_drain(admin: tuple[list[str], int], header: str, status: int) -> None:
    """Such as an image with this address, in a browser on the machine where `localmodel run` serves."""
    drains, port = admin
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /drain HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{header}\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 %d " % status) and bool(drains) == (status == 200)
