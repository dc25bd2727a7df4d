"""Predicts what the engine will need and says how many sequences fit. Pure arithmetic over bytes.

Why it exists: a model that can't fit must fail at load with both numbers, never in the middle of an answer. It measures
nothing and allocates nothing.
"""

from dataclasses import dataclass

from localmodel.engine.errors import OutOfMemory
from localmodel.engine.network_config import NetworkConfig

SERVER_BYTES = 160 * 2**20
"""For tritonserver itself, which shares the container's limit."""
ACCUMULATE_BYTES = 4
"""Logits are sampled in float32."""


@dataclass(frozen=True)
class MemoryPlan:
    slots: int
    fixed_bytes: int
    """Everything but the KV cache."""
    slot_bytes: int
    """KV cache of one sequence of the whole context window."""

    @property
    def predicted_bytes(self) -> int:
        return self.fixed_bytes + self.slots * self.slot_bytes


def activation_bytes(config: NetworkConfig, rows: int, sampled_rows: int, element_bytes: int) -> int:
    """Largest set of temporaries of a step with `rows` tokens, of which `sampled_rows` get logits."""
    attention = (2 * config.heads + 4 * config.kv_heads) * config.head_dim
    mlp = 4 * config.intermediate
    block = rows * (4 * config.hidden + max(attention, mlp)) * element_bytes
    return block + sampled_rows * config.vocabulary * (element_bytes + 3 * ACCUMULATE_BYTES)


def plan_memory(
    config: NetworkConfig, *, weights_bytes: int, base_bytes: int, context: int, batch: int, chunk: int,
    element_bytes: int, cap_bytes: int | None,
) -> MemoryPlan:  # fmt: skip
    """How many slots of `context` tokens fit, at most `batch`. `base_bytes`: what the process takes before it loads.

    Raises OutOfMemory if not even one sequence of the whole context window fits.
    """
    rotary = 2 * context * config.head_dim * element_bytes
    fixed = base_bytes + weights_bytes + rotary + activation_bytes(config, batch + chunk, batch, element_bytes)
    slot = context * config.kv_elements_per_token * element_bytes
    if cap_bytes is None:
        return MemoryPlan(batch, fixed, slot)
    slots = min(batch, max(0, cap_bytes - fixed) // slot)
    if slots == 0:
        raise OutOfMemory(
            f"predicted {fixed + slot} bytes ({_mebibytes(fixed + slot)}) for weights ({_mebibytes(weights_bytes)}), "
            f"one sequence of {context} tokens ({_mebibytes(slot)}) and the process itself ({_mebibytes(base_bytes)}); "
            f"the cap is {cap_bytes} bytes ({_mebibytes(cap_bytes)}). Raise the memory limit or lower the context window."
        )
    return MemoryPlan(slots, fixed, slot)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
