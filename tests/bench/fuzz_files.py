"""Random model directories, each from one number: sizes, options, and the ways in which tools of different years write them.

For `fuzz_networks`. What is drawn is legal; `Case.supported` says whether it is to be computed or refused.
"""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from random_models import byte_tokenizer

FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma3")
OPTIONAL = {
    "Llama": ("attention_bias", "mlp_bias", "pretraining_tp", "rms_norm_eps", "initializer_range", "hidden_act"),
    "Mistral": ("rms_norm_eps", "hidden_act", "initializer_range", "use_cache"),
    "Qwen2": ("use_sliding_window", "sliding_window", "max_window_layers", "rms_norm_eps", "hidden_act"),
    "Qwen3": ("use_sliding_window", "sliding_window", "max_window_layers", "attention_bias", "hidden_act"),
    "Gemma3": ("attention_bias", "hidden_activation", "query_pre_attn_scalar", "sliding_window", "tie_word_embeddings"),
}
"""Keys that files lack where they have their default."""
NULLED = ("rope_scaling", "head_dim", "sliding_window", "final_logit_softcapping", "attn_logit_softcapping",
    "quantization_config", "max_window_layers", "pad_token_id", "attention_bias", "mlp_bias")  # fmt: skip


@dataclass(frozen=True)
class Case:
    seed: int
    family: str
    made: dict[str, Any]
    """What transformers' configuration is made of."""
    context: int
    dtype: str
    shard: str
    old: bool
    """Written as before transformers 5."""
    lean: bool
    """Without the keys that have their default."""
    nulls: bool
    supported: bool
    extra: dict[str, Any] = field(default_factory=dict)
    """Written into the file by hand."""

    @property
    def vocabulary(self) -> int:
        return self.made["vocab_size"]


