"""Random small networks of every family, written in every dialect of config.json: do we answer as transformers, or refuse?

    PYTHONPATH=operator:tests python -m bench.fuzz_networks [--seed 0] [--count 100]

A number makes a network (`fuzz_files`), its files and its prompts. Each is answered by our engine in the ways of `fuzz_ways`,
greedily and with log-probabilities; transformers reads the same files in float32 and computes the same tokens at once. Every
token must be its best one (or as good to TIE), and every log-probability its own. Refusals are counted by their words. Ends
with 1 after a defect: a wrong number, a refusal of what is said to be supported, or an exception that is no LoadError.
"""

import argparse
import contextlib
import random
import tempfile
from collections import Counter
from pathlib import Path

import torch

from bench.fuzz_files import Case, draw, write
from bench.fuzz_ways import TOKENS, WAYS, Runs
from localmodel.api.engine import EngineConfig
from localmodel.engine.errors import LoadError
from localmodel.engine.loader import load_model

TIE = 5e-3


def draw_prompts(seed: int, vocabulary: int, longest: int) -> list[list[int]]:
    """Lengths around the borders of blocks and chunks; two with the same beginning."""
    source = random.Random(seed)
    borders = [near + by for near in (1, 16, 32, 48, 64, 128, 1024) for by in (-1, 0, 1) if 0 < near + by <= longest]
    lengths = [source.choice(borders) for _ in range(3)] + [source.randint(1, longest), longest]
    prompts = [[source.randrange(vocabulary) for _ in range(length)] for length in lengths]
    shared = prompts[-1][: source.randint(1, longest - 1)]
    return [*prompts, [*shared, source.randrange(vocabulary)]]


def find_fault(network, prompt, outputs) -> str:
    """What is wrong with the answer; empty if nothing is."""
    if len(outputs) != TOKENS or outputs[-1].finish != "length":
        return f"{len(outputs)} tokens, finish {outputs[-1].finish}"
    answer = [output.token for output in outputs]
    with torch.inference_mode():
        logits = network(torch.tensor([prompt + answer[:-1]])).logits[0, len(prompt) - 1 :]
    expected = logits.float().log_softmax(-1)
    for at, output in enumerate(outputs):
        row = expected[at]
        if row[output.token] < row.max() - TIE:
            return (
                f"token {at} is {output.token}, expected {int(row.argmax())} ({float(row.max() - row[output.token]):.4f} apart)"
            )
        for token, value in [(output.token, output.logprob.logprob), *output.logprob.top]:
            if abs(float(row[token]) - value) > TIE:
                return f"token {at}: log-probability of {token} is {value:.4f}, expected {float(row[token]):.4f}"
    return ""


def read_reference(directory: Path):
    """transformers' network, or None if it reads something else than what the files say."""
    from transformers import AutoModelForCausalLM

    network, news = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    return None if any(news.get(key) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")) else network.eval()


def try_case(case: Case, seed: int, directory: Path, seen: Counter) -> list[str]:
    """Faults."""
    try:
        write(case, directory)
    except Exception as error:
        seen[f"transformers makes none: {str(error).splitlines()[0][:60]}"] += 1
        return []
    config = EngineConfig(
        model_path=str(directory), dtype="float32", context_window=case.context, max_batch_size=4, cpu_threads=1,
        channel_token_file=str(directory / "token"),
    )  # fmt: skip
    try:
        network = read_reference(directory)
    except Exception as error:
        network = None
        seen[f"transformers refuses: {str(error).splitlines()[0][:60]}"] += 1
    try:
        model = load_model(config)
    except LoadError as refusal:
        seen[f"refused: {str(refusal)[:110]}"] += 1
        return [f"refused: {refusal}"] if case.supported and network is not None else []
    except Exception as error:
        return [f"load: {type(error).__name__}: {error}"]
    if not case.supported:
        return ["not refused"]
    if network is None:
        seen["read, and not by transformers"] += 1
    prompts = draw_prompts(seed, case.vocabulary, case.context - TOKENS)
    runs, faults = Runs(model, 4), []
    for name, way in WAYS.items():
        try:
            answers = runs.answer(way, prompts)
        except Exception as error:
            faults.append(f"{name}: {type(error).__name__}: {error}")
            continue
        for prompt, outputs in zip(prompts, answers, strict=True):
            seen["answers"] += 1
            if network is not None and (fault := find_fault(network, prompt, outputs)):
                faults.append(f"{name}, prompt of {len(prompt)}: {fault}")
    seen.update(runs.seen)
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--count", type=int, default=100)
    arguments = parser.parse_args()
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    seen, wrong = Counter(), 0
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        case = draw(seed)
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(None):
            faults = try_case(case, seed, Path(folder), seen)
        wrong += bool(faults)
        for fault in faults[:3]:
            print(f"{seed} {case}: {fault}", flush=True)
    for what, count in sorted(seen.items()):
        print(f"{count:7} {what}")
    print(f"{arguments.count} networks, {wrong} with a fault")
    raise SystemExit(wrong > 0)


if __name__ == "__main__":
    main()
