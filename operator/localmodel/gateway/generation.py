"""One generation from the parsed call to the last byte: queue, submit, first token, then a stream or one body.

The status line waits for the first text, so that until then a failure has its real status. Whatever ends the request,
its sequence is given up or has ended, and the engine hears of it.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic

from aiohttp import web

from localmodel.api.channel import SequenceEvent, Usage
from localmodel.gateway import errors
from localmodel.gateway.answers import send
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.gate import Gate
from localmodel.gateway.openai_answer import unary
from localmodel.gateway.openai_request import Call, fit_window
from localmodel.gateway.prompts import Prompts
from localmodel.gateway.sequences import Sequence, Sequences, first_line
from localmodel.gateway.streaming import StreamAnswer
from localmodel.gateway.timers import Deadlines, Limit

_DEADLINE_MARGIN_SECONDS = 1.0
"""The engine gets this much longer than the client's request, so that our own error comes first."""


@dataclass
class Generator:
    prompts: Prompts
    gate: Gate
    sequences: Sequences
    window: int
    check_serving: Callable[[], None]
    """Raises if a request taken now would not reach the engine."""
    wait_serving: Callable[[Limit], Awaitable[None]]
    """Outlasts a short break of the event stream, then the same."""
    witness: Callable[[bool], None]
    """Told whether the engine answered a real request."""
    on_pace: Callable[[float], None]
    """Told the mean seconds per token of an ended answer."""

    async def answer(self, request: web.BaseRequest, exchange: Exchange, call: Call, deadlines: Deadlines) -> web.StreamResponse:
        prompt = await self.prompts.encode_async(call)
        exchange.record.prompt_tokens = len(prompt)
        sampling = fit_window(call, len(prompt), self.window)
        self.check_serving()
        await self.queue(exchange, deadlines)
        left = deadlines.total.at - monotonic() + _DEADLINE_MARGIN_SECONDS
        sequence = self.sequences.start(prompt, sampling, left, self.gate.leave)
        try:
            return await Answer(self, request, exchange, call, deadlines, sequence).run()
        finally:
            self.sequences.abandon(sequence)

    async def queue(self, exchange: Exchange, deadlines: Deadlines) -> None:
        """Returns with a slot, which the caller must give back, and the way to the engine open."""
        entered = monotonic()
        limit = deadlines.queue(entered)
        try:
            await self.gate.enter(limit)
            try:
                await self.wait_serving(limit)
            except BaseException:
                self.gate.leave()
                raise
        finally:
            exchange.record.queue_seconds = monotonic() - entered
            exchange.waited += exchange.record.queue_seconds


class Answer:
    """What is known of one running generation."""

    def __init__(
        self,
        generator: Generator,
        request: web.BaseRequest,
        exchange: Exchange,
        call: Call,
        deadlines: Deadlines,
        sequence: Sequence,
    ) -> None:
        self._generator = generator
        self._request = request
        self._exchange = exchange
        self._call = call
        self._deadlines = deadlines
        self._sequence = sequence
        prefix = "chatcmpl" if call.endpoint == "chat" else "cmpl"
        self._id = f"{prefix}-{exchange.record.request_id.removeprefix('req_')}"
        self._created = int(time.time())
        self._first_at = 0.0
        self._heard_at = 0.0
        self.finish_reason = ""
        self.usage = Usage(0, 0)

    async def run(self) -> web.StreamResponse:
        text = await self._first_text()
        if self._call.stream:
            stream = StreamAnswer(self._request, self._exchange, self._call, self._id, self._created, self._deadlines)
            return await stream.run(text, self)
        texts = [text]
        while not self.finish_reason:
            texts.append(await self.more())
        body = unary(self._call, self._id, self._created, "".join(texts), self.finish_reason, self.usage)
        response = await send(self._request, self._exchange, 200, body, until=self._deadlines.total.at)
        self._exchange.close("ok")
        return response

    async def _first_text(self) -> str:
        """The first text that is not empty, or empty if the answer ended without one."""
        limit = self._deadlines.first_token(self._sequence.sent_at)
        text = ""
        try:
            while not text and not self.finish_reason:
                events = await self._sequence.mailbox.take(limit.at)
                if not events:
                    raise limit.error()
                text = self._absorb(events)
        except errors.ApiError as error:
            if error.outcome in ("first_token_timeout", "upstream_error", "protocol_error"):
                self._generator.witness(False)
            raise
        finally:
            self._exchange.waited += monotonic() - self._sequence.sent_at
        self._first_at = monotonic()
        self._exchange.record.first_token_seconds = self._first_at - self._sequence.sent_at
        self._generator.witness(True)
        return text

    async def more(self, wake_at: float = float("inf")) -> str:
        """The next text; empty at `wake_at` or for half a character."""
        limit = self._deadlines.idle(self._heard_at)
        events = await self._sequence.mailbox.take(min(limit.at, wake_at))
        if not events and wake_at > limit.at:
            raise limit.error()
        return self._absorb(events)

    def _absorb(self, events: list[SequenceEvent]) -> str:
        record = self._exchange.record
        if events:
            self._heard_at = monotonic()
        for event in events:
            record.completion_tokens += event.tokens
            if event.finish_reason is not None:
                self._finish(event)
        return "".join([event.text for event in events])

    def _finish(self, event: SequenceEvent) -> None:
        record = self._exchange.record
        reason = event.finish_reason or "error"
        if reason == "deadline":
            raise self._deadlines.total.error()
        if reason == "error":
            raise errors.upstream(first_line(str(event.error or "It gave no reason.")))
        if reason == "cancelled":
            raise errors.upstream("It ended this request.")
        self.finish_reason = record.finish_reason = reason
        self.usage = event.usage or Usage(record.prompt_tokens or 0, record.completion_tokens)
        record.completion_tokens = self.usage.completion_tokens
        if self.usage.completion_tokens > 1 and self._first_at:
            self._generator.on_pace((monotonic() - self._first_at) / (self.usage.completion_tokens - 1))
