"""Decoded tokens per second on a CUDA card with random weights in Qwen2.5-7B's shape, beside the bandwidth limit.

    PYTHONPATH=operator python tests/bench/engine_cuda.py [--layers 28] [--rounds 3] [--quantizations None INT8 INT4]
        [--batches 1 16 64] [--context 1024] [--transformers] [--profile] [--directory /tmp/...]

Writes the model once (15 GB) and loads it as a pod would, once for each quantization. Prints load time, predicted and
measured memory, then for each batch the median step of the rounds: every sequence has about `context` tokens behind it.
The limit is weights and keys and values over the bandwidth of a copy measured in the same run. `--transformers` runs its
`generate` alternately; `--profile` prints what the card did in one step. Nothing is asserted.
"""

import argparse
import gc
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch
from shape_cuda import make_network, save

from localmodel.api.channel import Sampling
from localmodel.api.engine import EngineConfig
from localmodel.engine.engine import Engine
from localmodel.engine.loader import LoadedModel, load_model
from localmodel.engine.service import build_engine

ANSWER_TOKENS = 64
FILL_TOKENS = 192
"""Prompt tokens that are surely computed in a step beside others."""


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


def decode_ours(engine: Engine, batch: int, length: int, first: int, profile: bool = False) -> float:
    """Seconds per step once every sequence has its first token. Prompts begin with different tokens: nothing is shared.

    Prompts are computed beside those that decode already, so answers are as long as that takes and the prompts shorter.
    """
    filling = batch * length // FILL_TOKENS + 2
    for number in range(batch):
        prompt = [first + number, *range(1000, 999 + max(64, length - filling // 2))]
        answer = filling + 2 * ANSWER_TOKENS
        engine.add_request(number, prompt, Sampling(temperature=0, max_tokens=answer, ignore_eos=True))
    while engine.load()[0] < batch or any(not sequence.answer for sequence in engine._scheduler._running.values()):
        engine.step()
    for _ in range(3):
        engine.step()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(ANSWER_TOKENS // 2):
        engine.step()
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - began) / (ANSWER_TOKENS // 2)
    decode_ours.tokens = engine.load()[2]
    assert engine.load()[0] == batch
    if profile:
        print_profile(engine)
    for number in range(batch):
        engine.cancel(number)
    engine.step()
    return seconds


def print_profile(engine: Engine, steps: int = 4) -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(steps):
            engine.step()
        torch.cuda.synchronize()
    events = sorted(profile.key_averages(), key=lambda event: -event.device_time_total)
    total = sum(event.device_time_total for event in events)
    print(f"  the card was busy for {total / steps:,.0f} us per step:")
    for event in events[:16]:
        print(f"  {event.device_time_total / steps:8.1f} us {event.count / steps:6.1f} x {event.key[:90]}")


def decode_theirs(network: torch.nn.Module, batch: int, length: int) -> float:
    """Seconds per step: a whole answer less the time to its first token."""
    ids = torch.tensor([list(range(1000, 1000 + length))] * batch, device="cuda")
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


def measure(model: LoadedModel, others: int) -> str:
    """Predicted bytes against what this process took of the card less `others`."""
    free, total = torch.cuda.mem_get_info()
    taken = total - free - torch.cuda.memory_reserved() + torch.cuda.max_memory_reserved() - others
    return f"predicted {model.predicted_bytes:,}, measured {taken:,} ({taken / model.predicted_bytes:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quantizations", nargs="+", default=["None"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--transformers", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    bandwidth = copy_bandwidth()
    torch.cuda.empty_cache()
    network = make_network(arguments.layers)
    directory = Path(tempfile.mkdtemp(prefix="qwen2-7b-shape-", dir=arguments.directory))
    try:
        save(network, directory)
        if not arguments.transformers:
            network = None
        gc.collect()
        torch.cuda.empty_cache()
        base = {}
        for quantization in arguments.quantizations:
            run(arguments, directory, quantization, network, bandwidth, base)
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(1.0)
    finally:
        shutil.rmtree(directory)


def run(
    arguments: argparse.Namespace, directory: Path, quantization: str, network: torch.nn.Module | None, bandwidth: float,
    base: dict[int, float],
) -> None:  # fmt: skip
    """`base`: tokens per second at each batch without quantization, filled by the first run."""
    others = torch.cuda.memory_reserved()
    torch.cuda.reset_peak_memory_stats()
    options = {} if quantization == "None" else {"quantization": quantization}
    config = EngineConfig(
        model_path=str(directory), device="cuda", context_window=max(4096, arguments.context),
        max_batch_size=max(arguments.batches), gpu_memory_share=0.45 if network else 0.8, channel_token_file="unused", **options,
    )  # fmt: skip
    model = load_model(config)
    engine = build_engine(model)
    print(f"{quantization}: {model.weights_bytes:,} bytes, loaded in {model.load_seconds:.1f} s", flush=True)
    embedding = model.network_config.vocabulary * model.network_config.hidden
    step_bytes = model.weights_bytes - embedding * (2 if quantization == "None" else 1)
    token_bytes = model.network_config.kv_elements_per_token * model.cache.keys.dtype.itemsize
    length = arguments.context - ANSWER_TOKENS
    for batch in arguments.batches:
        decode_ours(engine, batch, length, 2000, profile=arguments.profile)
        if network is not None:
            decode_theirs(network, batch, length)
        times = []
        for number in range(arguments.rounds):
            ours = decode_ours(engine, batch, length, 3000 + 100 * number)
            times.append((ours, decode_theirs(network, batch, length) if network is not None else float("nan")))
        ours, theirs = (batch / statistics.median(column) for column in zip(*times, strict=True))
        base.setdefault(batch, ours)
        limit = batch * bandwidth / (step_bytes + decode_ours.tokens * token_bytes)
        print(
            f"  batch {batch:3}: {ours:8.1f} tok/s, {ours / limit:.3f} of the limit of {limit:,.0f} "
            f"(copy {bandwidth / 1e12:.2f} TB/s, {decode_ours.tokens:,} tokens cached), "
            f"{ours / base[batch]:.2f} x the first; transformers {theirs:.1f} ({ours / theirs:.1f} x)",
            flush=True,
        )
    print(f"  memory: {measure(model, others)}", flush=True)


if __name__ == "__main__":
    main()