def draw(seed: int) -> Case:
    source = random.Random(seed)
    family = source.choice(FAMILIES)
    long = source.random() < 0.08
    heads = source.choice([1, 2, 3, 4, 6, 8])
    per_head = source.choice([2, 6, 8, 16, 20, 24, 64]) if not long else 8
    hidden, layers = heads * per_head * source.choice([1, 1, 2]), source.randint(1, 4)
    head_dim = source.choice([None, 2, 8, 10, 32, 34, 80]) if not long else None
    most = 1400 if long else 192
    made: dict[str, Any] = {
        "vocab_size": source.choice([257, 259, 300, 383, 512, 641]), "hidden_size": hidden, "num_hidden_layers": layers,
        "intermediate_size": source.randint(3, 160), "num_attention_heads": heads,
        "num_key_value_heads": source.choice([n for n in range(1, heads + 1) if heads % n == 0]),
        "max_position_embeddings": most, "rms_norm_eps": source.choice([1e-6, 1e-5, 1e-3]),
        "initializer_range": min(0.3, 3 / hidden**0.5),
        "tie_word_embeddings": source.random() < 0.5, "bos_token_id": 1, "eos_token_id": source.choice([2, [2, 3]]),
        "pad_token_id": None,
    }  # fmt: skip
    if head_dim:
        made["head_dim"] = head_dim
    elif family in ("Qwen3", "Gemma3"):
        made["head_dim"] = per_head
    window = source.choice([1, 3, 8, 15, 16, 17, 40, 64, 65, 100, 4096])
    extra: dict[str, Any] = {}
    kinds = [source.choice(["sliding_attention", "full_attention"]) for _ in range(layers)]
    if family == "Llama":
        made |= {"attention_bias": source.random() < 0.3, "mlp_bias": source.random() < 0.3}
    elif family == "Mistral":
        made["sliding_window"] = source.choice([None, window])
        if made["sliding_window"] and source.random() < 0.3:
            extra["layer_types"] = kinds
    elif family in ("Qwen2", "Qwen3"):
        made |= {
            "use_sliding_window": source.random() < 0.6,
            "sliding_window": window,
            "max_window_layers": source.randint(0, layers),
        }
        if source.random() < 0.4 and made["use_sliding_window"]:
            made["layer_types"] = kinds
        if family == "Qwen3":
            made["attention_bias"] = source.random() < 0.3
    else:
        made |= {"sliding_window": window, "query_pre_attn_scalar": source.choice([6, 24, 256]), "initializer_range": 0.1}
        made |= {"attention_bias": source.random() < 0.3}
        made |= {"sliding_window_pattern": source.randint(1, 4)} if source.random() < 0.6 else {"layer_types": kinds}
    supported = True
    theta = source.choice([1e4, 5e5, 123.5, 1e6])
    rope = _draw_rope(source, most)
    if rope["rope_type"] in ("dynamic", "longrope"):
        if rope["rope_type"] == "longrope":
            rope |= {name: [1.5] * ((made.get("head_dim") or hidden // heads) // 2) for name in ("short_factor", "long_factor")}
        supported = False
    if family == "Gemma3":
        rope.pop("truncate", None)  # transformers does not look for it where it stands
        near = {"rope_type": "default", "rope_theta": source.choice([1e4, 321.0])}
        made["rope_parameters"] = {"full_attention": {**rope, "rope_theta": theta}, "sliding_attention": near}
        if source.random() < 0.08:
            made["final_logit_softcapping"], supported = 30.0, False
    else:
        made["rope_parameters"] = {**rope, "rope_theta": theta}
        if source.random() < 0.08:
            made["hidden_act"], supported = source.choice(["gelu", "relu", "gelu_pytorch_tanh"]), False
    return Case(
        seed, family, made, context=source.choice([100, 150, most]) if not long else most,
        dtype=source.choice(["float32", "float32", "bfloat16", "float16"]), shard=source.choice(["20KB", "200KB", "1GB", "1GB"]),
        old=source.random() < 0.5, lean=source.random() < 0.4, nulls=source.random() < 0.4, supported=supported, extra=extra,
    )  # fmt: skip


def _draw_rope(source: random.Random, most: int) -> dict[str, Any]:
    kind = source.choice(["default"] * 4 + ["linear", "llama3", "yarn", "yarn"] * 2 + ["dynamic", "longrope"])
    if kind == "default":
        return {"rope_type": kind}
    rope: dict[str, Any] = {"rope_type": kind, "factor": source.choice([1.0, 1.5, 2.7, 4.0, 8.0, 40.0])}
    if kind == "llama3":
        low = source.choice([1.0, 0.5, 2])
        rope |= {"low_freq_factor": low, "high_freq_factor": low * source.choice([1.5, 4])}
    if kind in ("llama3", "yarn", "longrope"):
        rope["original_max_position_embeddings"] = source.choice([8, 32, most // 2, most])
    if kind == "yarn":
        some = {
            "beta_fast": source.choice([32, 8, 3.5]), "beta_slow": source.choice([1, 2]), "attention_factor": 0.9,
            "truncate": source.random() < 0.5,
        }  # fmt: skip
        rope |= {key: value for key, value in some.items() if source.random() < 0.4}
        if source.random() < 0.3:
            rope |= {"mscale": source.choice([1.0, 0.5]), "mscale_all_dim": source.choice([0.7, 1.0])}
    return rope


def write(case: Case, directory: Path) -> None:
    import transformers

    torch.manual_seed(case.seed)
    name = f"{case.family}TextConfig" if case.family == "Gemma3" else f"{case.family}Config"
    network = getattr(transformers, f"{case.family}ForCausalLM")(getattr(transformers, name)(**case.made))
    for name, parameter in network.named_parameters():
        if "norm" in name or name.endswith("bias"):
            torch.nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.3)
    network.to(getattr(torch, case.dtype)).save_pretrained(directory, max_shard_size=case.shard)
    byte_tokenizer().save(str(directory / "tokenizer.json"))
    file = directory / "config.json"
    config = json.loads(file.read_text())
    default = getattr(transformers, type(network.config).__name__)().to_dict()
    if case.old:
        _write_as_before(config)
    if case.lean:
        for key in OPTIONAL[case.family]:
            if key in config and config[key] == default.get(key):
                del config[key]
    if case.nulls:
        for key in NULLED:
            if config.get(key) is None and (key not in default or default[key] is None):
                config[key] = None
    file.write_text(json.dumps({**config, **case.extra}))


def _write_as_before(config: dict[str, Any]) -> None:
    config["torch_dtype"] = config.pop("dtype", None)
    rope = config.pop("rope_parameters")
    if "full_attention" in rope:
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    config["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] != "default":
        config["rope_scaling"] = rope
