"""Answers requests whose JSON schema must be compiled first, on a thread of its own.

Why it exists: compiling may take a second, and neither the engine nor other requests may wait for it. A request that is
cancelled meanwhile never begins.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from pydantic import BaseModel

from localmodel.api.channel import Refusal, Sampling
from localmodel.engine.constraint import Constraint
from localmodel.engine.errors import Refused
from localmodel.engine.gateways import Stream
from localmodel.engine.sequence import Key

Make = Callable[[Constraint], BaseModel | None]


class Compiling:
    def __init__(self, compile_schema: Callable[[str], Constraint]) -> None:
        self._compile_schema = compile_schema
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="schemas")
        self._lock = threading.RLock()
        self._keys: Counter[Key] = Counter()
        """How many requests of each wait; a repeated submit is a second one."""

    def answer_later(self, key: Key, sampling: Sampling, stream: Stream, make: Make) -> None:
        """Sends on `stream` what `make` returns for the compiled schema, or the refusal. Raises Refused."""
        if sampling.ignore_eos:
            raise Refused("invalid_request", "ignore_eos can't be combined with response_format: a document has an end")
        with self._lock:
            self._keys[key] += 1
        try:
            answering = self._thread.submit(self._answer, key, sampling.json_schema or "", stream, make)
        except RuntimeError:  # of a pool that was shut down
            raise _stopping() from None
        answering.add_done_callback(lambda done: done.cancelled() and answer_request(stream, _refuse))

    def cancel(self, keys: Iterable[Key]) -> None:
        with self._lock:
            for key in keys:
                self._keys.pop(key, None)

    def close(self) -> None:
        """Takes no more; what has not begun is refused."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _answer(self, key: Key, schema: str, stream: Stream, make: Make) -> None:
        try:
            answer_request(stream, lambda: self._compile(key, schema, make))
        except Exception as error:  # a bad request fails alone
            stream.send(Refusal(code="failed", message=f"internal error: {error}").model_dump_json(), final=True)

    def _compile(self, key: Key, schema: str, make: Make) -> BaseModel | None:
        try:
            constraint = self._compile_schema(schema)
        except BaseException:
            self._forget(key)
            raise
        with self._lock:  # also while it begins, or a cancel that comes now would find it neither here nor in the engine
            if not self._forget(key):
                raise Refused("failed", "the request was cancelled before it began")
            return make(constraint)

    def _forget(self, key: Key) -> bool:
        """Whether it was still wanted."""
        with self._lock:
            wanted = key in self._keys
            self._keys -= Counter([key])
            return wanted


def _stopping() -> Refused:
    return Refused("failed", "the engine is stopping; send the request to another replica")


def _refuse() -> NoReturn:
    raise _stopping()


def answer_request(stream: Stream, make: Callable[[], BaseModel | None]) -> None:
    """Sends what `make` returns, if anything, or why it refuses."""
    try:
        answer = make()
    except Refused as refused:
        answer = refused.refusal
    if answer is not None:
        stream.send(answer.model_dump_json(), final=True)
