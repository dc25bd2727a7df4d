"""One request and its answer, from the parsed head to the one record that says how it ended.

It times, counts bytes and closes exactly once. It decides nothing about the request.
"""

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

from localmodel.api.gateway import Outcome
from localmodel.gateway.api_error import ApiError
from localmodel.gateway.auth import Caller
from localmodel.gateway.kept_answer import Describe, Kept, KeptAnswer, KeptDocument, KeptPieces
from localmodel.gateway.random_ids import random_id
from localmodel.gateway.record import Record
from localmodel.gateway.trace_context import TraceContext

log = logging.getLogger("localmodel.gateway.exchange")

_OF_THE_BACKEND = ("upstream_error", "protocol_error")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

OnClose = Callable[["Exchange"], None]


class Exchange:
    def __init__(self, record: Record, on_close: OnClose, trace: TraceContext | None = None) -> None:
        self.record = record
        self.trace = trace
        if trace is not None:
            record.trace_id, record.span_id, record.parent_span_id = trace.trace_id, trace.span_id, trace.parent_span_id
        self.started = monotonic()
        self.closed = False
        self.request_body: bytes | None = None
        self.keep_bodies = False
        """Mode Full: what comes and what is sent is kept for the record."""
        self.answer: Kept | None = None
        self.caller = Caller()
        """Who asks, once it is known."""
        self.headers: dict[str, str] = {}
        """More headers of the answer."""
        self.more_usage: dict[str, int] = {}
        """Members of ours in the answer's usage."""
        self.waited = 0.0
        """Seconds spent before the head on the client's body, in the queue or on the engine: not our own time."""
        self._body_held = False
        self._waiters = 0
        self._waiting_since = 0.0
        record.time = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._on_close = on_close

    def waiting(self) -> "_Waiting":
        """Its `with` block counts as waited; spans of several tasks that overlap count once."""
        return _Waiting(self)

    def begin_waiting(self) -> None:
        if self._waiters == 0:
            self._waiting_since = monotonic()
        self._waiters += 1

    def end_waiting(self) -> None:
        self._waiters -= 1
        if self._waiters == 0:
            self.waited += monotonic() - self._waiting_since

    def reserve(self, tokens: int) -> None:
        """Takes the request from what its caller may use: at most so many tokens, prompt and answers. Raises 429."""
        self.headers |= self.caller.reserve(tokens)

    def trace_headers(self) -> dict[str, str]:
        """For the request to Triton."""
        return self.trace.headers() if self.trace is not None else {}

    def hold_body(self) -> int:
        """Bytes of the request's body, the first time: however many runs it needs, it is held once."""
        size = 0 if self._body_held else self.record.bytes_in
        self._body_held = True
        return size

    def tell_truncated(self, tokens: int) -> None:
        """So many tokens of the prompt were left out."""
        self.record.truncated_tokens = self.more_usage["truncated_tokens"] = tokens
        self.headers["x-localmodel-truncated-tokens"] = str(tokens)

    def tell_segments(self, segments: int) -> None:
        """The document is read in so many parts."""
        self.record.segments = self.more_usage["segments"] = segments
        self.headers["x-localmodel-segments"] = str(segments)

    def head_sent(self, status: int) -> None:
        now = monotonic()
        waited = self.waited + (now - self._waiting_since if self._waiters else 0.0)
        self.record.status = status
        self.record.overhead_seconds = max(0.0, now - self.started - waited)

    def sent(self, data: bytes) -> None:
        self.record.bytes_out += len(data)
        if self.keep_bodies:
            if not isinstance(self.answer, KeptAnswer):
                self.answer = KeptAnswer()
            self.answer.add(data)

    def keep_pieces(self, describe: Describe) -> KeptPieces | None:
        """For a stream whose pieces say all that its bytes do; None if nothing is kept."""
        if not self.keep_bodies:
            return None
        self.keep_bodies = False
        self.answer = kept = KeptPieces(describe)
        return kept

    def keep_document(self, data: bytes) -> None:
        """For an answer of ours, JSON of an object, that is sent at once."""
        if self.keep_bodies:
            self.keep_bodies = False
            self.answer = KeptDocument(data)

    def fail(self, error: ApiError) -> None:
        """Closes, and says in the gateway's own log what the backend did wrong: the record has a code only."""
        if error.outcome in _OF_THE_BACKEND and not self.closed:
            log.warning("request %s failed: %s", self.record.request_id, error.message)
        self.close(error.outcome, error.code)

    def close(self, outcome: Outcome, code: str | None = None) -> None:
        if self.closed:
            return
        self.closed = True
        self.record.outcome = outcome
        self.record.code = code
        self.record.total_seconds = monotonic() - self.started
        self.caller.settle(self.record)
        self._on_close(self)


class _Waiting:
    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __enter__(self) -> None:
        self._exchange.begin_waiting()

    def __exit__(self, *_: object) -> None:
        self._exchange.end_waiting()


def pick_request_id(offered: str | None) -> str:
    """The client's own id if it is a plain one, else a new one."""
    if offered is not None and _REQUEST_ID.fullmatch(offered):
        return offered
    return f"req_{random_id(24)}"
