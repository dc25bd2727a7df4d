"""The machine's own delays: gaps of a process that only sleeps, beside a measurement whose sleeps are late by as much.

Why it exists: a gap between two events on a busy machine is partly the machine's. It must cost next to nothing.
"""

import asyncio
import itertools
import os
import sys
import time
from pathlib import Path

STEP_SECONDS = 0.005
"""If none is given."""


async def measure_bare_loop(step: float, seconds: float) -> list[float]:
    """When it woke, of a new process that sleeps for `step` again and again."""
    arguments = ["-m", "bench.bare_loop", str(step or STEP_SECONDS), str(seconds)]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    written, _ = await process.communicate()
    return [float(word) for word in written.split()]


def describe_gaps(times: list[float]) -> str:
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    return ", ".join(f"p{part} {gaps[len(gaps) * part // 100] * 1000:.1f} ms" for part in (50, 99))


def go_first(*processes: int) -> None:
    """Gives them, and what they start, the processor before everything that has no real-time priority. Needs root.

    `nice` does not do that where the kernel shares processors by session (/proc/sys/kernel/sched_autogroup_enabled).
    """
    for process in processes:
        for thread in Path(f"/proc/{process}/task").iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(1))


if __name__ == "__main__":
    step, end = float(sys.argv[1]), time.monotonic() + float(sys.argv[2])
    times = [time.monotonic()]
    while times[-1] < end:
        time.sleep(step)
        times.append(time.monotonic())
    print(*times)
