"""What guessing from the prompt brings and costs: the engine with and without it, alternately, on this machine's CPU.

    PYTHONPATH=operator python tests/bench/speculation.py MODEL_DIRECTORY [--dtype bfloat16] [--threads 1] [--rounds 3]

`copies` asks for a text of the prompt again, as extracts, edits and code do; `new` is drawn at temperature 1 and repeats
next to nothing. Prints the median tokens per second of the rounds, the ratio, and how many guesses were right; with --rows
first how long a step takes by its rows, which is what the decision rests on. Seconds are the process's own, so that a busy
machine can be used; the decision itself goes by the clock. Nothing is asserted.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer

from localmodel.api.channel import Sampling
from localmodel.api.engine import EngineConfig
from localmodel.engine.engine import Engine
from localmodel.engine.loader import LoadedModel, load_model
from localmodel.engine.scheduler import Scheduler
from localmodel.engine.sequence import Sequence, Work
from localmodel.engine.service import build_engine
from localmodel.engine.speculation import Speculation

ANSWER_TOKENS = 128
CONTEXT = 2048
DOCUMENTS = ["ARCHITECTURE.md", "docs/gateway.md", "CONTRIBUTING.md", "README.md"]


def make_prompts(tokenizer: Tokenizer, kind: str, batch: int, characters: int = 2000) -> list[list[int]]:
    root = Path(__file__).parents[2]
    prompts = []
    for number in range(batch):
        text = (root / DOCUMENTS[number % len(DOCUMENTS)]).read_text()[1000 * (number // 4) :][:characters]
        ask = f"Repeat this text word for word:\n\n{text}" if kind == "copies" else f"Write a story of dragon number {number}."
        chat = f"<|im_start|>user\n{ask}<|im_end|>\n<|im_start|>assistant\n"
        prompts.append(tokenizer.encode(chat, add_special_tokens=False).ids)
    return prompts


def run(engine: Engine, scheduler: Scheduler, prompts: list[list[int]], sampling: Sampling) -> float:
    """Tokens per second of the answers, from when the last prompt is computed."""
    engine._scheduler = scheduler
    for number, prompt in enumerate(prompts):
        engine.add_request(number, prompt, sampling)
    began, tokens = None, 0
    while any(engine.load()[:2]):
        outputs = engine.step()
        if began is not None:
            tokens += len(outputs)
        elif all(s.answer for s in scheduler._running.values()) and not scheduler.waiting:
            began = time.process_time()
    return tokens / (time.process_time() - began)


def print_rows(model: LoadedModel, tokenizer: Tokenizer, engine: Engine) -> None:
    """Milliseconds of a step that decodes one sequence and verifies 0, 1 ... tokens behind 500."""
    prompt = make_prompts(tokenizer, "copies", 1)[0][:500]
    blocks = list(range(model.cache.blocks))
    sequence = Sequence("s", tuple(prompt), 100, blocks=blocks)
    engine._launch([Work(sequence, 0, 0, len(prompt) - 1, False, 0, blocks)])
    line = []
    for drafted in (0, 1, 2, 3, 4, 6, 8, 12, 16):
        work = Work(sequence, 0, len(prompt) - 1, 1 + drafted, True, 0, blocks, tuple(prompt[:drafted]))
        times = []
        for _ in range(9):
            began = time.process_time()
            engine._launch([work]).wait()
            times.append(time.process_time() - began)
        line.append(f"{1 + drafted}: {statistics.median(times) * 1000:.1f}")
    print("ms by rows   " + "   ".join(line))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rows", action="store_true")
    parser.add_argument("--kinds", nargs="+", default=["copies", "new"])
    parser.add_argument("--characters", type=int, default=2000, help="of the text that is copied")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = EngineConfig(
        model_path=str(arguments.model), dtype=arguments.dtype, context_window=CONTEXT, max_batch_size=16,
        cpu_threads=arguments.threads, channel_token_file="unused",
    )  # fmt: skip
    model = load_model(config)
    engine = build_engine(model)
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    if arguments.rows:
        print_rows(model, tokenizer, engine)
    pool = engine._scheduler.pool
    speculation = Speculation()
    schedulers = [Scheduler(16, model.chunk, pool, speculation=each) for each in (None, speculation)]
    for kind in arguments.kinds:
        for batch in arguments.batches:
            prompts = make_prompts(tokenizer, kind, batch, arguments.characters)
            sampling = Sampling(temperature=float(kind == "new"), max_tokens=ANSWER_TOKENS, ignore_eos=True)
            before = speculation.drafted_tokens_total, speculation.accepted_tokens_total
            rounds = [[run(engine, scheduler, prompts, sampling) for scheduler in schedulers] for _ in range(arguments.rounds)]
            off, on = (statistics.median(column) for column in zip(*rounds, strict=True))
            ratio = statistics.median(on / off for off, on in rounds)
            drafted = speculation.drafted_tokens_total - before[0]
            accepted = speculation.accepted_tokens_total - before[1]
            print(
                f"{kind:6} batch {batch:2}: {off:6.1f} tok/s without, {on:6.1f} with, ratio {ratio:.2f}; "
                f"{accepted} of {drafted} guesses right, {arguments.rounds * batch * ANSWER_TOKENS} tokens",
                flush=True,
            )


if __name__ == "__main__":
    main()
