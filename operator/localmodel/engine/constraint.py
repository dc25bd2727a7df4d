"""What limits the tokens of an answer beside the model, seen from the sampler.

Why it exists: the scheduler and the sampler carry a constraint and need not know what grammar or library is behind it.
A constraint follows one sequence; it is asked on the engine's thread, once per token.
"""

from collections.abc import Sequence as Ids
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 32
ALL_ALLOWED = -1
"""A word of a mask."""

Mask = NDArray[np.int32]
Masks = NDArray[np.int32]


class ConstraintError(Exception):
    """The constraint can't be followed any further; the sequence is to end with this message."""


class Constraint(Protocol):
    def fill_mask(self, answer: Ids[int], mask: Mask) -> None:
        """Sets in `mask`, [mask_words(vocabulary)], the bit of each token that may follow `answer`, and clears all others.

        Bit i % 32 of word i // 32 is token i. At least one bit is set. `answer` only ever grows between two calls.
        Raises ConstraintError.
        """

    def look_ahead(self, draft: Ids[int], masks: Masks) -> None:
        """The same after each token of `draft`, which may follow the last `answer`, [len(draft), mask_words(vocabulary)].

        From the first token on that is not allowed, every bit is set. The constraint stays where it was.
        """


def mask_words(vocabulary: int) -> int:
    return -(-vocabulary // WORD_BITS)
