"""What one random configuration takes of a card or of a process, driven to its worst: the part of `admitted` that measures.

It writes the network, loads it with a cap between too little and plenty, and asks for all that may be asked (`random_models`).
"""

import ctypes
import gc
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from localmodel.engine import calibration
from localmodel.engine.errors import OutOfMemory
from localmodel.engine.kv_cache import CPU_BLOCK, GPU_BLOCK
from localmodel.engine.loader import load_model
from localmodel.engine.memory import SERVER_BYTES
from localmodel.engine.resident import resident_bytes
from localmodel.engine.service import build_engine
from random_models import Drawn, Limits, draw, drive, write_model

CPU_LIMITS = Limits(vocabulary=60_000, context=1024, slots=32, tokens=3000)
CALIBRATED = 8
"""Every so manieth of 4 bits is rounded on samples, which takes seconds."""


@dataclass
class Result:
    seed: int
    outcome: str
    """served, refused (at load), or what went wrong."""
    cap: int = 0
    predicted: int = 0
    taken: int = 0
    beside: int = 0
    """Part of `taken`. On a card what CUDA took beside torch's allocator; on a CPU what the process held before, and what is
    planned for the server."""
    retries: int = 0
    """Times that torch's allocator gave back what it kept, to stay below the wall."""
    answered: int = 0
    seconds: float = 0.0


def choose_cap(drawn: Drawn, directory: Path, device: str) -> int:
    """`drawn.room` sequences of the whole context above what the engine predicts for all else before it has measured."""
    try:
        load_model(drawn.engine_config(directory, device, 1))
    except OutOfMemory as error:
        least = re.search(r"predicted (\d+) bytes", str(error))
    assert least, "a byte is not enough"
    block, element = GPU_BLOCK if device == "cuda" else CPU_BLOCK, 4 if drawn.dtype == "float32" else 2
    one = -(-drawn.context // block) * block * drawn.sizes.kv_elements_per_token * element
    return int(least[1]) + int((drawn.room - 1) * one) + (drawn.spare_bytes if device == "cuda" else 0)


def measure_on_card(drawn: Drawn, directory: Path) -> Result:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.reset_accumulated_memory_stats()
    result = Result(drawn.seed, "served", cap=choose_cap(drawn, directory, "cuda"))
    try:
        model = load_model(drawn.engine_config(directory, "cuda", result.cap))
    except OutOfMemory as error:
        result.outcome = "refused by the card" if "gave less" in str(error) else "refused"
        return result
    result.predicted = model.predicted_bytes
    torch.cuda.reset_peak_memory_stats()
    engine = build_engine(model)
    with ThreadPoolExecutor(1) as loop:  # another thread than the one that loads, as in a pod
        result.answered = loop.submit(drive, engine, drawn).result()
    result.beside = card_bytes_of_this_process() - torch.cuda.memory_reserved()
    result.taken = torch.cuda.max_memory_reserved() + result.beside
    result.retries = torch.cuda.memory_stats()["num_alloc_retries"]
    return result


def card_bytes_of_this_process() -> int:
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    rows = [line.split(",") for line in subprocess.check_output(command, text=True).splitlines()]
    return next(int(used) * 2**20 for pid, used in rows if int(pid) == os.getpid())


@contextmanager
def sampling_memory(every: float = 0.002) -> Iterator[Callable[[], int]]:
    """Gives a function that says the most anonymous memory so far, looked at now and then."""
    most, done = [anonymous_bytes()], threading.Event()

    def look() -> None:
        while not done.wait(every):
            most[0] = max(most[0], anonymous_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: max(most[0], anonymous_bytes())
    finally:
        done.set()
        thread.join()


def anonymous_bytes() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def measure_on_processor(drawn: Drawn, directory: Path) -> Result:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    base, mapped = resident_bytes(), resident_bytes() - anonymous_bytes()
    result = Result(drawn.seed, "served", cap=choose_cap(drawn, directory, "cpu"))
    with sampling_memory() as most:
        try:
            model = load_model(drawn.engine_config(directory, "cpu", result.cap))
        except OutOfMemory:
            result.outcome = "refused"
            return result
        result.predicted = model.predicted_bytes
        for part in (model.cache.keys, model.cache.values):
            part.zero_()  # as if every block had been used
        result.answered = drive(build_engine(model), drawn)
        result.taken = most() + mapped + SERVER_BYTES
    result.beside = base + SERVER_BYTES
    return result


def run(seeds: Iterable[int], device: str, say: Callable[[Result], None]) -> None:
    torch.set_num_threads(1)
    samples, none = calibration.SAMPLES, Path(tempfile.gettempdir()) / "no-samples.txt"
    none.write_text("")
    for seed in seeds:
        drawn = draw(seed, Limits() if device == "cuda" else CPU_LIMITS)
        calibration.SAMPLES = none if seed % CALIBRATED else samples
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as name:
            write_model(drawn, Path(name))
            try:
                result = (measure_on_card if device == "cuda" else measure_on_processor)(drawn, Path(name))
            except Exception as error:
                result = Result(seed, f"FAILED {type(error).__name__}: {str(error)[:300]}")
        result.seconds = time.monotonic() - began
        say(result)
