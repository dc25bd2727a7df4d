"""One batch of texts at the engine: asked for, waited for within a limit, and called off when nobody wants its vectors any more.

It must not guess that the engine has stopped: only the answer to the batch itself says so.
"""

import asyncio
from collections.abc import Mapping
from time import monotonic

from localmodel.api import channel
from localmodel.gateway import errors
from localmodel.gateway.backend_errors import BackendError, BackendGarbage, BackendUnreachable, Refused
from localmodel.gateway.channel import Channel
from localmodel.gateway.failures import submit_error
from localmodel.gateway.timers import Limit

TokenIds = tuple[int, ...]

_FAILURES = (BackendError, BackendGarbage, BackendUnreachable, Refused)
_CANCEL_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0


class EmbeddingBatch:
    def __init__(self, link: Channel, id_: str, inputs: tuple[TokenIds, ...], trace: Mapping[str, str]) -> None:
        """Sends it. `id_`: unique in this process."""
        self._channel = link
        self._id = id_
        self._count = len(inputs)
        self.tokens = sum(map(len, inputs))
        request = channel.Embed(token=link.token, instance=link.instance, id=id_, inputs=inputs)
        self._task = asyncio.create_task(link.embed(request, None, trace))

    @property
    def ended(self) -> bool:
        """The engine has answered, or is gone."""
        return self._task.done()

    async def vectors(self, limit: Limit) -> channel.Embedded:
        """Raises ApiError; at `limit` the engine still works."""
        try:
            async with asyncio.timeout(limit.at - monotonic()):
                embedded = await asyncio.shield(self._task)
        except TimeoutError:
            raise limit.error() from None
        except _FAILURES as error:
            raise submit_error(error) from None
        if len(embedded.vectors) != self._count:
            raise errors.protocol(f"{len(embedded.vectors)} vectors for {self._count} inputs")
        return embedded

    async def call_off(self) -> None:
        """Returns when it has ended. Said again and again: the first cancel may overtake what it cancels."""
        pause = _FIRST_PAUSE_SECONDS
        while not self._task.done():
            try:
                await self._channel.cancel((self._id,), _CANCEL_SECONDS)
            except _FAILURES:
                pass
            await asyncio.wait({self._task}, timeout=pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        if not self._task.cancelled():
            self._task.exception()
