"""Which tokens of which sequences the next step computes. Pure: no torch, no clock, no threads, no text.

Why it exists: continuous batching is decided here and nowhere else, so that it can be tested by a thousand random
histories. Rules:

* Every running sequence decodes one token per step; decoding goes first.
* Prompts are computed in chunks of `chunk` tokens, at most `chunk` prompt tokens per step, oldest arrival first, so that
  running streams wait for one chunk at most. Chunks begin at multiples of `chunk`: what is computed together for one
  prompt never depends on the company, so neither do its roundings.
* A sequence holds one slot of the KV cache from its first chunk to its end. Slots are handed out in order of arrival.
* A sequence that ends for any reason (finish, cancel, deadline) gives its slot back at once, also while a step that
  computes it is running: the next plan is made only after that step, and commit ignores what it computed.
"""

import heapq
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass, field

from localmodel.api.channel import FinishReason, Sampling, TokenLogprob
from localmodel.engine.constraint import Constraint

Key = Hashable
GREEDY = Sampling(temperature=0)


@dataclass(eq=False)
class Sequence:
    """One prompt and its answer so far."""

    key: Key
    prompt: tuple[int, ...]
    max_tokens: int
    """Tokens of the answer, >= 1; the prompt and they fit into one slot."""
    stop_tokens: Collection[int] = ()
    """The answer ends with the first of these."""
    deadline: float | None = None
    """On the clock that `expire` is called with."""
    sampling: Sampling = GREEDY
    uniform: Callable[[], float] = lambda: 0.0
    """The sequence's own source of numbers in [0, 1), one per token."""
    constraint: Constraint | None = None
    logprobs: deque[TokenLogprob] = field(default_factory=deque)
    """Of tokens that were chosen and not committed yet, if they were asked for."""
    answer: list[int] = field(default_factory=list)
    computed: int = 0
    """Tokens whose keys and values are in the cache."""
    slot: int | None = None
    finish: FinishReason | None = None

    def tokens(self, start: int, count: int) -> list[int]:
        """Token ids at positions start ... start + count - 1, which never reach from the prompt into the answer."""
        if start < len(self.prompt):
            return list(self.prompt[start : start + count])
        return self.answer[start - len(self.prompt) :][:count]


@dataclass(frozen=True)
class Work:
    """Compute `count` tokens of `sequence` from position `start` in `slot`; `samples`: then choose its next token."""

    sequence: Sequence
    slot: int
    start: int
    count: int
    samples: bool


@dataclass(frozen=True)
class Output:
    """News of one sequence: a token, an end, or both."""

    key: Key
    token: int | None = None
    finish: FinishReason | None = None
    logprob: TokenLogprob | None = None
    """Of the token, if it was asked for."""


class Scheduler:
    """Sequences waiting and running. Not thread-safe: the engine holds its lock around every call."""

    def __init__(self, slots: int, chunk: int) -> None:
        self.chunk = chunk
        self._free_slots = list(range(slots))
        self._waiting: dict[Key, Sequence] = {}
        self._running: dict[Key, Sequence] = {}

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def tokens_cached(self) -> int:
        return sum(sequence.computed for sequence in self._running.values())

    def __contains__(self, key: Key) -> bool:
        return key in self._running or key in self._waiting

    def add(self, sequence: Sequence) -> None:
        """Queues `sequence`. Raises ValueError if its key is known."""
        if sequence.key in self:
            raise ValueError(f"sequence {sequence.key!r} is known")
        self._waiting[sequence.key] = sequence

    def end(self, key: Key, reason: FinishReason) -> Output | None:
        """Ends a sequence wherever it is; None if it is unknown or ended."""
        sequence = self._waiting.pop(key, None) or self._running.pop(key, None)
        if sequence is None:
            return None
        sequence.finish = reason
        if sequence.slot is not None:
            heapq.heappush(self._free_slots, sequence.slot)
            sequence.slot = None
        return Output(key, finish=reason)

    def end_all(self, reason: FinishReason) -> list[Output]:
        return [output for key in [*self._running, *self._waiting] if (output := self.end(key, reason))]

    def expire(self, now: float) -> list[Output]:
        """Ends what has outlived its deadline."""
        late = [s.key for s in self._sequences() if s.deadline is not None and s.deadline <= now]
        return [output for key in late if (output := self.end(key, "deadline"))]

    def plan(self) -> list[Work]:
        """The next step, decoding first; empty when there is nothing to do."""
        while self._waiting and self._free_slots:
            key = next(iter(self._waiting))
            sequence = self._running[key] = self._waiting.pop(key)
            sequence.slot = heapq.heappop(self._free_slots)
        decode: list[Work] = []
        prefill: list[Work] = []
        budget = self.chunk
        for sequence in self._running.values():
            assert sequence.slot is not None
            left = len(sequence.prompt) + len(sequence.answer) - sequence.computed
            if sequence.answer:
                decode.append(Work(sequence, sequence.slot, sequence.computed, left, True))
                continue
            count = min(left, self.chunk - sequence.computed % self.chunk)
            if count <= budget:
                budget -= count
                prefill.append(Work(sequence, sequence.slot, sequence.computed, count, count == left))
            else:
                budget = 0  # nobody later may overtake the oldest prompt
        return decode + prefill

    def commit(self, works: Iterable[Work], tokens: Iterable[int]) -> list[Output]:
        """Takes in a step that was computed: `tokens`, one for each work that samples, in order."""
        chosen = iter(tokens)
        outputs = []
        for work in works:
            token = next(chosen) if work.samples else None
            sequence = work.sequence
            if sequence.finish is not None:
                continue
            sequence.computed += work.count
            if token is None:
                continue
            sequence.answer.append(token)
            reason: FinishReason | None = None
            if token in sequence.stop_tokens:
                reason = "stop"
            elif len(sequence.answer) >= sequence.max_tokens:
                reason = "length"
            if reason:
                self.end(sequence.key, reason)
            logprob = sequence.logprobs.popleft() if sequence.logprobs else None
            outputs.append(Output(sequence.key, token, reason, logprob))
        return outputs

    def _sequences(self) -> list[Sequence]:
        return [*self._running.values(), *self._waiting.values()]
