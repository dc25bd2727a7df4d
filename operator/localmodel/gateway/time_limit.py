"""Waiting no longer than a request's limit allows. What was waited for may go on where it can't be stopped, as on a thread."""

import asyncio
from collections.abc import Awaitable
from time import monotonic
from typing import TypeVar

from localmodel.gateway.timers import Limit

R = TypeVar("R")


async def within(limit: Limit | None, work: Awaitable[R]) -> R:
    """Raises the limit's error when it is reached."""
    try:
        async with asyncio.timeout(limit.at - monotonic() if limit is not None else None):
            return await work
    except TimeoutError:
        assert limit is not None
        raise limit.error() from None
