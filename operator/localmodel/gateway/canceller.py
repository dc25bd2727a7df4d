"""Tells the engine which sequences nobody waits for, until it has confirmed every one of them."""

import asyncio

from localmodel.gateway.backend_errors import BackendError, BackendGarbage, BackendUnreachable, Refused
from localmodel.gateway.channel import Channel
from localmodel.gateway.sequences import Sequences

_TIMEOUT_SECONDS = 5.0
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 1.0


async def cancel_abandoned(link: Channel, sequences: Sequences) -> None:
    """Runs as long as the gateway does. All that are due go in one request; what fails is tried again."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        await sequences.cancel_wanted.wait()
        sequences.cancel_wanted.clear()
        ids = sequences.cancellable()
        if not ids:
            continue
        try:
            sequences.confirmed(await link.cancel(ids, _TIMEOUT_SECONDS))
        except (BackendError, BackendGarbage, BackendUnreachable, Refused):
            pass
        if sequences.cancellable():
            sequences.cancel_wanted.set()
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        else:
            pause = _FIRST_PAUSE_SECONDS
