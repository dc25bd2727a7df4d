"""Processes that compile kernels into the cache that the engine which started them reads. They have no card, and no torch.

Why it exists: a third of what compiling takes is Python, and threads that compile keep the interpreter from the one that reads
weights (0042). The first process imports Triton once and forks the others, one for each of the sockets it is given. Their jobs
come pickled, as pickled bytes; of each they say one byte when it is done, whether it succeeded or not: what failed is compiled
again where it is needed, and says there why. All end when the engine closes its ends.
"""

import importlib
import os
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

DONE = b"."


class Job(NamedTuple):
    """A call of Triton's `compile`."""

    source: type
    """Of Triton or of Gluon."""
    module: str
    name: str
    signature: dict[str, Any]
    constants: dict[tuple[int, ...], Any]
    attributes: dict[tuple[int, ...], Any]
    target: Any
    options: dict[str, Any]


class Names(ModuleType):
    """In the place of torch, which takes seconds to import: beside kernels only signatures of functions name it."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def nothing_is_compiled() -> bool:
    from triton import knobs

    return next(Path(knobs.cache.dir).glob("*/*.cubin"), None) is None


def prepare() -> None:
    """What is the same for every kernel, and takes a process 0.6 s of a processor."""
    sys.modules["torch"] = Names("torch")
    import triton.compiler.code_generator
    import triton.experimental.gluon.language  # noqa: F401
    from triton.runtime.cache import triton_key

    triton_key()


def compile_job(job: Job) -> None:
    import triton

    kernel = getattr(importlib.import_module(job.module), job.name)
    source = job.source(kernel, job.signature, job.constants, job.attributes)
    triton.compile(source, target=job.target, options=job.options)


def serve(socket: int) -> None:
    with os.fdopen(socket, "rb", closefd=False) as asked:
        while True:
            try:
                job: bytes = pickle.load(asked)
            except EOFError:
                return
            try:
                compile_job(pickle.loads(job))
            except Exception as error:
                print(f"a kernel is compiled later, because: {error!r}", file=sys.stderr, flush=True)
            os.write(socket, DONE)


def main(sockets: list[int]) -> None:
    if not nothing_is_compiled():
        return
    prepare()
    for socket in sockets:
        if os.fork() == 0:
            for other in sockets:
                if other != socket:
                    os.close(other)  # or its end would not be noticed
            try:
                serve(socket)
            finally:
                os._exit(0)
    for socket in sockets:
        os.close(socket)
    for _ in sockets:
        os.wait()


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]])
