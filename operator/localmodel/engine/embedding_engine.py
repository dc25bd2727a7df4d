"""The queue of an embedding model: requests come in on Triton's threads, one thread computes.

Why it exists: texts of several requests share a step, and a request of many texts must not keep one of few waiting, so each
step takes texts from the requests in turn. It has the engine's other verbs too, and refuses what only a text generator can
do, so that the channel, its heartbeats and its watch over hung steps serve both.
"""

import base64
import time
from collections.abc import Callable
from collections.abc import Sequence as Ids
from dataclasses import dataclass, field
from typing import NoReturn

from torch import Tensor

from localmodel.api.channel import Embedded, Refusal
from localmodel.engine.errors import Refused
from localmodel.engine.sequence import Key, Output
from localmodel.engine.stepping import Stepping

MOST_WAITING = 256
NAMELESS = ""
GENERATES_NOTHING = "this model makes embeddings; send text generation to a model whose task is TextGeneration"


@dataclass(eq=False)
class Job:
    key: Key
    """Of whose, and what a cancel names; without a name it can't be cancelled alone."""
    inputs: tuple[tuple[int, ...], ...]
    answer: Callable[[Embedded | Refusal], None]
    taken: int = 0
    vectors: list[Tensor] = field(default_factory=list)


class EmbeddingEngine(Stepping):
    def __init__(self, encode: Callable[[list[Ids[int]]], Tensor], *, context: int, vocabulary: int, step_tokens: int) -> None:
        """`encode` turns texts of token ids into [texts, dimensions] float32; a step takes about `step_tokens`."""
        super().__init__()
        self._encode = encode
        self._context = context
        self._vocabulary = vocabulary
        self._step_tokens = step_tokens
        self._jobs: list[Job] = []

    def embed(self, key: Key, inputs: tuple[tuple[int, ...], ...], answer: Callable[[Embedded | Refusal], None]) -> None:
        """Queues one request; `answer` is called once, on any thread and without waiting. Raises Refused."""
        for number, text in enumerate(inputs):
            if not text:
                raise Refused("invalid_request", f"input {number} is empty; send at least one token")
            if len(text) > self._context:
                message = f"input {number} has {len(text)} tokens; the context window is {self._context} tokens"
                raise Refused("context_length_exceeded", message)
            if min(text) < 0 or max(text) >= self._vocabulary:
                raise Refused("invalid_request", f"input {number}: token ids must be from 0 to {self._vocabulary - 1}")
        with self._changed:
            if self._stopping:
                raise Refused("failed", "the engine is stopping; send the request to another replica")
            if len(self._jobs) >= MOST_WAITING:
                raise Refused("overloaded", f"{len(self._jobs)} requests are waiting; try again later")
            self._jobs.append(Job(key, inputs, answer))
            self._changed.notify()

    def _has_work(self) -> bool:
        return bool(self._stopping or self._jobs)

    def step(self) -> None:
        """Computes some texts and answers the requests that have all of theirs. An exception of the device passes through."""
        with self._changed:
            chosen = self._choose()
            self._step_began = time.monotonic() if chosen else None
        if not chosen:
            return
        vectors = self._encode([text for _, text in chosen])
        with self._changed:
            for (job, _), vector in zip(chosen, vectors, strict=True):
                job.vectors.append(vector)
            done = [job for job in self._jobs if len(job.vectors) == len(job.inputs)]
            self._jobs = [job for job in self._jobs if len(job.vectors) < len(job.inputs)]
            self._step_began = None
            self.steps_total += 1
            self.tokens_total += sum(len(text) for _, text in chosen)
        for job in done:
            job.answer(_pack(job.vectors))

    def _choose(self) -> list[tuple[Job, tuple[int, ...]]]:
        """One text of each request in turn, until the step is full; the first of all is taken whatever its length. Who got
        nothing is first in the next."""
        chosen: list[tuple[Job, tuple[int, ...]]] = []
        left = self._step_tokens
        open_jobs = self._jobs
        while open_jobs and left > 0:
            for job in open_jobs:
                if left > 0:
                    text = job.inputs[job.taken]
                    job.taken += 1
                    left -= len(text)
                    chosen.append((job, text))
            open_jobs = [job for job in open_jobs if job.taken < len(job.inputs)]
        served = {job for job, _ in chosen}
        self._jobs.sort(key=served.__contains__)
        return chosen

    def end_all(self) -> list[Output]:
        """Refuses every request that waits and accepts no more."""
        with self._changed:
            self._stopping = True
            ended, self._jobs = self._jobs, []
            self._changed.notify_all()
        for job in ended:
            job.answer(Refusal(code="failed", message="the engine ended before the embeddings were made; send them again"))
        return []

    def load(self) -> tuple[int, int, int]:
        """(requests of which something is computed, requests that wait, 0: there is no KV cache)."""
        with self._changed:
            running = sum(job.taken > 0 for job in self._jobs)
            return running, len(self._jobs) - running, 0

    def add_request(self, *_: object, **__: object) -> NoReturn:
        raise Refused("invalid_request", GENERATES_NOTHING)

    def cancel(self, key: Key) -> None:
        """Computes no more of this request than the step that runs, and refuses it. An unknown key is none of ours, or ended."""
        if key[1] != NAMELESS:
            self._cancel(lambda job: job.key == key)

    def cancel_all(self, instance: str) -> None:
        """The same, of all requests of a gateway that is gone: Triton does not say so of a request that waits for its answer."""
        self._cancel(lambda job: job.key[0] == instance)

    def _cancel(self, chosen: Callable[[Job], bool]) -> None:
        with self._changed:
            cancelled = [job for job in self._jobs if chosen(job)]
            self._jobs = [job for job in self._jobs if job not in cancelled]
        for job in cancelled:
            job.answer(Refusal(code="failed", message="the request was cancelled"))


def _pack(vectors: list[Tensor]) -> Embedded:
    rows = [vector.numpy().astype("<f4", copy=False).tobytes() for vector in vectors]
    return Embedded(vectors=tuple(base64.b64encode(row).decode() for row in rows), dimensions=len(vectors[0]))
