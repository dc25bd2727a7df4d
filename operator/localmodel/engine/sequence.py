"""One prompt and its answer, and what is said about them: the words that scheduler, runner and sampler share. Pure.

Why it exists: who plans, who computes and who chooses must not import each other for the sake of a noun.
"""

from collections import deque
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from localmodel.api.channel import Sampling
from localmodel.api.events import FinishReason, TokenLogprob
from localmodel.engine.blocks import ROOT, digest_block
from localmodel.engine.constraint import Constraint
from localmodel.engine.drafting import MOST_DRAFTED, Drafter

Key = Hashable
GREEDY = Sampling(temperature=0)


@dataclass(eq=False, slots=True)
class Sequence:
    """One prompt and its answer so far."""

    key: Key
    prompt: tuple[int, ...]
    max_tokens: int
    """Tokens of the answer, >= 1; the prompt and they fit into the context window."""
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
    failure: str | None = None
    """Why its next token can't be chosen: it is to end with this instead of a token."""
    answer: list[int] = field(default_factory=list)
    pending: int = 0
    """Tokens of the answer that planned steps choose: 0, 1, or 2 for a moment while one step runs and the next is planned."""
    computed: int = 0
    """Tokens whose keys and values are in the cache, or will be when the running step is done."""
    blocks: list[int] = field(default_factory=list)
    """Block i holds positions i * size ... of the sequence."""
    remembered: int = 0
    """Blocks from the first that the prefix cache knows."""
    slot: int | None = None
    """Its row in tables by sequence, while it runs."""
    life: int = 0
    """Grows when the sequence loses its blocks, so that a step planned before touches nothing after."""
    finish: FinishReason | None = None
    drafter: Drafter | None = None
    """What guesses its next tokens, once somebody asked."""
    _digests: list[bytes] = field(default_factory=list)
    _drawn: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_DRAFTED + 1))
    _drawn_again: deque[float] = field(default_factory=deque)

    @property
    def length(self) -> int:
        """Tokens of the prompt and of the answer, pending ones too."""
        return len(self.prompt) + len(self.answer) + self.pending

    def tokens(self, start: int, count: int) -> list[int]:
        """Token ids at positions start ... start + count - 1; pending ones are left out."""
        prompt = len(self.prompt)
        if start >= prompt:
            return self.answer[start - prompt : start - prompt + count]
        return [*self.prompt[start : start + count], *self.answer[: max(0, start + count - prompt)]]

    def draw(self) -> float:
        """The number in [0, 1) of its next token."""
        number = self._drawn_again.popleft() if self._drawn_again else self.uniform()
        self._drawn.append(number)
        return number

    def undraw(self, count: int) -> None:
        """The last `count` numbers were of tokens that are not kept: they come again. At most MOST_DRAFTED."""
        for _ in range(count):
            self._drawn_again.appendleft(self._drawn.pop())

    def plan(self, count: int, draft: Collection[int] = ()) -> "Work":
        """The work of its next `count` tokens, and of a draft behind the last; from now on they count as computed."""
        assert self.slot is not None
        start = self.computed
        samples = start + count == self.length
        if draft:
            count += len(draft)
        self.computed = start + count
        if samples:
            self.pending += 1
        return new_tuple(Work, (self, self.slot, start, count, samples, self.life, self.blocks, tuple(draft)))

    def digest(self, number: int, size: int) -> bytes:
        """What names the block `number` of `size` known tokens and all before it."""
        while len(self._digests) <= number:
            parent = self._digests[-1] if self._digests else ROOT
            self._digests.append(digest_block(parent, self.tokens(len(self._digests) * size, size)))
        return self._digests[number]


new_tuple = tuple.__new__
"""Of a named tuple whose members are all given: a third of the time that its own way to make one takes."""


class Work(NamedTuple):
    """Compute `count` tokens of `sequence` from position `start`; `samples`: then choose its next token.

    With a `draft`, its tokens are the last of the `count`, and a token is chosen after the one before them and after each.
    """

    sequence: Sequence
    slot: int
    start: int
    count: int
    samples: bool
    life: int
    blocks: list[int]
    """Of its cache, as they were planned: a cancel may take them from the sequence before the step is launched."""
    draft: tuple[int, ...] = ()
    """Guessed tokens after its last one."""

    @property
    def decodes(self) -> bool:
        """One token after the prompt, and a draft."""
        return self.count == 1 + len(self.draft) and self.start >= len(self.sequence.prompt)

    @property
    def choices(self) -> int:
        """Tokens that are chosen."""
        return 1 + len(self.draft) if self.samples else 0


class Output(NamedTuple):
    """News of one sequence: a token, an end, or both."""

    key: Key
    token: int | None = None
    finish: FinishReason | None = None
    logprob: TokenLogprob | None = None
    """Of the token, if it was asked for."""
    error: str | None = None
    """With the finish reason `error`: what is special to this sequence."""
