"""The sequences that run: the text that each becomes, and who hears of it.

Why it exists: gateways and direct clients begin and end sequences alike; only where the events go differs. It neither sends
nor locks: the caller holds the channel's lock.
"""

from collections.abc import Callable, Iterable
from collections.abc import Sequence as Ids
from typing import Protocol

from tokenizers import Tokenizer

from localmodel.api.channel import Sampling
from localmodel.api.events import SequenceEvent
from localmodel.engine.answer import Answer
from localmodel.engine.constraint import Constraint
from localmodel.engine.direct import Direct
from localmodel.engine.gateways import Gateway
from localmodel.engine.plain_tokens import PlainTokens
from localmodel.engine.sequence import Key, Output

WORTH_WAITING = 32
"""From so many others on, to make their text and to send it takes longer than a first token's own message costs them."""


class TakesRequests(Protocol):
    """What the channel asks of an engine."""

    def add_request(
        self, key: Key, prompt: Ids[int], sampling: Sampling, deadline_seconds: float | None = None,
        constraint: Constraint | None = None,
    ) -> None: ...  # fmt: skip

    def cancel(self, key: Key) -> Output | None: ...


class Running:
    def __init__(self, engine: TakesRequests, tokenizer: Tokenizer) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._plain = PlainTokens(tokenizer)
        self._answers: dict[Key, tuple[Answer, Gateway | Direct, Callable[[SequenceEvent], None]]] = {}
        self._unheard: set[Key] = set()
        """Those of whom there were no news yet."""

    def begin(
        self, key: Key, listener: Gateway | Direct, id_: str, prompt: Ids[int], sampling: Sampling,
        deadline_seconds: float | None = None, constraint: Constraint | None = None,
    ) -> None:  # fmt: skip
        """Raises Refused; nothing has begun then. What is not needed to compute comes after the engine has it."""
        self._engine.add_request(key, prompt, sampling, deadline_seconds, constraint)
        answer = Answer(id_, self._tokenizer, prompt, sampling.stop, self._plain)
        self._answers[key] = answer, listener, listener.add if isinstance(listener, Direct) else listener.outbox.add
        self._unheard.add(key)
        if isinstance(listener, Gateway):
            listener.running.add(id_)

    def take(self, outputs: Iterable[Output], error: str | None) -> None:
        """Makes the events of `outputs`; `error` explains those that finish with `error`."""
        answers = self._answers
        if self._unheard:
            outputs = list(outputs)
            self._unheard.difference_update(output.key for output in outputs)
        for output in outputs:
            entry = answers.get(output.key)
            if entry is None:
                continue
            answer, _, tell = entry
            event = answer.take(output, error)
            if event is None:
                continue
            tell(event)
            if event.finish_reason:
                self._forget(output.key)
                if output.finish is None:
                    self._engine.cancel(output.key)

    def find_first(self, outputs: Ids[Output]) -> set[Key]:
        """Whose first news are in `outputs`, if those of WORTH_WAITING others are as well."""
        if not self._unheard or len(outputs) <= WORTH_WAITING:
            return set()
        first = {output.key for output in outputs if output.key in self._unheard}
        return first if len(outputs) - len(first) >= WORTH_WAITING else set()

    def end(self, key: Key) -> None:
        """Unheard, if it still runs."""
        self._engine.cancel(key)
        self._forget(key)

    def _forget(self, key: Key) -> None:
        self._unheard.discard(key)
        answer, listener, _ = self._answers.pop(key, (None, None, None))
        if answer is not None and isinstance(listener, Gateway):
            listener.end(answer.id)
