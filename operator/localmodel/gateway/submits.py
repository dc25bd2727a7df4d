"""Sends new sequences to the engine: those that come while a call is under way go together in the next one.

A call costs the gateway and Triton many times what a sequence in it costs. Alone, a sequence is sent at once. A call that takes
long holds nobody up: after a moment the next goes out beside it. Each sequence hears how its own submit ended.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from localmodel.api.channel import NewSequence, Submitted
from localmodel.gateway.backend_errors import BackendError, BackendGarbage, BackendUnreachable, Refused
from localmodel.gateway.channel import Channel

log = logging.getLogger("localmodel.gateway.submits")

_TIMEOUT_SECONDS = 30.0
_PATIENCE_SECONDS = 0.002
"""How long those that came later wait for a call that is under way: what a busy gateway adds to a first token, at most."""
_MOST_SEQUENCES = 64
_MOST_TOKENS = 65_536
"""Of one call's prompts; a single prompt may be longer."""
_SAMPLED = 1

OnAnswer = Callable[[Exception | None], None]


class _Waiting(NamedTuple):
    sequence: NewSequence
    trace: Mapping[str, str]
    on_answer: OnAnswer


class Submits:
    def __init__(self, link: Channel, epoch: Callable[[], int], patience_seconds: float = _PATIENCE_SECONDS) -> None:
        """`epoch()`: of the open event stream."""
        self._patience_seconds = patience_seconds
        self._channel = link
        self._epoch = epoch
        self._waiting: list[_Waiting] = []
        self._call: object | None = None
        """What those that wait are waiting for."""
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, sequence: NewSequence, trace: Mapping[str, str], on_answer: OnAnswer) -> None:
        """`on_answer`: called once, with None if it was accepted, else why not: one of `backend_errors`, or a bug of ours."""
        waiting = _Waiting(sequence, trace, on_answer)
        if sequence.sampling.json_schema is not None or _is_sampled(trace):
            self._start([waiting])
            return
        self._waiting.append(waiting)
        if self._call is None:
            self._call = asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        taken, tokens = 0, 0
        for each in self._waiting[:_MOST_SEQUENCES]:
            tokens += len(each.sequence.prompt)
            if taken and tokens > _MOST_TOKENS:
                break
            taken += 1
        together, self._waiting = self._waiting[:taken], self._waiting[taken:]
        task = self._call = self._start(together)
        patience = asyncio.get_running_loop().call_later(self._patience_seconds, self._go_on, task)
        task.add_done_callback(lambda _: patience.cancel())
        task.add_done_callback(self._go_on)

    def _go_on(self, call: object) -> None:
        if self._call is not call:
            return
        self._call = None
        if self._waiting:
            self._send()

    def _start(self, together: list[_Waiting]) -> "asyncio.Task[None]":
        task = asyncio.create_task(self._ask(together))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _ask(self, together: list[_Waiting]) -> None:
        answer: Submitted | Exception
        try:
            sequences = [each.sequence for each in together]
            answer = await self._channel.submit(self._epoch(), sequences, _TIMEOUT_SECONDS, together[0].trace)
        except Refused as refused:
            if len(together) > 1 and refused.refusal.code in ("invalid_request", "failed"):
                for each in together:  # one of them is to blame; a submit may be said twice
                    self._start([each])
                return
            answer = refused
        except (BackendError, BackendGarbage, BackendUnreachable) as error:
            answer = error
        except Exception as error:
            log.exception("a submit failed")
            answer = error
        for each in together:
            each.on_answer(answer if isinstance(answer, Exception) else _answer_of(each.sequence.id, answer))


def _answer_of(sequence_id: str, answer: Submitted) -> Exception | None:
    refusal = answer.refused.get(sequence_id)
    if refusal is not None:
        return Refused(refusal)
    return None if sequence_id in answer.accepted else BackendGarbage("a submit that was neither accepted nor refused")


def _is_sampled(trace: Mapping[str, str]) -> bool:
    """The client records this trace, so the call in it is to be its own and no other's."""
    parent = trace.get("traceparent")
    return parent is not None and bool(int(parent[-2:], 16) & _SAMPLED)
