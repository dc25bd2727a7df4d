"""A process that compiles kernels into the cache that the engine which started it reads. Has no card, and no torch.

Why it exists: a third of what compiling takes is Python, and threads that compile keep the interpreter from the one that reads
weights (0042). Its jobs come from its standard input, pickled, as pickled bytes, and it ends with that. Of each it says one byte
when it is done, whether it succeeded or not: what failed is compiled again where it is needed, and says there why.
"""

import importlib
import os
import pickle
import sys
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


def compile_job(job: Job) -> None:
    import triton

    kernel = getattr(importlib.import_module(job.module), job.name)
    source = job.source(kernel, job.signature, job.constants, job.attributes)
    triton.compile(source, target=job.target, options=job.options)


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what compilers print
    sys.modules["torch"] = Names("torch")
    import triton.experimental.gluon.language  # noqa: F401 - before the first job comes

    while True:
        try:
            job: bytes = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            compile_job(pickle.loads(job))
        except Exception as error:
            print(f"a kernel is compiled later, because: {error!r}", file=sys.stderr, flush=True)
        answers.write(DONE)


if __name__ == "__main__":
    main()
