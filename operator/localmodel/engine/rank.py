"""`python -m localmodel.engine.rank SOCKET MEMORY`: one of the ranks behind the first, which started it and is its parent.

Why it exists: it holds its share of the weights and of the cache on its own card, and computes what the first rank says. It
schedules nothing, chooses nothing and answers nobody. It ends when the first rank does, whatever happened to that one, and when
anything goes wrong: it never goes on alone.
"""

import ctypes
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable

import torch

from localmodel.engine.collectives import join, least_of_ranks
from localmodel.engine.engine import Launched
from localmodel.engine.errors import LoadError
from localmodel.engine.failures import explain_failure
from localmodel.engine.housekeeping import QUIET_SECONDS, release_memory
from localmodel.engine.launching import make_launch
from localmodel.engine.loader import load_model
from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.rank_link import Gone, Link, SignsOfLife
from localmodel.engine.rank_messages import FAILED, LOADED, READY, Hello
from localmodel.engine.shards import divide
from localmodel.engine.step_plan import PlanReader

PR_SET_PDEATHSIG = 1
EXIT_CODE = 71
SOON_SECONDS = 0.05
"""After which no plan comes because the first rank waits for this step, or is idle."""


class Member:
    """What loading asks of this rank's team."""

    def __init__(self, hello: Hello, link: Link) -> None:
        self._hello = hello
        self._link = link
        self._device = torch.device("cpu")

    def begin(self, sizes: NetworkConfig) -> NetworkConfig:
        return divide(sizes, self._hello.rank, self._hello.config.ranks)

    def meet(self, device: torch.device) -> None:
        self._device = device
        self._link.send(LOADED)
        self._link.receive()  # all have
        join(self._hello.rank, self._hello.config.ranks, self._hello.meeting_file, device)

    def agree_on(self, blocks: int) -> int:
        return least_of_ranks(blocks, self._device)


class Rank:
    def __init__(self, link: Link, signs: SignsOfLife) -> None:
        self._link = link
        self._signs = signs
        self._launched: Launched | None = None

    def run(self) -> None:
        """Until the first rank closes its end. Raises Gone then, and LoadError, or what a step raised."""
        hello = Hello.model_validate_json(self._link.receive())
        if hello.config.device == "cuda":
            torch.cuda.set_device(hello.rank)
        model = load_model(hello.config, Member(hello, self._link))
        launch = make_launch(model)
        reader = PlanReader(model.cache.slots)
        device = model.cache.keys.device
        self._signs.keep_showing()
        self._link.send(READY)
        while True:
            launched = launch(reader.read(self._receive(device)))
            self._settle()
            self._launched = launched

    def _receive(self, device: torch.device) -> bytes:
        """The next plan. A card says what went wrong when it is waited for, so it is, if there is nothing else to do."""
        try:
            return self._link.receive(SOON_SECONDS)
        except TimeoutError:
            self._settle()
        try:
            return self._link.receive(QUIET_SECONDS)
        except TimeoutError:
            release_memory(device)
        return self._link.receive()

    def _settle(self) -> None:
        """Waits for the step before, on this thread: no other may ask the card while one captures a graph."""
        if self._launched:
            self._launched.wait()
            self._signs.count_step()
            self._launched = None

    def end(self, error: Exception) -> None:
        """Says why to the first rank, and ends the process."""
        with_words = f"{error}" if isinstance(error, LoadError) else f"{explain_failure(error)}"
        try:
            self._link.send(FAILED + with_words.encode())
        except Gone:
            pass
        if not isinstance(error, LoadError):
            traceback.print_exception(error)
        sys.stderr.flush()
        os._exit(EXIT_CODE)


def die_with_parent(parent: int) -> None:
    """Also of a signal that leaves the parent no time to close anything."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_CODE)


def main(arguments: list[str], exit_process: Callable[[int], None] = os._exit) -> None:
    connection, memory, parent = map(int, arguments)
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal's whole group; the first rank decides
    rank = Rank(Link(socket.socket(fileno=connection)), SignsOfLife(memory))
    try:
        rank.run()
    except Gone:
        exit_process(0)
    except Exception as error:
        rank.end(error)


if __name__ == "__main__":
    main(sys.argv[1:])
