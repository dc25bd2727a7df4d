"""Seconds from a process's start to its first token on a CUDA card, and what a card limited to 24 GB does, with random weights in
Qwen2.5-7B's shape.

    PYTHONPATH=operator python tests/bench/engine_start_cuda.py [--layers 28]

Writes the model once; each process then finds its files in the page cache. Prints, for 16 bits and for INT8 within 24 GB at 4,096
tokens of context: seconds until Python runs, the model is loaded and the first token is there; tokens per second of one sequence;
predicted and measured memory. Nothing is asserted.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

CASES = {"16 bits": {"gpu_memory_share": 0.8}, "INT8, 24 GB": {"quantization": "INT8", "gpu_memory_bytes": 24 * 10**9}}
TOKENS = 200


def serve(directory: str, options: dict[str, object], started: float) -> None:
    """One process: load, one token, many tokens."""
    python = time.time() - started
    from localmodel.api.channel import Sampling
    from localmodel.api.engine import EngineConfig
    from localmodel.engine.loader import load_model
    from localmodel.engine.service import build_engine

    config = EngineConfig(
        model_path=directory, device="cuda", context_window=4096, max_batch_size=64, channel_token_file="unused", **options
    )
    model = load_model(config)
    loaded = time.time() - started
    engine = build_engine(model)

    def answer(key: int, tokens: int) -> None:
        engine.add_request(key, list(range(100, 600)), Sampling(temperature=0, max_tokens=tokens, ignore_eos=True))
        while any(engine.load()[:2]):
            engine.step()
        engine.step()

    answer(0, 1)
    first = time.time() - started
    answer(1, TOKENS)
    began = time.perf_counter()
    answer(2, TOKENS)
    rate = TOKENS / (time.perf_counter() - began)
    import torch

    free, total = torch.cuda.mem_get_info()
    taken = total - free - torch.cuda.memory_reserved() + torch.cuda.max_memory_reserved()
    print(
        f"Python after {python:.1f} s, loaded {loaded:.1f} s, first token {first:.1f} s; {rate:.1f} tokens/s; room for "
        f"{model.cache.tokens:,} tokens; predicted {model.predicted_bytes:,} bytes, measured {taken:,}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(**json.loads(arguments.serve))
        return
    import torch
    from shape_cuda import saved_network

    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    with saved_network(arguments.layers) as directory:
        for name, options in CASES.items():
            with tempfile.TemporaryDirectory() as kernels:
                for _ in range(2):  # the first compiles them
                    print(f"{name}: ", end="", flush=True)
                    case = {"directory": str(directory), "options": options, "started": time.time()}
                    environment = {**os.environ, "TRITON_CACHE_DIR": kernels}
                    subprocess.run([sys.executable, __file__, "--serve", json.dumps(case)], check=True, env=environment)


if __name__ == "__main__":
    main()
