"""Every step with prompts for which a card has a graph. Pure.

Why it exists: who wants all graphs before the first request must know them all. It asks `fit_step`, which decides, instead of
deciding again.
"""

from localmodel.engine.card_steps import StepShape, decoding_rows, fit_step


def list_steps(slots: int, context: int) -> list[StepShape]:
    """The largest first."""
    found: dict[StepShape, None] = {}
    for decoding in [0, *sorted({decoding_rows(count, slots) for count in range(1, slots + 1)})]:
        for several in (False, True):
            longest = 1
            while longest <= context:
                tokens = 2 if several else 1
                while shape := fit_step(decoding, _prompts(tokens, several), longest, slots=slots, context=context):
                    found[shape] = None
                    tokens = shape.prompts + 1
                    reached = shape.longest
                longest = reached + 1
    return sorted(found, key=lambda shape: -(shape.decoding + shape.prompts))


def _prompts(tokens: int, several: bool) -> list[int]:
    return [tokens - 1, 1] if several else [tokens]
