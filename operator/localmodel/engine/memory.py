"""Predicts what the engine will need and says how many blocks of the KV cache fit. Pure arithmetic over bytes.

Why it exists: a model that can't fit must fail at load with both numbers, never in the middle of an answer. It measures
nothing and allocates nothing.
"""

from dataclasses import dataclass

from localmodel.engine.errors import OutOfMemory
from localmodel.engine.network_config import NetworkConfig

SERVER_BYTES = 160 * 2**20
"""For tritonserver itself, which shares the container's limit and takes 33 MB, and past events (`outbox`) of a few gateways."""
LEAST_SLACK_BYTES = 128 * 2**20
"""Of a card, left free at least: its allocator takes 20 MiB at a time, and each thread's matrix library has room of its own."""
SORTED_AT_ONCE = 1 << 20
"""Logits of the rows that are sorted together, where top_p needs all of them."""
SORTED_BYTES = 44
"""For each of those: values, their places, shares and sums of shares."""
KEPT_BYTES = 8
"""For every logit meanwhile: float32 copies with penalties and with temperature."""
CHOSEN_BYTES = 21
"""For every logit otherwise: those copies, one with what was cut off, and shares in float64."""


@dataclass(frozen=True)
class MemoryPlan:
    blocks: int
    fixed_bytes: int
    """Everything but the KV cache."""
    block_bytes: int

    @property
    def predicted_bytes(self) -> int:
        return self.fixed_bytes + self.blocks * self.block_bytes


def activation_bytes(config: NetworkConfig, rows: int, sampled_rows: int, element_bytes: int) -> int:
    """Largest set of temporaries of a step with `rows` tokens, of which `sampled_rows` get logits."""
    attention = (2 * config.heads + 4 * config.kv_heads) * config.head_dim
    mlp = 4 * config.intermediate
    block = rows * (4 * config.hidden + max(attention, mlp)) * element_bytes
    logits = sampled_rows * config.vocabulary
    return block + logits * 2 * element_bytes + sampling_bytes(sampled_rows, config.vocabulary)


def sampling_bytes(rows: int, vocabulary: int) -> int:
    """Largest set of temporaries that choose a token in each of `rows` rows of logits, whatever is asked for."""
    together = min(rows, max(1, SORTED_AT_ONCE // vocabulary))
    return vocabulary * max(CHOSEN_BYTES * rows, KEPT_BYTES * rows + SORTED_BYTES * together)


def fixed_bytes(
    config: NetworkConfig, *, weights_bytes: int, base_bytes: int, context: int, batch: int, chunk: int, element_bytes: int
) -> int:
    """Everything but the KV cache. `base_bytes`: what the process takes before it loads; `chunk`: prompt tokens of a step."""
    rotary = 2 * context * config.head_dim * element_bytes
    return base_bytes + weights_bytes + rotary + activation_bytes(config, batch + chunk, batch, element_bytes)


def plan_blocks(
    config: NetworkConfig, *, weights_bytes: int, fixed: int, context: int, most_blocks: int | None, block_size: int,
    element_bytes: int, cap_bytes: int | None,
) -> MemoryPlan:  # fmt: skip
    """As many blocks as the cap leaves room for, at most `most_blocks`; one of the two is given.

    Raises OutOfMemory if not even one sequence of the whole context window fits.
    """
    block = block_size * config.kv_elements_per_token * element_bytes
    limits = [] if most_blocks is None else [most_blocks]
    if cap_bytes is not None:
        limits.append(max(0, cap_bytes - fixed) // block)
    blocks = min(limits)
    longest = -(-context // block_size)
    if blocks < longest:
        raise OutOfMemory(
            f"predicted {fixed + longest * block} bytes ({_mebibytes(fixed + longest * block)}) for weights "
            f"({_mebibytes(weights_bytes)}), one sequence of {context} tokens ({_mebibytes(longest * block)}) and the process "
            f"itself ({_mebibytes(fixed - weights_bytes)}); the cap is {cap_bytes} bytes ({_mebibytes(cap_bytes or 0)}). "
            "Raise the memory limit or lower the context window."
        )
    return MemoryPlan(blocks, fixed, block)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
