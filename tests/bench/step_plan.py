"""What the plan of a step costs where several ranks share a network: to write, to send, to read; of sequences that decode.

    PYTHONPATH=operator python tests/bench/step_plan.py [--batches 1 16 64] [--steps 300]

Microseconds of the thread's processor time, medians, and bytes. The other end of the socket is a thread that only reads.
Nothing is asserted.
"""

import argparse
import socket
import statistics
import threading
import time
from contextlib import suppress
from itertools import pairwise

from localmodel.api.channel import Sampling
from localmodel.engine.blocks import BlockPool
from localmodel.engine.rank_link import Gone, Link
from localmodel.engine.scheduler import Scheduler
from localmodel.engine.sequence import Sequence
from localmodel.engine.step_plan import PlanReader, PlanWriter

WARM_UP = 100
PROMPT = tuple(range(600))


def drain(link: Link) -> None:
    with suppress(Gone):
        while True:
            link.receive()


def measure(batch: int, steps: int, link: Link) -> str:
    scheduler = Scheduler(batch, 256, BlockPool(batch * 20, 64, contiguous=False), burst=4096)
    for key in range(batch):
        scheduler.add(Sequence(key, PROMPT, steps + WARM_UP, sampling=Sampling(temperature=0)))
    writer, reader, times = PlanWriter(batch), PlanReader(batch), []
    for _ in range(steps):
        works = scheduler.plan()
        clock = [time.thread_time()]
        plan = writer.write(works)
        clock.append(time.thread_time())
        link.send(plan)
        clock.append(time.thread_time())
        reader.read(plan)
        clock.append(time.thread_time())
        scheduler.commit(works, [5] * sum(work.choices for work in works))
        times.append([1e6 * (after - before) for before, after in pairwise(clock)])
    write, send, read = (statistics.median(column) for column in zip(*times[WARM_UP:], strict=True))
    return f"batch {batch:3}: {len(plan):5} bytes; write {write:5.1f} us, send {send:4.1f} us, read {read:5.1f} us"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 64])
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    ours, theirs = socket.socketpair()
    link = Link(ours)
    threading.Thread(target=drain, args=(Link(theirs),), daemon=True).start()
    for batch in arguments.batches:
        print(measure(batch, arguments.steps, link), flush=True)


if __name__ == "__main__":
    main()
