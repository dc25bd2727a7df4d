"""The engine's two verbs, `add_request` and `step`, made safe for several threads.

Why it exists: requests arrive and leave on Triton's threads while one thread computes. The lock is held to plan and to
take in a step, never while the device computes, so that a cancel takes effect at once. It makes no text and sends
nothing: `step` returns what happened.

A device that computes by itself gets its next step before the last one is waited for, so that it never idles while the
host plans, and what a step chose is sent while the next one runs.
"""

import random
import time
from collections.abc import Callable
from collections.abc import Sequence as Ids
from typing import NamedTuple

from localmodel.api.channel import Sampling
from localmodel.engine.constraint import Constraint
from localmodel.engine.errors import Refused
from localmodel.engine.scheduler import Scheduler
from localmodel.engine.sequence import Key, Output, Sequence, Work
from localmodel.engine.stepping import Stepping

WAITING_PER_SLOT = 4
LEAST_WAITING = 64


class Launched(NamedTuple):
    """A step that the device computes."""

    wait: Callable[[], list[int]]
    """Returns, when it is done, the tokens that each work chooses, in order."""
    may_be_followed: bool
    """The next step may be launched before this one is waited for."""


def at_once(run: Callable[[list[Work]], list[int]]) -> Callable[[list[Work]], Launched]:
    """The launch of a device that returns only when the step is done."""

    def launch(works: list[Work]) -> Launched:
        tokens = run(works)
        return Launched(lambda: tokens, may_be_followed=False)

    return launch


class Engine(Stepping):
    def __init__(
        self, launch: Callable[[list[Work]], Launched], scheduler: Scheduler, *, slots: int, context: int,
        vocabulary: int, stop_tokens: frozenset[int],
    ) -> None:  # fmt: skip
        super().__init__()
        self._launch = launch
        self._scheduler = scheduler
        self._context = context
        self._vocabulary = vocabulary
        self._stop_tokens = stop_tokens
        self._max_waiting = max(LEAST_WAITING, WAITING_PER_SLOT * slots)
        self._launched: tuple[list[Work], Launched, float] | None = None
        """And when it was begun."""
        self._taken_in = 0.0
        """When a step was last."""
        self.should_pause = False
        """The last step's news hold an answer's first token, and the device has its next step already."""

    def add_request(
        self, key: Key, prompt: Ids[int], sampling: Sampling, deadline_seconds: float | None = None,
        constraint: Constraint | None = None,
    ) -> None:  # fmt: skip
        """Queues one prompt of token ids. Raises Refused."""
        sequence = self._sequence(key, tuple(prompt), sampling, deadline_seconds)
        sequence.constraint = constraint
        with self._changed:
            if self._stopping:
                raise Refused("failed", "the engine is stopping; send the request to another replica")
            if self._scheduler.waiting >= self._max_waiting:
                raise Refused("overloaded", f"{self._scheduler.waiting} sequences are waiting; try again later")
            self._scheduler.add(sequence)
            self._changed.notify()

    def cancel(self, key: Key) -> Output | None:
        """Ends a sequence at once; its blocks are free for the next step. None if it is unknown or ended."""
        with self._changed:
            return self._scheduler.end(key, "cancelled")

    def _has_work(self) -> bool:
        return bool(self._stopping or self._launched or self._scheduler.running or self._scheduler.waiting)

    def step(self) -> list[Output]:
        """Launches a step, and returns the news of the one before and, if it can't be followed, of this one.

        An exception of the device passes through.
        """
        began = time.monotonic()
        with self._changed:
            outputs = self._scheduler.expire(began)
            works = self._scheduler.plan()
            if works and not self._launched:
                self._step_began = time.monotonic()
        before, self._launched = self._launched, None
        if works:
            self._launched = (works, self._launch(works), began)
        if before:
            outputs += self._take_in(*before)
        if self._launched and not self._may_follow(self._launched[1]):
            now, self._launched = self._launched, None
            outputs += self._take_in(*now)
        self.should_pause = before is not None and self._launched is not None and _begins_answer(before[0])
        return outputs

    def _may_follow(self, launched: Launched) -> bool:
        """Not where the next step should guess: a guess needs to know the last token."""
        if not launched.may_be_followed:
            return False
        with self._changed:
            return not self._scheduler.would_draft()

    def _take_in(self, works: list[Work], launched: Launched, began: float) -> list[Output]:
        """A step takes from its beginning or, if it was launched while another ran, from the end of that one."""
        tokens = launched.wait()
        seconds = -max(began, self._taken_in)
        self._taken_in = time.monotonic()
        seconds += self._taken_in
        with self._changed:
            outputs = self._scheduler.commit(works, tokens, seconds)
            self._step_began = time.monotonic() if self._launched else None
            self.steps_total += 1
            self.tokens_total += sum(output.token is not None for output in outputs)
        return outputs

    def end_all(self) -> list[Output]:
        """Ends every sequence with `error` and accepts no more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            return self._scheduler.end_all("error")

    def drafts(self) -> tuple[int, int]:
        """(guessed tokens that were verified, those of them that were right), since the start."""
        speculation = self._scheduler.speculation
        return (speculation.drafted_tokens_total, speculation.accepted_tokens_total) if speculation else (0, 0)

    def cache_events(self) -> tuple[int, int]:
        """(prompt tokens found in the cache, sequences that gave up their blocks and were computed anew), since the start."""
        return self._scheduler.prefix_tokens_total, self._scheduler.preemptions_total

    def load(self) -> tuple[int, int, int]:
        """(running, waiting, tokens that the held blocks of the KV cache have room for)."""
        with self._changed:
            return self._scheduler.running, self._scheduler.waiting, self._scheduler.tokens_cached

    def _sequence(self, key: Key, prompt: tuple[int, ...], sampling: Sampling, deadline: float | None) -> Sequence:
        length, left = len(prompt), self._context - len(prompt)
        if length == 0:
            raise Refused("invalid_request", "the prompt is empty; send at least one token")
        if left < 1 or (sampling.max_tokens or 1) > left:
            raise Refused(
                "context_length_exceeded",
                f"the prompt has {length} tokens and the answer may have {sampling.max_tokens or 1}; "
                f"together they must fit into the context window of {self._context} tokens",
            )
        if min(prompt) < 0 or max(prompt) >= self._vocabulary:
            raise Refused("invalid_request", f"token ids must be from 0 to {self._vocabulary - 1}")
        if any(not 0 <= token < self._vocabulary for token in sampling.logit_bias):
            raise Refused("invalid_request", f"the token ids of logit_bias must be from 0 to {self._vocabulary - 1}")
        if "" in sampling.stop:
            raise Refused("invalid_request", "a stop string must not be empty")
        return Sequence(
            key=key,
            prompt=prompt,
            max_tokens=sampling.max_tokens or left,
            stop_tokens=frozenset() if sampling.ignore_eos else self._stop_tokens,
            deadline=None if deadline is None else time.monotonic() + deadline,
            sampling=sampling,
            uniform=random.random if sampling.seed is None else _numbers(sampling.seed),
        )


def _numbers(seed: int) -> Callable[[], float]:
    """Python takes a negative seed for the positive one, and a choice with seed -1 stands beside one with 1."""
    return random.Random(seed if seed >= 0 else f"{seed}").random


def _begins_answer(works: list[Work]) -> bool:
    """Those that decode come first."""
    return not works[-1].decodes and any(work.samples and not work.decodes for work in works)
