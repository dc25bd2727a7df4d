"""A thousand random configurations: one that is admitted stays below its cap, whatever is asked of it; others are refused.

The plan, the cache, the pool and the scheduler are the real ones; the device writes each token's place in a real tensor, so
a block that is not there would be noticed. What real networks take is `test_memory`'s, and on a card `bench/admitted`'s.
"""

import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from localmodel.engine.attention import locate
from localmodel.engine.blocks import BlockPool
from localmodel.engine.errors import OutOfMemory
from localmodel.engine.kv_cache import KVCache
from localmodel.engine.memory import fixed_bytes, plan_blocks
from localmodel.engine.network_config import NetworkConfig, parse_network_config
from localmodel.engine.scheduler import Scheduler
from localmodel.engine.sequence import Sequence

CPU = torch.device("cpu")


def sizes(layers: int, kv_heads: int, group: int, head_dim: int) -> NetworkConfig:
    heads = kv_heads * group
    config = {
        "num_hidden_layers": layers, "hidden_size": heads * head_dim, "intermediate_size": 2 * heads * head_dim,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": 64, "max_position_embeddings": 512,
    }  # fmt: skip
    return parse_network_config(config)


CONFIGURATIONS = st.fixed_dictionaries(
    {
        "network": st.builds(sizes, st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.sampled_from([4, 8])),
        "dtype": st.sampled_from([torch.float32, torch.bfloat16]),
        "context": st.integers(2, 160),
        "slots": st.integers(1, 6),
        "chunk": st.integers(1, 64),
        "block": st.sampled_from([4, 16, 64]),
        "room": st.floats(0, 2.5),
        "contiguous": st.booleans(),
        "seed": st.integers(0, 2**32),
    }
)


@settings(max_examples=1000, deadline=None)
@given(CONFIGURATIONS)
def test_what_is_admitted_stays_below_its_cap(made):
    config, context, slots, block = made["network"], made["context"], made["slots"], made["block"]
    element = made["dtype"].itemsize
    weights = 10_000
    fixed = fixed_bytes(
        config, weights_bytes=weights, base_bytes=5_000, context=context, batch=slots, chunk=made["chunk"], element_bytes=element
    )
    longest = -(-context // block)
    one = longest * block * config.kv_elements_per_token * element
    cap = fixed + int(made["room"] * one)
    limits = {"context": context, "most_blocks": slots * longest, "block_size": block, "element_bytes": element}
    try:
        plan = plan_blocks(config, weights_bytes=weights, fixed=fixed, cap_bytes=cap, **limits)
    except OutOfMemory:
        assert cap - fixed < one, "a configuration with room for a whole sequence is admitted"
        return
    cache = KVCache.allocate(config, plan.blocks, block, slots, context, made["dtype"], CPU)
    assert fixed + cache.size_bytes == plan.predicted_bytes <= cap
    serve(cache, made)


def serve(cache: KVCache, made) -> None:
    """Twice as many sequences as there are slots, of all lengths up to the whole context: all end, none beyond its blocks."""
    source = random.Random(made["seed"])
    pool = BlockPool(cache.blocks, cache.block_size, contiguous=made["contiguous"])
    scheduler = Scheduler(cache.slots, made["chunk"], pool)
    asked = {}
    for key in range(2 * cache.slots):
        length = source.randint(1, cache.context - 1)
        asked[key] = source.randint(1, cache.context - length)
        prompt = tuple(source.randrange(64) for _ in range(length)) if source.random() < 0.7 else (1,) * length
        scheduler.add(Sequence(key, prompt, asked[key]))
    answered = dict.fromkeys(asked, 0)
    ended = {}
    while scheduler.running or scheduler.waiting:
        works = scheduler.plan()
        assert works, "something runs or waits, and nothing is done"
        assert pool.held <= cache.blocks
        for work in works:
            past = locate(work.blocks, cache.block_size, work.start + work.count)
            rows = torch.arange(past.start, past.stop) if isinstance(past, slice) else past
            cache.keys[-1].index_fill_(0, rows[work.start :], work.slot)
        for output in scheduler.commit(works, [5 for work in works if work.samples]):
            answered[output.key] += 1
            if output.finish:
                ended[output.key] = output.finish
    assert answered == asked and set(ended.values()) == {"length"}
    assert pool.held == 0
