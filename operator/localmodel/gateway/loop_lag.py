"""How late the event loop runs: the first sign of a gateway that has too much to do."""

import asyncio
from time import monotonic

_EVERY_SECONDS = 0.5


class LoopLag:
    seconds = 0.0

    async def run(self) -> None:
        while True:
            due = monotonic() + _EVERY_SECONDS
            await asyncio.sleep(_EVERY_SECONDS)
            self.seconds = max(0.0, monotonic() - due)
