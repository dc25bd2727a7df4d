"""Waiting for a slot: the asynchronous shell around `slots`, with the queue timeout and clients that leave the queue."""

import asyncio
from time import monotonic

from localmodel.gateway import errors
from localmodel.gateway.slots import Slots
from localmodel.gateway.timers import Limit

_Ticket = asyncio.Future[None]


class Gate:
    def __init__(self, slots: int, queue: int) -> None:
        self.slots: Slots[_Ticket] = Slots(slots, queue)

    async def enter(self, limit: Limit) -> None:
        """Returns when the caller has a slot, to be given back by `leave`. Raises overloaded or the limit's timeout."""
        ticket: _Ticket = asyncio.get_running_loop().create_future()
        verdict = self.slots.offer(ticket)
        if verdict == "run":
            return
        if verdict == "refuse":
            raise errors.overloaded(self.slots.retry_after(monotonic()))
        try:
            async with asyncio.timeout(limit.at - monotonic()):
                await ticket
        except (TimeoutError, asyncio.CancelledError) as ended:
            if not self.slots.withdraw(ticket) and not ticket.cancelled():
                self.leave()
            if isinstance(ended, TimeoutError):
                raise limit.error() from None
            raise

    def leave(self) -> None:
        """Gives the slot to the next who waits; a cancelled ticket belongs to a client that is just leaving the queue."""
        ticket = self.slots.release(monotonic())
        while ticket is not None and ticket.cancelled():
            ticket = self.slots.release(monotonic())
        if ticket is not None:
            ticket.set_result(None)
