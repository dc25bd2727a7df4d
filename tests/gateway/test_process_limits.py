"""What the operating system allows a process by default is less than what the gateway promises."""

import asyncio
import resource

from gateway.conftest import Start
from gateway.wire import connect

LOW = 256


async def test_more_connections_than_the_soft_limit_of_files(start: Start) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LOW, hard))
    try:
        gateway = await start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4 * LOW) if hard < 0 else min(hard, max(soft, 4 * LOW)), hard))
    connections = [await connect(gateway) for _ in range(LOW + 50)]
    status, _ = await asyncio.wait_for(gateway.chat(), 60)
    assert status == 200
    for _, writer in connections:
        writer.close()
