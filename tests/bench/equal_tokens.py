"""A thousand prompts of real text on real weights in float32: are the greedy tokens those of transformers, however they are run?

    PYTHONPATH=operator:tests python -m bench.equal_tokens MODEL_DIRECTORY [--prompts 1000] [--threads 2]

Prompts are pieces of this repository's pages and of the Python standard library's docstrings. Each is answered by transformers
(`generate`, alone) and by our engine in the ways of WAYS, each of which must be seen to have happened (preemptions, prefixes
found, pieces). Ends with 1 if one token differs. `tests/triton/test_equal_transformers.py` is the same with fewer prompts.
"""

import argparse
import importlib
import inspect
import random
import time
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from engine_runs import run_all
from localmodel.api.channel import Sampling
from localmodel.api.engine import EngineConfig
from localmodel.engine.attention import Batch
from localmodel.engine.blocks import BlockPool
from localmodel.engine.engine import Engine, at_once
from localmodel.engine.loader import LoadedModel, load_model
from localmodel.engine.runner import Runner
from localmodel.engine.scheduler import Scheduler

TOKENS = 4
LONGEST = 48
SLOTS = 8
AT_ONCE = 32
MODULES = (
    "argparse", "asyncio", "collections", "csv", "dataclasses", "datetime", "decimal", "difflib", "email.message", "fractions",
    "functools", "heapq", "http.client", "inspect", "itertools", "json", "logging", "math", "os", "pathlib", "pickle", "queue",
    "random", "re", "shutil", "socket", "sqlite3", "statistics", "string", "subprocess", "tarfile", "tempfile", "textwrap",
    "threading", "time", "turtle", "typing", "unittest", "urllib.request", "uuid", "xml.etree.ElementTree", "zipfile",
)  # fmt: skip


def make_prompts(tokenizer: Tokenizer, count: int, seed: int = 0) -> list[list[int]]:
    """`count` different prompts of 2 ... LONGEST tokens."""
    root = Path(__file__).parents[2]
    pages = [root / "README.md", *sorted((root / "docs").glob("**/*.md"))]
    texts = [part for page in pages for part in page.read_text().split("\n\n")]
    for name in MODULES:
        module = importlib.import_module(name)
        members = [each for key, each in sorted(vars(module).items()) if inspect.isclass(each) or inspect.isroutine(each)]
        texts += [text for each in (module, *members) if (text := inspect.getdoc(each))]
    source = random.Random(seed)
    source.shuffle(texts)
    found: dict[tuple[int, ...], None] = {}
    for text in texts:
        ids = tokenizer.encode(text).ids
        if len(ids) >= 2:
            found[tuple(ids[: source.randint(2, LONGEST)])] = None
        if len(found) == count:
            return [list(prompt) for prompt in found]
    raise ValueError(f"the texts give {len(found)} prompts, not {count}")


def reference(directory: Path, prompts: list[list[int]]) -> list[list[int]]:
    """What transformers answers, each prompt alone."""
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        made = network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False)
        answers.append(made[0, len(prompt) :].tolist())
    return answers


def load(directory: Path, threads: int) -> LoadedModel:
    config = EngineConfig(
        model_path=str(directory), dtype="float32", context_window=LONGEST + TOKENS, max_batch_size=SLOTS, cpu_threads=threads,
        channel_token_file="unused",
    )  # fmt: skip
    return load_model(config)


class Watched:
    """An engine over `model` that knows what its steps were like."""

    def __init__(self, model: LoadedModel, *, chunk: int = 64, single_blocks: int = 0) -> None:
        """`single_blocks`: so many blocks of one token, instead of the model's own."""
        cache = replace(model.cache, blocks=single_blocks, block_size=1) if single_blocks else model.cache
        self.scheduler = Scheduler(SLOTS, chunk, BlockPool(cache.blocks, cache.block_size, contiguous=True))
        self.rows = 0
        """Of the largest step that computed prompts."""
        self.pieces = 0
        """Prompts' pieces that did not reach the prompt's end."""
        network = model.network

        def compute(batch: Batch, *more) -> torch.Tensor:
            self.rows = max(self.rows, len(batch.tokens))
            return network(batch, *more)

        runner = Runner(compute, cache, model.network_config.vocabulary)

        def run(works):
            self.pieces += sum(not work.samples for work in works)
            return runner.run(works)

        stops = model.directory.stop_tokens
        self.engine = Engine(
            at_once(run), self.scheduler, slots=SLOTS, context=cache.context, vocabulary=model.network_config.vocabulary,
            stop_tokens=stops,
        )  # fmt: skip

    def answer(self, prompts: list[list[int]], at_once: int = AT_ONCE) -> list[list[int]]:
        sampling = Sampling(temperature=0, max_tokens=TOKENS)
        answers = []
        for start in range(0, len(prompts), at_once):
            asked = {key: (prompt, sampling) for key, prompt in enumerate(prompts[start : start + at_once])}
            answers += run_all(self.engine, asked).values()
        return answers


def batched(model, prompts):
    watched = Watched(model)
    answers = watched.answer(prompts)
    return answers, watched.rows > LONGEST, f"steps of up to {watched.rows} rows"


def alone(model, prompts):
    watched = Watched(model)
    answers = watched.answer(prompts, 1)
    return answers, watched.rows <= LONGEST, f"steps of up to {watched.rows} rows"


def preempted(model, prompts):
    """Room for one sequence of the whole context: those that run together take each other's."""
    watched = Watched(model, single_blocks=model.cache.context)
    answers = watched.answer(prompts)
    return answers, watched.scheduler.preemptions_total > 0, f"{watched.scheduler.preemptions_total} preemptions"


def prefix_cached(model, prompts):
    """A few prompts, and the same again while their blocks are kept; the second answers count."""
    watched = Watched(model)
    answers = []
    for start in range(0, len(prompts), SLOTS):
        watched.answer(prompts[start : start + SLOTS])
        answers += watched.answer(prompts[start : start + SLOTS])
    found = watched.scheduler.prefix_tokens_total
    return answers, found > 0, f"{found} tokens found in the cache"


def chunked(model, prompts):
    watched = Watched(model, chunk=5)
    answers = watched.answer(prompts)
    return answers, watched.pieces > 0, f"{watched.pieces} pieces that were not a prompt's last"


WAYS = {"batched": batched, "alone": alone, "preempted": preempted, "prefix-cached": prefix_cached, "chunked": chunked}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    prompts = make_prompts(Tokenizer.from_file(str(arguments.model / "tokenizer.json")), arguments.prompts)
    began = time.monotonic()
    expected = reference(arguments.model, prompts)
    print(f"{len(prompts)} prompts, {sum(map(len, prompts))} tokens; transformers {time.monotonic() - began:.0f} s", flush=True)
    model = load(arguments.model, arguments.threads)
    failed = False
    for name, way in WAYS.items():
        began = time.monotonic()
        answers, happened, what = way(model, prompts)
        different = [number for number, answer in enumerate(answers) if answer != expected[number]]
        share = 1 - len(different) / len(prompts)
        print(f"{name:13}: {share:.2%} equal, {what}, {time.monotonic() - began:.0f} s", flush=True)
        for number in different[:5]:
            print(f"  prompt {number} {prompts[number]}: {answers[number]} instead of {expected[number]}")
        failed = failed or bool(different) or not happened
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
