"""The processes that compile kernels for a start, as the engine holds them (`kernel_compiler`).

Why it exists: none of their failures may be one of the engine's. Who finds no process, or one that has ended, compiles by itself;
they end at once where something was compiled before.
"""

import inspect
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from localmodel.engine.interpreter import NoInterpreter, environment, find_interpreter
from localmodel.engine.kernel_compiler import DONE, Job

KERNEL_SECONDS = 30.0
"""One takes up to 3 s of a processor; after so long it is compiled in the engine."""
END_SECONDS = 5.0


class Compilers:
    def __init__(self, count: int) -> None:
        """Where they can't be started, that is said."""
        self._idle: SimpleQueue[socket.socket] = SimpleQueue()
        self._sockets: list[socket.socket] = []
        self._process: subprocess.Popen[bytes] | None = None
        theirs: list[socket.socket] = []
        try:
            for _ in range(count):
                ours, other = socket.socketpair()
                ours.settimeout(KERNEL_SECONDS)
                self._sockets.append(ours)
                theirs.append(other)
            numbers = [other.fileno() for other in theirs]
            command = [find_interpreter(), "-P", "-m", "localmodel.engine.kernel_compiler", *map(str, numbers)]
            self._process = subprocess.Popen(
                command, env=environment(), pass_fds=numbers, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True
            )
            for ours in self._sockets:
                self._idle.put(ours)
        except (NoInterpreter, OSError) as error:
            print(f"kernels are compiled in the engine, because: {error}", file=sys.stderr, flush=True)
        finally:
            for other in theirs:
                other.close()

    def compile(self, compile: Callable[[], Any]) -> None:
        """Into the cache, if `compile` is what Triton would have called and a process is there: never an error."""
        if (job := describe(compile)) is None:
            return
        try:
            link = self._idle.get_nowait()
        except Empty:
            return
        try:
            link.sendall(pickle.dumps(pickle.dumps(job)))
            if link.recv(len(DONE)) == DONE:
                self._idle.put(link)
        except OSError:  # it has ended, or hangs
            pass
        except Exception as error:  # pickle has many ways to say that it can't
            print(f"a kernel is compiled in the engine, because: {error!r}", file=sys.stderr, flush=True)

    def close(self) -> None:
        for link in self._sockets:
            link.close()
        if self._process is None:
            return
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)  # files are in the cache as a whole or not at all
            self._process.wait()


def describe(compile: Callable[[], Any]) -> Job | None:
    """What Triton's AsyncCompileMode is asked to call knows what to compile in its closure; None if another Triton's does not."""
    try:
        known = inspect.getclosurevars(compile).nonlocals
        source, kernel = known["src"], known["src"].fn
        names = kernel.fn.__module__, kernel.fn.__name__
        options = dict(known["options"].__dict__)
        return Job(type(source), *names, source.signature, source.constants, source.attrs, known["target"], options)
    except (KeyError, AttributeError, TypeError, ValueError):
        return None
