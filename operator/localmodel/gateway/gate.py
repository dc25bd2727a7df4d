"""Waiting for a slot: the asynchronous shell around `slots`, with the queue timeout and clients that leave the queue."""

import asyncio
from time import monotonic

from localmodel.gateway import errors, unfit
from localmodel.gateway.slots import Need, Slots
from localmodel.gateway.timers import Limit


class Slot:
    """A place in the engine and its memory, until it is released; a second release does nothing."""

    __slots__ = ("_gate", "_need")

    def __init__(self, gate: "Gate", need: Need) -> None:
        self._gate: Gate | None = gate
        self._need = need

    def release(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.leave(self._need)


class _Ticket:
    __slots__ = ("admitted", "need")

    def __init__(self, need: Need) -> None:
        self.need = need
        self.admitted: asyncio.Future[None]
        """Only of one that waits."""


class Gate:
    def __init__(self, slots: int, queue: int, queue_bytes: int) -> None:
        self.slots: Slots[_Ticket] = Slots(slots, queue, queue_bytes)

    def resize(self, tokens: int) -> None:
        """The engine's KV capacity; 0: not known."""
        self.slots.token_limit = tokens
        self._wake()

    async def enter(self, limit: Limit, need: Need, *, again: bool = False) -> Slot:
        """Returns when there is room. Raises 400 for what never fits, overloaded, or the limit's timeout."""
        capacity = self.slots.token_limit
        if capacity and need.tokens > capacity:
            raise unfit.over_capacity(need.tokens, capacity)
        ticket = _Ticket(need)
        verdict = self.slots.offer(ticket, need, again=again)
        if verdict == "refuse":
            raise errors.overloaded(self.slots.retry_after(monotonic()))
        if verdict == "wait":
            ticket.admitted = asyncio.get_running_loop().create_future()
            await self._wait(ticket, limit)
        return Slot(self, need)

    def check_together(self, need: Need, count: int) -> None:
        """Raises 400 for more at once than could be taken if nobody else were there."""
        most = self.slots.most_at_once(need)
        if count > most:
            raise unfit.too_many_answers(count, most)

    async def _wait(self, ticket: _Ticket, limit: Limit) -> None:
        try:
            async with asyncio.timeout(limit.at - monotonic()):
                await ticket.admitted
        except (TimeoutError, asyncio.CancelledError) as ended:
            if self.slots.withdraw(ticket):
                self._wake()
            elif not ticket.admitted.cancelled() and ticket.admitted.exception() is None:
                self.leave(ticket.need)
            if isinstance(ended, TimeoutError):
                raise limit.error() from None
            raise

    def dismiss(self, error: errors.ApiError) -> None:
        """Ends every wait with this error."""
        for ticket in self.slots.drop():
            if not ticket.admitted.done():
                ticket.admitted.set_exception(error)

    def leave(self, need: Need) -> None:
        """Gives what was taken to those who wait."""
        self.slots.release(need, monotonic())
        self._wake()

    def _wake(self) -> None:
        """A cancelled ticket belongs to a client that is just leaving the queue."""
        while admitted := self.slots.admit():
            for ticket in admitted:
                if ticket.admitted.cancelled():
                    self.slots.release(ticket.need, monotonic())
                else:
                    ticket.admitted.set_result(None)
