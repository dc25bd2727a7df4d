"""Chooses the next token of each sequence from its logits.

Why it exists: greedy and random choice must depend on the sequence alone. A random choice takes exactly one number from
the sequence's own source and inverts the distribution, so that the company in the batch changes nothing.
"""

import torch
from torch import Tensor

from localmodel.engine.scheduler import Sequence

NUCLEUS_GUESS = 256
"""top_p is nearly always reached within so many tokens; if not, all are sorted."""


def choose_tokens(logits: Tensor, sequences: list[Sequence]) -> list[int]:
    """logits [S, V], one row per sequence -> S token ids."""
    best: list[int] = logits.argmax(dim=-1).tolist()
    return [
        best[row] if sequence.sampling.temperature == 0 else _draw_token(logits[row], sequence)
        for row, sequence in enumerate(sequences)
    ]


def _draw_token(logits: Tensor, sequence: Sequence) -> int:
    """logits [V]; temperature, then top_k, then top_p."""
    sampling = sequence.sampling
    scaled = logits.float() / sampling.temperature
    size = scaled.shape[0]
    if sampling.top_k == 0 and sampling.top_p == 1:
        return _invert(torch.softmax(scaled, dim=-1), sequence.uniform())
    kept = min(sampling.top_k or NUCLEUS_GUESS, size)
    values, ids = scaled.topk(kept)
    total = values.logsumexp(-1) if sampling.top_k else scaled.logsumexp(-1)
    probabilities = (values - total).exp()
    if sampling.top_p < 1:
        if not sampling.top_k and probabilities.sum() < sampling.top_p:
            values, ids = scaled.sort(descending=True, stable=True)
            probabilities = (values - total).exp()
        before = probabilities.double().cumsum(-1) - probabilities
        probabilities = probabilities[before < sampling.top_p]
    return int(ids[_invert(probabilities, sequence.uniform())])


def _invert(probabilities: Tensor, uniform: float) -> int:
    """Index of the token whose share of [0, 1) holds `uniform`; shares need not add up to 1."""
    edges = probabilities.double().cumsum(-1)
    index = int(torch.searchsorted(edges, edges[-1] * uniform, right=True))
    return min(index, len(edges) - 1)
