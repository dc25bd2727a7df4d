"""Log-probabilities of chosen tokens and of the likeliest ones, of the model's own distribution.

Why it exists: they describe the model, not the sampling, so they are made from the raw logits whatever was drawn.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from localmodel.api.events import TokenLogprob

LEAST = -9999.0
"""JSON has no minus infinity, and no NaN, which is also not larger than this."""


@dataclass(frozen=True)
class Logprobs:
    """On the device; R rows, N likeliest tokens."""

    tokens: Tensor
    """[R]"""
    chosen: Tensor
    """[R] float32"""
    top_tokens: Tensor
    """[R, N], best first."""
    top: Tensor
    """[R, N] float32"""

    def rows(self, counts: list[int]) -> list[TokenLogprob]:
        """The first counts[i] likeliest of row i. Waits for the device."""
        columns = (self.tokens.tolist(), self.chosen.tolist(), self.top_tokens.tolist(), self.top.tolist())
        return [
            TokenLogprob(
                token, max(LEAST, chosen), tuple((t, max(LEAST, p)) for t, p in zip(ids[:count], values[:count], strict=True))
            )
            for token, chosen, ids, values, count in zip(*columns, counts, strict=True)
        ]


def measure_logprobs(logits: Tensor, tokens: Tensor, most: int) -> Logprobs:
    """logits [R, V], chosen tokens [R]; `most`: how many likeliest."""
    logprobs = torch.log_softmax(logits, dim=-1, dtype=torch.float32)
    chosen = logprobs.gather(1, tokens.unsqueeze(1)).squeeze(1)
    values, ids = logprobs.topk(min(most, logits.shape[1]), dim=-1)
    return Logprobs(tokens, chosen, ids, values)
