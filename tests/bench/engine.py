"""Tokens per second of the engine on this machine's CPU, against transformers in the same run.

    PYTHONPATH=operator python tests/bench/engine.py MODEL_DIRECTORY [--dtype bfloat16] [--threads 1] [--rounds 3]

Prints the median of the rounds, ours and theirs alternating, and the ratio; then the time to make and read one batch of
events for 64 sequences. Nothing is asserted: times on a shared machine are read by people.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer

from localmodel.api.channel import Sampling
from localmodel.api.engine import EngineConfig
from localmodel.api.events import encode_batch
from localmodel.engine.answer import Answer
from localmodel.engine.engine import Engine
from localmodel.engine.loader import load_model
from localmodel.engine.outbox import Outbox
from localmodel.engine.scheduler import Output
from localmodel.engine.service import build_engine
from localmodel.gateway.wire import read_batch

PROMPT_TOKENS = 64
ANSWER_TOKENS = 48


def run_engine(engine: Engine, batch: int, prompt: list[int]) -> float:
    """Tokens per second of `batch` equal requests, prompts included."""
    for number in range(batch):
        engine.add_request(number, prompt, Sampling(temperature=0, max_tokens=ANSWER_TOKENS, ignore_eos=True))
    began = time.perf_counter()
    while any(engine.load()[:2]):
        engine.step()
    return batch * ANSWER_TOKENS / (time.perf_counter() - began)


def run_transformers(network: torch.nn.Module, batch: int, prompt: list[int]) -> float:
    ids = torch.tensor([prompt] * batch)
    began = time.perf_counter()
    network.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=ANSWER_TOKENS, min_new_tokens=ANSWER_TOKENS
    )
    return batch * ANSWER_TOKENS / (time.perf_counter() - began)


def measure_text(tokenizer: Tokenizer, sequences: int = 64, steps: int = 40) -> tuple[float, float]:
    """Microseconds per token to make (detokenize, batch, encode) and to read events of `sequences` at once."""
    ids = tokenizer.encode("The quick brown fox jumps over the lazy dog and then tells a long story. " * 4).ids[:steps]
    answers = [Answer(f"id-{number}", tokenizer, ids[:8], ["###"]) for number in range(sequences)]
    outbox = Outbox()
    documents = []
    began = time.perf_counter()
    for token in ids:
        for answer in answers:
            outbox.add(answer.take(Output(answer.id, token)))
        documents.append(json.dumps(encode_batch(outbox.make_batch())))
    made = time.perf_counter() - began
    began = time.perf_counter()
    for document in documents:
        read_batch(document)
    read = time.perf_counter() - began
    tokens = sequences * len(ids)
    return made / tokens * 1e6, read / tokens * 1e6


def main() -> None:
    from transformers import AutoModelForCausalLM

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = EngineConfig(
        model_path=str(arguments.model), dtype=arguments.dtype, context_window=512, max_batch_size=16,
        cpu_threads=arguments.threads, channel_token_file="unused",
    )  # fmt: skip
    engine = build_engine(load_model(config))
    network = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype))
    prompt = list(range(1000, 1000 + PROMPT_TOKENS))
    run_engine(engine, 1, prompt)
    run_transformers(network, 1, prompt)
    for batch in (1, 8, 16):
        rounds = [(run_engine(engine, batch, prompt), run_transformers(network, batch, prompt)) for _ in range(arguments.rounds)]
        ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"batch {batch:2}: engine {ours:6.1f} tok/s, transformers {theirs:6.1f} tok/s, ratio {ours / theirs:.2f}")
    made, read = measure_text(Tokenizer.from_file(str(arguments.model / "tokenizer.json")))
    print(f"events of 64 sequences: {made:.1f} us per token to make, {read:.1f} us per token to read")


if __name__ == "__main__":
    main()
