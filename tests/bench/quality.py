"""Perplexity of a model with weights of 16, 8 and 4 bits over texts of this repository, on the CPU.

    PYTHONPATH=operator python tests/bench/quality.py MODEL_DIRECTORY [--windows 8] [--threads 2] [--rescaled] [FILE ...]

SmolLM2's weights here were made from others of 4 bits in groups of 32, as ours are in short rows: that flatters INT4.
`--rescaled` measures the same network in other numbers: norms are multiplied into the matrices behind them, and rows of `v` and
`up` are divided by random factors that columns of `o` and `down` get. No group of 32 has 16 values then. Llama family only.

Values are those that a card would have; products are made in float32, so that only the rounding of weights differs. Also
prints bytes of the whole model as they lie on a card, against 16 bits. Nothing is asserted.
"""

import argparse
import json
import math
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from localmodel.api.engine import EngineConfig
from localmodel.engine.attention import Batch, Segment, SegmentedAttention
from localmodel.engine.families import choose_decoder
from localmodel.engine.loader import WEIGHT_BITS, load_model

WINDOW = 512
FILES = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/install.md", "docs/troubleshooting.md", "docs/gateway.md")


def perplexity(model, ids: list[int], windows: int) -> float:
    loss = 0.0
    for number in range(windows):
        part = torch.tensor(ids[number * WINDOW : (number + 1) * WINDOW])
        places = torch.arange(WINDOW)
        attend = SegmentedAttention([Segment(row=0, count=WINDOW, start=0, past=slice(0, WINDOW))])
        with torch.inference_mode():
            logits = model.network(Batch(part, places, places, attend), model.cache, None)
        loss += torch.nn.functional.cross_entropy(logits[:-1].float(), part[1:]).item()
    return math.exp(loss / windows)


def card_bytes(model, bits: int) -> int:
    sizes = replace(model.network_config, weight_bits=bits)
    network = choose_decoder(model.directory.architecture).network(sizes, 1, torch.bfloat16, torch.device("meta"))
    return sum(place.nbytes for _, place in network.tensors())


def rescale(source: Path, target: Path) -> None:
    """A model directory that computes the same as `source`, in float32."""
    config = json.loads((source / "config.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    tensors = {name: tensor.float() for file in source.glob("*.safetensors") for name, tensor in load_file(file).items()}
    torch.manual_seed(1)
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        for norm, names in (("input", "self_attn.q self_attn.k self_attn.v"), ("post_attention", "mlp.gate mlp.up")):
            factors = tensors[f"{layer}.{norm}_layernorm.weight"]
            for name in names.split():
                tensors[f"{layer}.{name}_proj.weight"] *= factors
            tensors[f"{layer}.{norm}_layernorm.weight"] = torch.ones_like(factors)
        value, output = tensors[f"{layer}.self_attn.v_proj.weight"], tensors[f"{layer}.self_attn.o_proj.weight"]
        factors = torch.rand(len(value)) / 2 + 0.75
        value /= factors.unsqueeze(1)
        output *= factors.view(kv_heads, 1, -1).expand(-1, heads // kv_heads, -1).flatten()
        up, down = tensors[f"{layer}.mlp.up_proj.weight"], tensors[f"{layer}.mlp.down_proj.weight"]
        factors = torch.rand(len(up)) / 2 + 0.75
        up /= factors.unsqueeze(1)
        down *= factors
    save_file(tensors, target / "model.safetensors")
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(source / name, target / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("files", nargs="*", default=FILES)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rescaled", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    root = Path(__file__).parents[2]
    text = "\n".join((root / file).read_text() for file in arguments.files)
    ids = Tokenizer.from_file(str(arguments.model / "tokenizer.json")).encode(text).ids
    windows = min(arguments.windows, len(ids) // WINDOW)
    print(f"torch {torch.__version__}, {windows * WINDOW} tokens of {', '.join(arguments.files)}", flush=True)
    if arguments.rescaled:
        directory = tempfile.TemporaryDirectory()
        rescale(arguments.model, Path(directory.name))
        arguments.model = Path(directory.name)
    base = None
    for name, bits in WEIGHT_BITS.items():
        config = EngineConfig(
            model_path=str(arguments.model), dtype="float32", quantization=name, context_window=WINDOW, max_batch_size=1,
            cpu_threads=arguments.threads, channel_token_file="unused",
        )  # fmt: skip
        model = load_model(config)
        value = perplexity(model, ids, windows)
        base = base or (value, card_bytes(model, 16))
        share = card_bytes(model, bits) / base[1]
        loss = f"{value / base[0] - 1:+.2%}"
        print(f"{name:4}: perplexity {value:.3f} ({loss}), {share:.2%} of the bytes of bfloat16; {model.rounding}", flush=True)


if __name__ == "__main__":
    main()
