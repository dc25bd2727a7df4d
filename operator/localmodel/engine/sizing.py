"""Measures what the largest step takes of a card's memory, so that all the rest can become KV cache and stay so.

Why it exists: what libraries and graphs take is known only when they have run. It runs the worst step once, on a cache for
one sequence, and leaves nothing behind.
"""

from collections.abc import Sequence as Ids

import torch

from localmodel.api.channel import Sampling
from localmodel.engine.card_modes import EagerRunner
from localmodel.engine.card_runner import CardRunner
from localmodel.engine.constraint import ALL_ALLOWED, Mask, Masks
from localmodel.engine.kv_cache import GPU_BLOCK, KVCache
from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.runner import Network
from localmodel.engine.sampler import Sampler
from localmodel.engine.sequence import Sequence, Work

WORST = Sampling(temperature=1, top_p=0.9, presence_penalty=1, frequency_penalty=1, min_p=1e-4, logit_bias={0: 1.0}, logprobs=20)


class _Anything:
    """A constraint that allows every token."""

    def fill_mask(self, answer: Ids[int], mask: Mask) -> None:
        mask[:] = ALL_ALLOWED

    def look_ahead(self, draft: Ids[int], masks: Masks) -> None:
        masks[:] = ALL_ALLOWED


ANYTHING = _Anything()


def measure_step(
    network: Network, config: NetworkConfig, *, slots: int, context: int, prompt_tokens: int, beside: int, eager: bool,
    dtype: torch.dtype, device: torch.device,
) -> int:  # fmt: skip
    """Bytes that torch's allocator holds at most, weights and graphs included, KV cache not.

    `prompt_tokens` of a step while nobody decodes, `beside` of one while others do. `eager`: without graphs.
    """
    blocks = -(-context // GPU_BLOCK)
    cache = KVCache.allocate(config, blocks, GPU_BLOCK, slots, context, dtype, device)
    cache.keys.zero_()
    cache.values.zero_()
    torch.cuda.reset_peak_memory_stats(device)
    runner = (EagerRunner if eager else CardRunner)(network, cache, config.vocabulary)
    launch_largest(runner, slots=slots, context=context, prompt_tokens=prompt_tokens, beside=beside)
    _choose(Sampler(config.vocabulary, device), torch.zeros((slots, config.vocabulary), dtype=dtype, device=device))
    if not eager:
        torch.cuda.empty_cache()  # as before every capture
        runner.warm_up()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_reserved(device) - cache.size_bytes
    runner.close()
    del runner, cache
    torch.cuda.empty_cache()
    return peak


def launch_largest(runner: CardRunner, *, slots: int, context: int, prompt_tokens: int, beside: int) -> None:
    """The steps that take most memory, on a cache for one sequence of `context` tokens."""
    blocks = list(range(-(-context // GPU_BLOCK)))
    count = min(prompt_tokens, context - 1)
    works = [_decode(slot) for slot in range(slots - 1)]
    prompt = Sequence("prompt", (0,) * count, 1, sampling=WORST, blocks=blocks)
    runner.launch([*works, Work(prompt, slots - 1, 0, count, True, 0, blocks)]).wait()
    last = Sequence("last", (0,) * (context - 1), 1, sampling=WORST, blocks=blocks)
    start = max(0, context - 1 - beside)  # a chunk behind a long past is cut into parts, which take room of their own
    runner.launch([*works, Work(last, slots - 1, start, context - 1 - start, True, 0, blocks)]).wait()
    start = max(0, context - 1 - prompt_tokens)
    runner.launch([Work(last, slots - 1, start, context - 1 - start, True, 0, blocks)]).wait()


@torch.inference_mode()
def _choose(sampler: Sampler, logits: torch.Tensor) -> None:
    """From `logits` that are equal, so that all are looked at: what a network says now need not be what it says to users."""
    sequences = [_decode(slot).sequence for slot in range(len(logits))]
    sampler.sample(logits, sampler.prepare(sequences)).report()


def _decode(slot: int) -> Work:
    sequence = Sequence(slot, (0,), 2, sampling=WORST, constraint=ANYTHING, answer=[0], blocks=[0])
    return Work(sequence, slot, 1, 1, True, 0, sequence.blocks)
