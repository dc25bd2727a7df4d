"""Decoded tokens per second on a CUDA card with random weights in Qwen2.5-7B's shape, against transformers in the same run.

    PYTHONPATH=operator python tests/bench/engine_cuda.py [--layers 28] [--rounds 3] [--directory /tmp/...]

Writes the model once (15 GB), loads it as a pod would, and prints: load time; predicted and measured memory; then for
each batch the median of the rounds, ours and theirs alternating, prompts left out, beside the limit that reading the
weights once per step sets at the measured copy bandwidth. Nothing is asserted.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

from localmodel.api.channel import Sampling
from localmodel.api.engine import EngineConfig
from localmodel.engine.engine import Engine
from localmodel.engine.loader import LoadedModel, load_model
from localmodel.engine.service import build_engine

CONTEXT = 1024
PROMPT_TOKENS = 64
ANSWER_TOKENS = 64
BATCHES = (1, 8, 16)
FILL_ANSWER = 40


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


def copy_bandwidth() -> float:
    """Bytes per second, read and written, of a large copy on the device."""
    source = torch.randn(2**29, device="cuda")
    target = torch.empty_like(source)
    times = []
    for _ in range(10):
        torch.cuda.synchronize()
        began = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 2 * source.nbytes / statistics.median(times)


def decode_ours(engine: Engine, batch: int, prompt: list[int]) -> float:
    """Seconds per step once every sequence has its first token."""
    for number in range(batch):
        engine.add_request(number, prompt, Sampling(temperature=0, max_tokens=ANSWER_TOKENS + 1, ignore_eos=True))
    engine.step()
    while engine.load()[2] < batch * len(prompt):
        engine.step()
    began, steps = time.perf_counter(), 0
    while any(engine.load()[:2]):
        engine.step()
        steps += 1
    return (time.perf_counter() - began) / steps


def decode_theirs(network: torch.nn.Module, batch: int, prompt: list[int]) -> float:
    """Seconds per step: a whole answer less the time to its first token."""
    ids = torch.tensor([prompt] * batch, device="cuda")
    seconds = []
    for tokens in (1, ANSWER_TOKENS + 1):
        torch.cuda.synchronize()
        began = time.perf_counter()
        network.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens,
            pad_token_id=0, eos_token_id=None,
        )  # fmt: skip
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return (seconds[1] - seconds[0]) / ANSWER_TOKENS


def fill(model: LoadedModel, engine: Engine) -> tuple[float, int]:
    """Runs every slot to the end of its context at once; returns (prompt tokens per second, peak bytes of ours).

    A step takes one of these prompts, beside a token of each sequence that came before.
    """
    others = torch.cuda.memory_allocated() - model.weights_bytes - model.cache.size_bytes
    torch.cuda.reset_peak_memory_stats()
    slots, length = model.cache.slots, model.cache.context - FILL_ANSWER
    for number in range(slots):
        sampling = Sampling(temperature=0, max_tokens=FILL_ANSWER, ignore_eos=True)
        engine.add_request(number, list(range(number, number + length)), sampling)
    began = time.perf_counter()
    for _ in range(slots):
        engine.step()
    seconds = time.perf_counter() - began
    while any(engine.load()[:2]):
        engine.step()
    free, total = torch.cuda.mem_get_info()
    context = total - free - torch.cuda.memory_reserved()
    return slots * length / seconds, torch.cuda.max_memory_allocated() - others + context


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    bandwidth = copy_bandwidth()
    torch.cuda.empty_cache()
    network = make_network(arguments.layers)
    directory = Path(tempfile.mkdtemp(prefix="qwen2-7b-shape-", dir=arguments.directory))
    try:
        network.save_pretrained(directory)
        (directory / "tokenizer.json").write_text("{}")
        config = EngineConfig(
            model_path=str(directory), device="cuda", context_window=CONTEXT, max_batch_size=max(BATCHES),
            gpu_memory_share=0.9, channel_token_file="unused",
        )  # fmt: skip
        model = load_model(config)
    finally:
        shutil.rmtree(directory)
    engine = build_engine(model)
    print(f"{model.parameters:,} parameters, {model.weights_bytes:,} bytes, loaded in {model.load_seconds:.1f} s", flush=True)
    fill(model, engine)
    speed, peak = fill(model, engine)
    print(f"memory: predicted {model.predicted_bytes:,}, measured {peak:,} ({peak / model.predicted_bytes:.3f})")
    print(f"prompts of {CONTEXT - FILL_ANSWER} tokens, {model.cache.slots} at once: {speed:,.0f} tok/s", flush=True)
    step_bytes = model.weights_bytes - network.get_input_embeddings().weight.nbytes
    prompt = list(range(1000, 1000 + PROMPT_TOKENS))
    for batch in BATCHES:
        decode_ours(engine, batch, prompt)
        decode_theirs(network, batch, prompt)
        rounds = [(decode_ours(engine, batch, prompt), decode_theirs(network, batch, prompt)) for _ in range(arguments.rounds)]
        ours, theirs = (batch / statistics.median(column) for column in zip(*rounds, strict=True))
        limit = batch * bandwidth / step_bytes
        print(
            f"batch {batch:2}: engine {ours:7.1f} tok/s, transformers {theirs:7.1f} tok/s, ratio {ours / theirs:.2f}, "
            f"{ours / limit:.2f} of the limit of {limit:,.0f} (copy {bandwidth / 1e12:.2f} TB/s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
