"""What guessing from the text brings and costs on a CUDA card: one engine with and without it by turns, Qwen2.5-7B's shape.

    PYTHONPATH=operator python tests/bench/speculation_cuda.py [--layers 28] [--batches 1 4 16] [--rounds 3]

Weights are random: with the best token each time an answer soon repeats itself, as a copy would; at temperature 1 it never does,
and all that guessing costs is left. Prints medians of tokens per second, their ratio, and how many guesses were right. The engine
does not guess on a card (`service.build_engine`) until this says that it pays. Nothing is asserted.
"""

import argparse
import statistics
import time
from functools import partial

import torch
from engine_waits_cuda import BLOCKS, SLOTS, make_engine

from localmodel.api.channel import Sampling
from localmodel.engine.blocks import BlockPool
from localmodel.engine.card_steps import room_beside
from localmodel.engine.engine import Engine
from localmodel.engine.kv_cache import GPU_BLOCK
from localmodel.engine.loader import GPU_BURST, GPU_CHUNK
from localmodel.engine.scheduler import Scheduler
from localmodel.engine.speculation import Speculation, StepCost

ANSWER = 400
SECOND, FURTHER = 0.2, 0.02
"""Of a step of one row, what the second takes and each further one, by `decode_cuda`: 4.9 ms, 5.7 and 6.2 with 16."""
KINDS = {
    "best tokens": Sampling(temperature=0, max_tokens=ANSWER, ignore_eos=True),
    "temperature 1": Sampling(temperature=1, max_tokens=ANSWER, ignore_eos=True),
}


def make_scheduler(speculation: Speculation | None) -> Scheduler:
    """Knows no beginnings: another one has written over them."""
    return Scheduler(
        SLOTS, GPU_CHUNK, BlockPool(BLOCKS, GPU_BLOCK), burst=GPU_BURST, beside=partial(room_beside, slots=SLOTS),
        speculation=speculation,
    )  # fmt: skip


def tokens_per_second(engine: Engine, batch: int, sampling: Sampling) -> float:
    for number in range(batch):
        engine.add_request(number, [number + 5, *range(1000, 1500)], sampling)
    answering: set[object] = set()
    while len(answering) < batch:
        answering |= {output.key for output in engine.step()}
    began, made = time.perf_counter(), 0
    while any(engine.load()[:2]):
        made += sum(output.token is not None for output in engine.step())
    seconds = time.perf_counter() - began
    engine.step()
    return made / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    engine = make_engine(arguments.layers)
    speculation = Speculation(StepCost(SECOND, FURTHER), most_rows=SLOTS)
    for batch in arguments.batches:
        for kind, sampling in KINDS.items():
            rates: dict[Speculation | None, list[float]] = {None: [], speculation: []}
            for round_ in range(arguments.rounds + 1):  # graphs are captured in the first
                for used, measured in rates.items():
                    engine._scheduler = make_scheduler(used)
                    measured.append(tokens_per_second(engine, batch, sampling))
                if not round_:
                    before = speculation.drafted_tokens_total, speculation.accepted_tokens_total
            drafted, right = speculation.drafted_tokens_total - before[0], speculation.accepted_tokens_total - before[1]
            without, guessing = (statistics.median(each[1:]) for each in rates.values())
            print(
                f"{batch:2} sequences, {kind}: {without:7.1f} tokens/s, guessing {guessing:7.1f} ({guessing / without:.2f} x), "
                f"{right} of {drafted} guesses right",
                flush=True,
            )


if __name__ == "__main__":
    with torch.inference_mode():
        main()
