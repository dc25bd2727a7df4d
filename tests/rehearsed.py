"""Networks as a card would hold them, and a card that need not be there: for what is compiled ahead of a start."""

from types import SimpleNamespace
from typing import Any

import torch

from localmodel.engine.network_config import parse_network_config
from localmodel.engine.quantize import QuantizedWeight

CONFIG = {
    "hidden_size": 128, "intermediate_size": 2048, "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 4,
    "head_dim": 16, "vocab_size": 320, "max_position_embeddings": 4096, "hidden_act": "silu", "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6, "rope_theta": 1e4, "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 64,
    "sliding_window_pattern": 2, "query_pre_attn_scalar": 16,
}  # fmt: skip
"""Small, but for one matrix that is cut along K on a Hopper card."""
LIMITS = {"slots": 20, "context": 2600, "prompt_tokens": 2048, "beside": 256}
SHAPE = parse_network_config(
    {
        "vocab_size": 2048, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 1, "num_attention_heads": 28,
        "num_key_value_heads": 4, "max_position_embeddings": 32768, "rope_theta": 1e6, "tie_word_embeddings": False,
    }
)  # fmt: skip
"""Qwen2.5-7B's, with one layer and few words."""
CARD: dict[str, Any] = {"dtype": torch.bfloat16, "device": torch.device("cpu")}


def make_weight(rows: int, columns: int, bits: int, dtype: torch.dtype, device: torch.device, *rest: Any, **more: Any) -> Any:
    """As a card holds it."""
    if bits == 16:
        return torch.zeros(rows, columns, dtype=dtype, device=device)
    return QuantizedWeight.empty(rows, columns, bits, dtype, device, *rest, **more)


def pretend_card(capability: int) -> None:
    """Triton compiles for a card of this capability (90: Hopper) from now on."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    target = GPUTarget("cuda", capability, 32)
    driver.set_active(
        SimpleNamespace(
            get_current_device=lambda: 0, get_current_stream=lambda device: 0, get_current_target=lambda: target
        )
    )  # fmt: skip


def as_on_a_card() -> None:
    """From now on this process compiles for a Hopper card, and launches nothing."""
    from localmodel.engine import kernels, layers, linear, quantize, weight_hopper, words
    from localmodel.engine.card_runner import CardRunner

    pretend_card(90)
    replaced = {
        layers: {"uses_kernels": lambda x: True},
        quantize: {"uses_kernels": lambda x: True},
        linear: {"make_weight": make_weight},
        words: {"make_weight": make_weight},
        kernels: {"overlaps": lambda device: True},
        weight_hopper: {"_card": lambda device: (True, 132)},
        CardRunner: {"_pin": staticmethod(torch.from_numpy)},
        torch.cuda: {"is_current_stream_capturing": lambda: False},
    }
    for place, names in replaced.items():
        for name, value in names.items():
            setattr(place, name, value)
