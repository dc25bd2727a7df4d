"""The processes that compile kernels for a start, as the engine holds them (`kernel_compiler`).

Why it exists: they are worth their own start only where much is to be compiled, and none of their failures may be one of the
engine's: who finds no process, or one that died, compiles by itself.
"""

import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from localmodel.engine.interpreter import NoInterpreter, environment, find_interpreter
from localmodel.engine.kernel_compiler import DONE, Job

LEAST = 4
"""Processors from which on: each process imports Triton first, 0.6 s of one."""


def nothing_is_compiled() -> bool:
    from triton import knobs

    cache = Path(knobs.cache.dir)
    return not cache.is_dir() or not any(cache.iterdir())


class Compilers:
    def __init__(self, count: int) -> None:
        """Where they can't be started there are fewer, and that is said."""
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            command = [find_interpreter(), "-P", "-m", "localmodel.engine.kernel_compiler"]
            for _ in range(count):
                process = subprocess.Popen(command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                self._processes.append(process)
                self._idle.put(process)
        except (NoInterpreter, OSError) as error:
            print(f"kernels are compiled by {len(self._processes)} processes, because: {error}", file=sys.stderr, flush=True)

    def compile(self, compile: Callable[[], Any]) -> None:
        """Into the cache, if `compile` is what Triton would have called and a process is there: never an error."""
        if (job := describe(compile)) is None:
            return
        try:
            process = self._idle.get_nowait()
        except Empty:
            return
        assert process.stdin and process.stdout
        try:
            process.stdin.write(pickle.dumps(pickle.dumps(job)))
            process.stdin.flush()
            if process.stdout.read(len(DONE)) == DONE:
                self._idle.put(process)
        except (OSError, pickle.PicklingError, AttributeError, TypeError) as error:  # as pickle says that it can't
            print(f"a kernel is compiled in the engine, because: {error!r}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Also those that still compile: a file is in the cache as a whole or not at all."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.communicate()


def describe(compile: Callable[[], Any]) -> Job | None:
    """What Triton's AsyncCompileMode is asked to call knows what to compile in its closure; None if another Triton does not."""
    known = inspect.getclosurevars(compile).nonlocals
    try:
        source, kernel = known["src"], known["src"].fn
        names = kernel.fn.__module__, kernel.fn.__name__
        options = dict(known["options"].__dict__)
        return Job(type(source), *names, source.signature, source.constants, source.attrs, known["target"], options)
    except (KeyError, AttributeError):
        return None
