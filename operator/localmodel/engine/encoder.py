"""Vectors of many texts on the device, batched by length.

Why it exists: texts of like length are computed together, so that little is padding, and a batch holds a bounded number of
tokens, so that memory is bounded. It knows no requests and no threads.
"""

from collections.abc import Sequence as Ids

import torch
from torch import Tensor

from localmodel.engine.bert import BertNetwork
from localmodel.engine.pooling import Pooling, pool


class Encoder:
    def __init__(self, network: BertNetwork, pooling: Pooling, device: torch.device, batch_tokens: int, most_texts: int) -> None:
        """`batch_tokens`: padding included; a single text may be longer. `most_texts` of one batch."""
        self._network = network
        self._pooling = pooling
        self._device = device
        self._batch_tokens = batch_tokens
        self._most_texts = most_texts

    @torch.inference_mode()
    def encode(self, texts: list[Ids[int]]) -> Tensor:
        """Token ids of each text -> [texts, H] float32 on the host, of unit length, in the same order."""
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        vectors = torch.empty(len(texts), self._network.config.hidden)
        for batch in self._batches(texts, order):
            vectors[batch] = self._encode_batch([texts[number] for number in batch]).cpu()
        return vectors

    def _batches(self, texts: list[Ids[int]], order: list[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        for number in order:  # ascending, so the text at hand is the longest of its batch
            rows = len(batches[-1]) + 1 if batches else 0
            if 0 < rows <= self._most_texts and rows * len(texts[number]) <= self._batch_tokens:
                batches[-1].append(number)
            else:
                batches.append([number])
        return batches

    def _encode_batch(self, texts: list[Ids[int]]) -> Tensor:
        longest = max(map(len, texts))
        tokens = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts], dtype=torch.int64)
        mask = None
        if any(len(text) < longest for text in texts):
            lengths = torch.tensor([len(text) for text in texts])
            mask = (torch.arange(longest) < lengths.unsqueeze(1)).to(self._device)
        return pool(self._network(tokens.to(self._device), mask), mask, self._pooling)
