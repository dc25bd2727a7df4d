"""The way to the engine that all requests share, in the order of its checks: serving at all, circuit closed, room, stream open.

It holds the parts and decides nothing itself.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple

from localmodel.api.gateway import Timeouts
from localmodel.gateway import errors
from localmodel.gateway.breaker import Breaker, Trial
from localmodel.gateway.client_headers import parse_client_headers
from localmodel.gateway.ending import Ending
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.gate import Gate, Slot
from localmodel.gateway.resend import Resender
from localmodel.gateway.sequences import Sequences
from localmodel.gateway.slots import Need
from localmodel.gateway.timers import Deadlines, Limit

log = logging.getLogger("localmodel.gateway.lane")


class Admission(NamedTuple):
    """A request may be sent: where it runs, and to whom its outcome must be reported."""

    slot: Slot
    trial: Trial


@dataclass
class Lane:
    timeouts: Timeouts
    gate: Gate
    sequences: Sequences
    breaker: Breaker
    ending: Ending
    resender: Resender
    check_load: Callable[[], None]
    """Raises if this process is too busy to read one more request."""
    check_serving: Callable[[], None]
    """Raises if a request taken now would not reach the engine."""
    wait_serving: Callable[[Limit], Awaitable[None]]
    """Outlasts a short break of the event stream, then the same."""
    witness: Callable[[bool], None]
    """Told whether the engine answered a real request."""
    on_pace: Callable[[float], None]
    """Told the mean seconds per token of an ended answer."""

    def accept(self, headers: Mapping[str, str], started: float) -> Deadlines:
        """The limits of a new request, the client's own included. Counts it for the retries' budget. Raises 400."""
        client = parse_client_headers(headers)
        self.resender.budget.request(started, again=client.again)
        return Deadlines(self.timeouts, started, client)

    async def enter(self, exchange: Exchange, limit: Limit, need: Need, *, again: bool = False) -> Admission:
        """Waits in the queue until `limit`. The caller must release the slot and report to the trial."""
        entered = monotonic()
        if limit.at <= entered:
            raise limit.error()
        retry_after = self.breaker.retry_after(entered)
        if retry_after is not None:
            raise errors.circuit_open(retry_after)
        try:
            slot = await self.gate.enter(limit, need, again=again)
            try:
                await self.wait_serving(limit)
                return Admission(slot, self._begin())
            except BaseException:
                slot.release()
                raise
        finally:
            if exchange.record.queue_seconds is None:
                exchange.record.queue_seconds = monotonic() - entered

    def report(self, trial: Trial, ok: bool | None) -> None:
        now = monotonic()
        before = self.breaker.state(now)
        trial.report(ok, now)
        after = self.breaker.state(now)
        if after == "open" and before != "open":
            log.warning("the circuit is open: requests failed in a row, nothing is sent for %g s", self.breaker.retry_after(now))
        elif after != before:
            log.info("the circuit is closed again: the backend answers")
        if ok is not None:
            self.witness(ok)

    def _begin(self) -> Trial:
        now = monotonic()
        trial = self.breaker.begin(now)
        if trial is None:
            raise errors.circuit_open(self.breaker.retry_after(now) or 0.0)
        return trial


def judge(error: errors.ApiError) -> bool | None:
    """What an error before the first text says about the backend, for `report`: that it failed, or nothing."""
    return False if error.outcome in ("first_token_timeout", "upstream_error", "protocol_error") else None
