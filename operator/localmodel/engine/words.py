"""The embedding of a network and its head: whole, or of a share of the vocabulary where ranks divide it.

Why it exists: with a share, a token's row lies on one rank and its logit on another, and who asks need not know. It chooses no
token.

Shapes: N tokens of one step, flat over all sequences; H hidden; V vocabulary.
"""

import torch
from torch import Tensor

from localmodel.engine.collectives import gather_columns, sum_over_ranks, take_from_first
from localmodel.engine.linear import Places
from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.packed_weight import PackedWeight
from localmodel.engine.quantize import Weight, make_weight, multiply, places_of, rows_of
from localmodel.engine.shards import RowShare

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
"""Where it is a matrix of its own."""
WORDS_GROUP = 64
"""At most so many neighbours share a scale in short rows: words are much of a small network, and forgive more than the rest."""


class Words:
    """May be one matrix."""

    def __init__(self, config: NetworkConfig, dtype: torch.dtype, device: torch.device) -> None:
        self._bits = config.weight_bits
        self._tied = config.tied_embeddings
        self._rows = -(-config.vocabulary // config.ranks)
        make = (self._rows, config.hidden, self._bits, dtype, device, WORDS_GROUP)
        self.embedding: Weight | PackedWeight = make_weight(*make)
        self.head: Weight | PackedWeight = self.embedding if self._tied else make_weight(*make)

    def tensors(self) -> Places:
        for name, weight in [(EMBEDDING, self.embedding), *([] if self._tied else [(HEAD, self.head)])]:
            usual = weight.dense() if isinstance(weight, PackedWeight) else weight
            yield name, places_of(usual, self._bits, [self._rows], WORDS_GROUP)[0]

    def pack(self) -> None:
        """After loading. A matrix that is both is kept twice where no rows can be read from a packed one."""
        if isinstance(self.head, Tensor):
            self.head = PackedWeight(self.head)
            if self._tied and self.head.gives_rows:
                self.embedding = self.head

    def embed(self, tokens: Tensor) -> Tensor:
        """[N] -> [N, H]"""
        return rows_of(self.embedding, tokens)

    def logits(self, x: Tensor) -> Tensor:
        """[N, H] -> [N, V]"""
        return multiply(x, self.head, None)


class ParallelWords(Words):
    """The tokens are those of the first rank, which alone knows what was chosen; the others' are overwritten."""

    def __init__(self, config: NetworkConfig, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(config, dtype, device)
        self._vocabulary = config.vocabulary
        self._first = config.rank * self._rows

    def tensors(self) -> Places:
        for name, place in super().tensors():
            yield name, RowShare(place, self._first, self._vocabulary)

    def embed(self, tokens: Tensor) -> Tensor:
        places = take_from_first(tokens) - self._first
        here = (places >= 0) & (places < self._rows)
        x = rows_of(self.embedding, places.clamp(0, self._rows - 1))
        return sum_over_ranks(x.masked_fill_(~here.unsqueeze(1), 0))

    def logits(self, x: Tensor) -> Tensor:
        return gather_columns(multiply(x, self.head, None), self._vocabulary)


def make_words(config: NetworkConfig, dtype: torch.dtype, device: torch.device) -> Words:
    return ParallelWords(config, dtype, device) if config.ranks > 1 else Words(config, dtype, device)
