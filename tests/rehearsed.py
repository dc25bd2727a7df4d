"""A small network as a card would hold it, and the limits it is rehearsed with."""

import torch

from localmodel.engine.quantize import QuantizedWeight

CONFIG = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 4,
    "head_dim": 16, "vocab_size": 320, "max_position_embeddings": 4096, "hidden_act": "silu", "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6, "rope_theta": 1e4, "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 64,
    "sliding_window_pattern": 2, "query_pre_attn_scalar": 16,
}  # fmt: skip
LIMITS = {"slots": 20, "context": 2600, "prompt_tokens": 2048, "beside": 256}


def make_weight(rows, columns, bits, dtype, device, *rest, **more):
    """As a card holds it."""
    if bits == 16:
        return torch.zeros(rows, columns, dtype=dtype, device=device)
    return QuantizedWeight.empty(rows, columns, bits, dtype, device, *rest, **more)
