"""One sequence's life for one request: queue, submit, first text, more text, end. No HTTP, no OpenAI: whoever composes an
answer from one Run or from many (choices, segments of a long document) reads texts here and writes them elsewhere.

    with Run(lane, exchange, deadlines, prompt, sampling) as run:
        text = await run.first()
        while not run.finish_reason: text = await run.more()
* `first()` waits for a slot of its own, submits, and returns the first text that is not empty, or "" if the answer ended
  without one. `more(wake_at)` returns the next text; "" at `wake_at` (monotonic seconds) or for half a character. `say` gets the
  texts that come meanwhile until it returns False, and the last is returned; `rest()` returns all that is left at once: neither
  wakes anybody for a token. All raise ApiError (timeout, overload, backend failure), after the text that came before it.
* `finish_reason` is "" until the end, then "stop" or "length"; the text returned with it is the last. `usage` is this
  sequence's from then on, `logprobs` are those of the text that was just returned, in its order, () if not asked for.
* Leaving the `with` block, however, gives the sequence up; its slot is free when the engine has ended or confirmed it.
  A Run is used once, by one task; many Runs of one request may run at once. The queue's, first token's and idle limits are
  each Run's own, the total is the request's.
* What failed before its first text is sent again where that can help (`resend`), in a slot of its own again, with the
  first token's limit of the first sending.
* The record: `queue_seconds` and `first_token_seconds` are the first Run's to have one, `completion_tokens` is the sum,
  `finish_reason` the last. `prompt_tokens` is the sum of the prompts that the engine took; of choices only the first counts.
"""

from collections.abc import Callable
from itertools import chain
from time import monotonic
from typing import Self

from localmodel.api.channel import Sampling
from localmodel.api.events import SequenceEvent, TokenLogprob, Usage
from localmodel.gateway import errors
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.failures import explain_end
from localmodel.gateway.gate import Slot
from localmodel.gateway.lane import Lane, judge
from localmodel.gateway.mailbox import Read
from localmodel.gateway.sequences import Sequence
from localmodel.gateway.slots import need_of
from localmodel.gateway.timers import Deadlines, Limit

Say = Callable[[str], bool]


