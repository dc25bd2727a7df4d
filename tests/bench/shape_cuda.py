"""Qwen2.5-7B's shape with random weights, made on a CUDA card: no download, and the same on every machine.

It measures nothing.
"""

import gc
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tokenizers import Tokenizer, models


def make_network(layers: int) -> torch.nn.Module:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=layers, num_attention_heads=28,
        num_key_value_heads=4, max_position_embeddings=32768, rope_theta=1e6, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        network = Qwen2ForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    return network


def save(network: torch.nn.Module, directory: Path) -> None:
    """With a tokenizer of no tokens."""
    network.save_pretrained(directory)
    Tokenizer(models.BPE()).save(str(directory / "tokenizer.json"))


@contextmanager
def saved_network(layers: int) -> Iterator[Path]:
    """Its directory; the card is empty again."""
    network = make_network(layers)
    directory = Path(tempfile.mkdtemp(prefix="qwen2-7b-shape-"))
    try:
        save(network, directory)
        del network
        gc.collect()
        torch.cuda.empty_cache()
        yield directory
    finally:
        shutil.rmtree(directory)
