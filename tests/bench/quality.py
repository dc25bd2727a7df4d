"""Perplexity of a model with weights of 16, 8 and 4 bits over texts of this repository, on the CPU.

    PYTHONPATH=operator python tests/bench/quality.py MODEL_DIRECTORY [--windows 8] [--threads 2] [FILE ...]

Values are those that a card would have; products are made in float32, so that only the rounding of weights differs. Also
prints bytes of the whole model as they lie on a card, against 16 bits. Nothing is asserted.
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("files", nargs="*", default=FILES)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    root = Path(__file__).parents[2]
    text = "\n".join((root / file).read_text() for file in arguments.files)
    ids = Tokenizer.from_file(str(arguments.model / "tokenizer.json")).encode(text).ids
    windows = min(arguments.windows, len(ids) // WINDOW)
    print(f"torch {torch.__version__}, {windows * WINDOW} tokens of {', '.join(arguments.files)}", flush=True)
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
        print(f"{name:4}: perplexity {value:.3f} ({value / base[0] - 1:+.2%}), {share:.1%} of the bytes of bfloat16", flush=True)


if __name__ == "__main__":
    main()
