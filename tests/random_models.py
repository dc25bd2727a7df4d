"""Random configurations of the engine with small random networks, each from one seed, and the worst that may be asked of one.

For tests and benches that hold what an engine takes against what was predicted. A number tells all: the same one makes the
same network, limits and requests.
"""

import json
import random
from collections.abc import Sequence as Ids
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from localmodel.api.channel import Sampling
from localmodel.api.engine import Compile, EngineConfig
from localmodel.engine.constraint import ALL_ALLOWED, Mask, Masks
from localmodel.engine.engine import Engine
from localmodel.engine.families import DECODERS
from localmodel.engine.network_config import NetworkConfig

HEADS = [(2, 1, 64), (4, 2, 32), (8, 8, 16), (8, 2, 64), (14, 2, 64), (4, 1, 128)]
"""(heads, kv heads, head size): few, because a card compiles kernels for each."""
HIDDEN = [64, 128, 256, 512]
LEAST_VOCABULARY = 300
"""All of a byte-level tokenizer's."""
PIECE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Of what is drawn."""

    vocabulary: int = 160_000
    context: int = 8192
    slots: int = 256
    tokens: int = 40_000
    """Context x slots."""
    wide: int = 4
    """Times the hidden size: the largest inner one."""


@dataclass(frozen=True)
class Drawn:
    seed: int
    architecture: str
    config: dict[str, Any]
    """config.json"""
    context: int
    slots: int
    dtype: str
    quantization: str
    compile: Compile
    room: float
    """Sequences of the whole context that the cap leaves room for beside all else, as predicted; < 1: it is to be refused."""
    flat: bool
    """Logits are nearly equal."""
    spare_bytes: int
    """Added to the cap of a card, whose libraries take more than these networks."""

    @property
    def sizes(self) -> NetworkConfig:
        return DECODERS[self.architecture].parse(self.config)

    def engine_config(self, directory: Path, device: str, cap: int | None) -> EngineConfig:
        return EngineConfig(
            model_path=str(directory), context_window=self.context, max_batch_size=self.slots, device=device, dtype=self.dtype,
            quantization=self.quantization, compile=self.compile, gpu_memory_bytes=cap if device == "cuda" else None,
            host_memory_bytes=cap if device == "cpu" else None, cpu_threads=1, channel_token_file=str(directory / "token"),
        )  # fmt: skip


def draw(seed: int, limits: Limits = Limits()) -> Drawn:
    source = random.Random(seed)

    def between(low: int, high: int) -> int:
        return round(low * (high / low) ** source.random())

    architecture = source.choice(sorted(DECODERS))
    heads, kv_heads, head_dim = source.choice(HEADS)
    hidden, layers = source.choice(HIDDEN), source.randint(1, 4)
    context = between(64, limits.context)
    slots = between(1, max(1, min(limits.slots, limits.tokens // context)))
    window = source.choice([None, 32, 256]) if architecture in ("MistralForCausalLM", "Qwen2ForCausalLM") else None
    config = {
        "architectures": [architecture], "num_hidden_layers": layers, "hidden_size": hidden,
        "intermediate_size": hidden * source.randint(1, limits.wide), "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": head_dim, "vocab_size": between(LEAST_VOCABULARY, limits.vocabulary),
        "max_position_embeddings": limits.context, "tie_word_embeddings": source.random() < 0.5, "eos_token_id": 257,
        "sliding_window": window or (64 if architecture == "Gemma3ForCausalLM" else None), "use_sliding_window": True,
        "max_window_layers": 1, "sliding_window_pattern": 2,
    }  # fmt: skip
    modes: list[Compile] = ["None"] * 5 + ["Auto"] * 4 + ["Max"] * (slots <= 8)
    return Drawn(
        seed=seed,
        architecture=architecture,
        config=config,
        context=context,
        slots=slots,
        dtype=source.choice(["bfloat16", "bfloat16", "float32"]),
        quantization=source.choice(["None", "None", "INT8", "INT4"]),
        compile=source.choice(modes),
        room=source.choice([source.uniform(0.5, 1.5), source.uniform(1.2, 4), source.uniform(4, 2 * slots + 4)]),
        flat=source.random() < 0.5,
        spare_bytes=source.choice([64, 160, 256, 1024, 4096]) * 2**20,
    )


def write_model(drawn: Drawn, directory: Path) -> None:
    torch.manual_seed(drawn.seed)
    noise = torch.randn(PIECE, dtype=torch.bfloat16) * (0.02 if drawn.flat else 0.3)
    (directory / "config.json").write_text(json.dumps(drawn.config))
    network = DECODERS[drawn.architecture].network(drawn.sizes, drawn.context, torch.bfloat16, torch.device("meta"))
    tensors = {}
    for name, place in network.tensors():
        count = place.numel()
        numbers = noise.repeat(-(-count // PIECE))[:count] if count > PIECE else noise[:count].clone()
        tensors[name] = numbers.view(place.shape)
    save_file(tensors, directory / "model.safetensors")
    byte_tokenizer().save(str(directory / "tokenizer.json"))


def byte_tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: number for number, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


class Everything:
    """A constraint that allows all, with masks as any other has."""

    def fill_mask(self, answer: Ids[int], mask: Mask) -> None:
        mask[:] = ALL_ALLOWED

    def look_ahead(self, draft: Ids[int], masks: Masks) -> None:
        masks[:] = ALL_ALLOWED


ASKED: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0, "logprobs": 20},
    {"temperature": 1},
    {"temperature": 1, "top_k": 50},
    {"temperature": 1, "seed": 5},
    {"temperature": 2, "top_p": 0.95, "min_p": 0.01},
    {"temperature": 1, "top_p": 0.9, "presence_penalty": 1, "frequency_penalty": 0.5, "logit_bias": {3: 2.0}},
]
ALL_AT_ONCE: dict[str, Any] = {**ASKED[-1], "min_p": 1e-4, "logprobs": 20}


def drive(engine: Engine, drawn: Drawn) -> int:
    """Asks for the worst and takes every answer; tokens that were answered. Raises what the device raises.

    First one sequence as long as can be, then as many as there are slots, each with all that a sampler can do, the longest
    among them, so that prompts come while others decode; at last a mixture with text to guess from.
    """
    source = random.Random(drawn.seed)
    vocabulary = drawn.config["vocab_size"]

    def prompt(length: int) -> list[int]:
        return [source.randrange(vocabulary) for _ in range(length)]

    def ask(key: str, prompt: list[int], count: int, asked: dict[str, Any], constrained: bool) -> None:
        sampling = Sampling(**asked, max_tokens=count, ignore_eos=True)
        engine.add_request(key, prompt, sampling, constraint=Everything() if constrained else None)

    answer = min(8, drawn.context - 1)
    longest = drawn.context - answer
    ask("alone", prompt(longest), answer, ALL_AT_ONCE, True)
    answered = run(engine)
    for number in range(drawn.slots):
        length = longest if number < 2 or source.random() < 0.5 else source.randint(1, longest)
        ask(f"full {number}", prompt(length), answer, ALL_AT_ONCE, True)
    answered += run(engine)
    for number in range(drawn.slots):
        repeated = (prompt(5) * longest)[: min(longest, 40)]
        ask(f"mixed {number}", repeated, answer, source.choice(ASKED), source.random() < 0.2)
    ask("last", prompt(longest), answer, {"temperature": 0}, False)
    return answered + run(engine)


def run(engine: Engine) -> int:
    answered = 0
    while any(engine.load()[:2]):
        answered += sum(output.token is not None for output in engine.step())
    return answered
