"""What limits the tokens of an answer beside the model, seen from the sampler.

Why it exists: the scheduler and the sampler carry a constraint and need not know what grammar or library is behind it.
A constraint follows one sequence; it is asked on the engine's thread, once per token.
"""

from collections.abc import Sequence as Ids
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

WORD_BITS = 32

Mask = NDArray[np.int32]


class ConstraintError(Exception):
    """The constraint can't be followed any further; the sequence is to end with this message."""


class Constraint(Protocol):
    def fill_mask(self, answer: Ids[int], mask: Mask) -> None:
        """Sets in `mask`, [mask_words(vocabulary)], the bit of each token that may follow `answer`, and clears all others.

        Bit i % 32 of word i // 32 is token i. At least one bit is set. `answer` only ever grows between two calls.
        Raises ConstraintError.
        """


def mask_words(vocabulary: int) -> int:
    return -(-vocabulary // WORD_BITS)
