"""The admin port, for those who are no users: who may not drain."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from localmodel.gateway.admin import AdminSite
from localmodel.gateway.hosts import Hosts
from localmodel.gateway.server import Listener


@pytest.fixture
async def admin() -> AsyncIterator[tuple[list[str], int]]:
    drains: list[str] = []

    async def drain() -> bool:
        drains.append("drain")
        return True

    nothing: Any = None
    site = AdminSite(
        status=nothing, why_backend_dead=nothing, drain=drain, metrics=lambda: b"m", hosts=Hosts("127.0.0.1", keyed=False)
    )
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
    assert await get(port, "/drain", f"host: localhost\r\n{header}") == status
    assert bool(drains) == (status == 200)


async def test_no_name_that_was_led_to_this_machine_can_drain_and_probes_know_no_names(admin: tuple[list[str], int]) -> None:
    """To the browser it is the same site."""
    drains, port = admin
    assert await get(port, "/drain", "host: evil.example\r\nsec-fetch-site: same-origin\r\n") == 421
    assert not drains
    assert [await get(port, path, "host: evil.example\r\n") for path in ("/livez", "/metrics")] == [200, 200]


async def get(port: int, path: str, headers: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return int(answer.split()[1])
