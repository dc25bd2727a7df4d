"""Requests that no cancel can be sent for: whose slots are free when, and who hears that the engine died."""

import asyncio
from typing import Any

import pytest

from localmodel.gateway import errors
from localmodel.gateway.upstream import Route, Upstreams


class Session:
    """Triton after its engine has died: it leaves its requests open for ever."""

    async def post(self, *_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()


class Slot:
    released = 0

    def release(self) -> None:
        self.released += 1


def route(*, repeatable: bool = False) -> Route:
    return Route("http://x", {}, b"", stream=False, repeatable=repeatable)


@pytest.mark.parametrize("repeatable", [False, True])
async def test_who_waits_hears_that_the_engine_is_a_new_one(repeatable: bool) -> None:
    upstreams, slot = Upstreams(Session()), Slot()  # type: ignore[arg-type]

    async def ask() -> None:
        async with upstreams.open(route(repeatable=repeatable), slot) as upstream:  # type: ignore[arg-type]
            await upstream.read()

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0)
    upstreams.forget()
    with pytest.raises(errors.ApiError, match="ended") as failed:
        await asyncio.wait_for(asking, 5)
    assert (failed.value.code, failed.value.resend) == ("upstream_error", repeatable)
    assert slot.released == 1


async def test_a_slot_is_free_when_the_engine_is_a_new_one_and_not_when_the_client_leaves() -> None:
    upstreams, slot = Upstreams(Session()), Slot()  # type: ignore[arg-type]

    async def ask() -> None:
        async with upstreams.open(route(), slot) as upstream:  # type: ignore[arg-type]
            await upstream.read()

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait({asking})
    assert asking.cancelled() and slot.released == 0
    upstreams.forget()
    for _ in range(10):
        await asyncio.sleep(0)
    assert slot.released == 1
