"""One sequence's life for one request: queue, submit, first text, more text, end. No HTTP, no OpenAI: whoever composes an
answer from one Run or from many (choices, segments of a long document) reads texts here and writes them elsewhere.

    with Run(lane, exchange, deadlines, prompt, sampling) as run:
        text = await run.first()
        while not run.finish_reason:
            text = await run.more()

* `first()` waits for a slot of its own, submits, and returns the first text that is not empty, or "" if the answer ended
  without one. `more(wake_at)` returns the next text; "" at `wake_at` (monotonic seconds) or for half a character. Both raise
  ApiError (timeout, overload, backend failure), and text that came with a failure is returned before it is raised.
* `finish_reason` is "" until the end, then "stop" or "length"; the text returned with it is the last. `usage` is this
  sequence's from then on.
* `logprobs` are those of the text that was just returned, in its order, () if not asked for.
* Leaving the `with` block, however, gives the sequence up; its slot is free when the engine has ended or confirmed it.
  A Run is used once, by one task; many Runs of one request may run at once. The queue's, first token's and idle limits are
  each Run's own, the total is the request's.
* The record: `queue_seconds` and `first_token_seconds` are the first Run's to have one, `completion_tokens` is the sum,
  `finish_reason` the last. `prompt_tokens` is the composer's to set.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Self

from localmodel.api.channel import Sampling, SequenceEvent, TokenLogprob, Usage
from localmodel.gateway import errors
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.gate import Gate
from localmodel.gateway.sequences import Sequence, Sequences, first_line
from localmodel.gateway.timers import Deadlines, Limit


@dataclass
class Lane:
    """The way to the engine that all requests share."""

    gate: Gate
    sequences: Sequences
    check_serving: Callable[[], None]
    """Raises if a request taken now would not reach the engine."""
    wait_serving: Callable[[Limit], Awaitable[None]]
    """Outlasts a short break of the event stream, then the same."""
    witness: Callable[[bool], None]
    """Told whether the engine answered a real request."""
    on_pace: Callable[[float], None]
    """Told the mean seconds per token of an ended answer."""

    async def enter(self, exchange: Exchange, deadlines: Deadlines) -> None:
        """Returns with a slot, which the caller must give back, and the way to the engine open."""
        entered = monotonic()
        limit = deadlines.queue(entered)
        if limit.at <= entered:
            raise limit.error()
        try:
            await self.gate.enter(limit)
            try:
                await self.wait_serving(limit)
            except BaseException:
                self.gate.leave()
                raise
        finally:
            if exchange.record.queue_seconds is None:
                exchange.record.queue_seconds = monotonic() - entered


class Run:
    def __init__(self, lane: Lane, exchange: Exchange, deadlines: Deadlines, prompt: tuple[int, ...], sampling: Sampling) -> None:
        self._lane = lane
        self._record = exchange.record
        self._exchange = exchange
        self._deadlines = deadlines
        self._prompt = prompt
        self._sampling = sampling
        self._sequence: Sequence | None = None
        self._first_at = 0.0
        self._heard_at = 0.0
        self._tokens = 0
        self._failure: errors.ApiError | None = None
        self.finish_reason = ""
        self.usage = Usage(len(prompt), 0)
        self.logprobs: tuple[TokenLogprob, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._sequence is not None:
            self._lane.sequences.abandon(self._sequence)

    async def first(self) -> str:
        with self._exchange.waiting():
            self._lane.check_serving()
            await self._lane.enter(self._exchange, self._deadlines)
            left = self._deadlines.total.at - monotonic()
            trace = self._exchange.trace.headers() if self._exchange.trace is not None else {}
            sequence = self._lane.sequences.start(self._prompt, self._sampling, left, self._lane.gate.leave, trace)
            self._sequence = sequence
            return await self._first_text(sequence)

    async def _first_text(self, sequence: Sequence) -> str:
        limit = self._deadlines.first_token(sequence.sent_at)
        text = ""
        self.logprobs = ()
        try:
            while not text and not self.finish_reason:
                text = self._absorb(await self._take(sequence, limit))
        except errors.ApiError as error:
            if error.outcome in ("first_token_timeout", "upstream_error", "protocol_error"):
                self._lane.witness(False)
            raise
        self._first_at = monotonic()
        if self._record.first_token_seconds is None:
            self._record.first_token_seconds = self._first_at - sequence.sent_at
        self._lane.witness(True)
        return text

    async def more(self, wake_at: float = float("inf")) -> str:
        assert self._sequence is not None, "first() comes first"
        self.logprobs = ()
        return self._absorb(await self._take(self._sequence, self._deadlines.idle(self._heard_at), wake_at))

    async def _take(self, sequence: Sequence, limit: Limit, wake_at: float = float("inf")) -> list[SequenceEvent]:
        """Empty only at `wake_at`."""
        if self._failure is not None:
            raise self._failure
        events = await sequence.mailbox.take(min(limit.at, wake_at))
        if not events and wake_at > limit.at:
            raise limit.error()
        return events

    def _absorb(self, events: list[SequenceEvent]) -> str:
        if events:
            self._heard_at = monotonic()
        text = "".join([event.text for event in events])
        for event in events:
            self._tokens += event.tokens
            self._record.completion_tokens += event.tokens
            if event.logprobs:
                self.logprobs += event.logprobs
            if event.finish_reason is not None:
                self._finish(event)
        if self._failure is not None and not text:
            raise self._failure
        return text

    def _finish(self, event: SequenceEvent) -> None:
        match event.finish_reason:
            case "deadline":
                self._failure = self._deadlines.total.error()
            case "cancelled":
                self._failure = errors.upstream("It ended this request.")
            case "stop" | "length":
                self._complete(event.finish_reason, event.usage)
            case _:
                self._failure = errors.upstream(first_line(str(event.error or "It gave no reason.")))

    def _complete(self, reason: str, usage: Usage | None) -> None:
        self.finish_reason = self._record.finish_reason = reason
        self.usage = usage or Usage(len(self._prompt), self._tokens)
        self._record.completion_tokens += self.usage.completion_tokens - self._tokens
        if self.usage.completion_tokens > 1 and self._first_at:
            self._lane.on_pace((monotonic() - self._first_at) / (self.usage.completion_tokens - 1))