class Run:
    __slots__ = (
        "_counts_prompt", "_deadlines", "_exchange", "_failure", "_first_at", "_heard_at", "_lane", "_need", "_patience",
        "_prompt", "_record", "_sampling", "_sequence", "_tokens", "finish_reason", "logprobs", "usage",
    )  # fmt: skip

    def __init__(
        self, lane: Lane, exchange: Exchange, deadlines: Deadlines, prompt: tuple[int, ...], sampling: Sampling,
        *, counts_prompt: bool = True,
    ) -> None:  # fmt: skip
        self._lane = lane
        self._record = exchange.record
        self._exchange = exchange
        self._deadlines = deadlines
        self._prompt = prompt
        self._sampling = sampling
        self._counts_prompt = counts_prompt
        self._need = need_of(len(prompt), sampling.max_tokens or 0, exchange.hold_body())
        self._patience: Limit | None = None
        """Of the first text, from the first sending on."""
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
        try:
            with self._exchange.waiting():
                resender, total = self._lane.resender, self._deadlines.total
                return await resender.run(self._exchange, self._attempt, lambda: (self._patience or total).at)
        finally:
            if self._counts_prompt and self._sequence is not None and (self._sequence.accepted or self._first_at):
                self._record.prompt_tokens = (self._record.prompt_tokens or 0) + len(self._prompt)

    async def _attempt(self, again: bool) -> str:
        lane = self._lane
        limit = self._deadlines.queue(monotonic())
        if again:
            self._forget()
            limit = min(limit, self._patience or limit)
        elif self._record.queue_seconds is None:  # the next part of a document goes on, in a drain too
            lane.check_serving()
        admission = await lane.enter(self._exchange, limit, self._need, again=again)
        ok: bool | None = None
        try:
            text = await self._first_text(self._submit(admission.slot))
            ok = True
        except errors.ApiError as error:
            ok = judge(error)
            raise
        finally:
            lane.report(admission.trial, ok)
        return text

    def _forget(self) -> None:
        """Of a failed try nothing was shown to anybody, and nothing of it counts."""
        self.__exit__()
        self._count(-self._tokens)
        self._failure = None

    def _submit(self, slot: Slot) -> Sequence:
        left, trace = self._deadlines.total.at - monotonic(), self._exchange.trace_headers()
        self._sequence = self._lane.sequences.start(self._prompt, self._sampling, left, slot.release, trace)
        if self._patience is None:
            self._patience = self._deadlines.first_token(self._sequence.sent_at)
        return self._sequence

    async def _first_text(self, sequence: Sequence) -> str:
        assert self._patience is not None
        text = ""
        self.logprobs = ()
        while not text and not self.finish_reason:
            events = await sequence.mailbox.take(self._patience.at)
            if not events:
                raise self._patience.error()
            text = self._absorb(events)
        self._first_at = monotonic()
        if self._record.first_token_seconds is None:
            self._record.first_token_seconds = self._first_at - sequence.sent_at
        return text

    async def more(self, wake_at: float = float("inf"), say: Say | None = None) -> str:
        """`say`: only without log-probabilities."""
        assert self._sequence is not None, "first() comes first"
        if self._failure is not None:
            raise self._failure
        self.logprobs = ()
        mailbox, heard_at = self._sequence.mailbox, self._heard_at
        until = self._deadlines.idle_at(heard_at)
        events = await mailbox.take(min(until, wake_at), read=self._reader(say) if say is not None else None)
        self._heard_at = max(heard_at, mailbox.heard_at)
        if not events and wake_at > until and self._heard_at == heard_at:
            raise self._deadlines.idle(heard_at).error()
        return self._absorb(events)

    def _reader(self, say: Say) -> Read:
        def read(events: list[SequenceEvent]) -> bool:
            text = "".join([event.text for event in events])
            self._count(sum([event.tokens for event in events]))
            return not text or say(text)

        return read

    def _count(self, tokens: int) -> None:
        self._tokens += tokens
        self._record.completion_tokens += tokens

    async def rest(self) -> str:
        """Between two events the idle limit holds as it does for `more`."""
        assert self._sequence is not None, "first() comes first"
        self.logprobs = ()
        text = ""
        while not self.finish_reason and self._failure is None:
            events = await self._sequence.mailbox.take(self._deadlines.idle_at(self._heard_at), whole=True)
            if not events:
                raise self._deadlines.idle(self._heard_at).error()
            text += self._absorb(events)
        if self._failure is not None and not text:
            raise self._failure
        return text

    def _absorb(self, events: list[SequenceEvent]) -> str:
        text = "".join([event.text for event in events])
        self._count(sum([event.tokens for event in events]))
        if events and self._sequence is not None:
            self._heard_at = self._sequence.mailbox.heard_at
            self.logprobs += tuple(chain.from_iterable([event.logprobs for event in events if event.logprobs]))
            if events[-1].finish_reason is not None:
                self._finish(events[-1])
        if self._failure is not None and not text:
            raise self._failure
        return text

    def _finish(self, event: SequenceEvent) -> None:
        if event.finish_reason in ("stop", "length"):
            self._complete(event.finish_reason, event.usage)
        else:
            self._failure = explain_end(event, self._deadlines.total)

    def _complete(self, reason: str, usage: Usage | None) -> None:
        self.finish_reason = self._record.finish_reason = reason
        self.usage = usage or Usage(len(self._prompt), self._tokens)
        self._record.completion_tokens += self.usage.completion_tokens - self._tokens
        if self.usage.completion_tokens > 1 and self._first_at:
            self._lane.on_pace((monotonic() - self._first_at) / (self.usage.completion_tokens - 1))
