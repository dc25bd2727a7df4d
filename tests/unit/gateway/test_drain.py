"""Two who drain at once, a Triton that comes back meanwhile, and what the log says of it."""

import asyncio
import logging

import pytest

from localmodel.gateway.drain import Drain


async def test_a_wait_ends_when_the_backend_returns(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    drain = Drain(0.0, 60.0, busy=lambda: True, dead=lambda: False)
    waiting = asyncio.create_task(drain.run())
    await asyncio.sleep(0)
    drain.backend_returned()
    assert await asyncio.wait_for(waiting, 5) is False
    assert not drain.draining
    assert caplog.messages == [
        "draining: new requests are refused in 0 s; those that run have 60 s more",
        "the drain has ended: the backend is a new one",
    ]
