"""The other ranks as the first one sees them: started, watched, told of each step, ended.

Why it exists: a network that is shared by several cards is one instance. If one rank dies or freezes, the others wait for it for
ever inside a collective; whoever watches must be no part of that. It decides nothing about sequences and computes nothing.

A thread of its own starts the processes and stays: they die with it (`rank.die_with_parent`), which is to say with the process.
"""

import gc
import select
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from localmodel.api.engine import EngineConfig, parse_load_failure
from localmodel.engine.collectives import join, least_of_ranks, leave
from localmodel.engine.engine import Launched
from localmodel.engine.errors import DeviceUnavailable, LoadError, load_error
from localmodel.engine.failures import RankFailed
from localmodel.engine.launching import Launch
from localmodel.engine.network_config import NetworkConfig
from localmodel.engine.rank_link import Gone
from localmodel.engine.rank_messages import FAILED, LOADED, MEET, READY, Hello
from localmodel.engine.rank_process import RankProcess
from localmodel.engine.sequence import Work
from localmodel.engine.shards import divide
from localmodel.engine.step_plan import PlanWriter

FROZEN_SECONDS = 10.0
"""Without a sign of life, which a rank gives twice a second."""
LOOK_SECONDS = 0.5
STUCK_SECONDS = 10.0
"""In a collective, after what it waits for has been ended."""
LEAVE_SECONDS = 5.0
PATIENCE_SECONDS = 2.0
"""For the news of a rank's end, once a collective has failed because of it."""


class Ranks:
    """All but the first."""

    def __init__(
        self, config: EngineConfig, on_failure: Callable[[RankFailed], None], on_stuck: Callable[[RankFailed], None]
    ) -> None:
        """Each is called at most once, from the watching thread: `on_failure` when a rank can't go on while it serves, and
        `on_stuck` if that was while it loaded, and the first one can't be freed to say so."""
        self._config = config
        self._on_failure = on_failure
        self._on_stuck = on_stuck
        self._device = torch.device("cpu")
        self._folder = Path(tempfile.mkdtemp(prefix="ranks-"))
        self._processes: list[RankProcess] = []
        self._news = threading.Condition()
        self._failure: RankFailed | None = None
        self._met = self._serving = self._stopping = False
        self._plans = PlanWriter(config.max_batch_size)
        self._launch: Launch | None = None

    def begin(self, sizes: NetworkConfig) -> NetworkConfig:
        share = divide(sizes, 0, self._config.ranks)
        threading.Thread(target=self._watch, name="ranks", daemon=True).start()
        return share

    def meet(self, device: torch.device) -> None:
        self._device = device
        self._await(LOADED)
        for process in self._processes:
            process.link.send(MEET)
        self._met = True
        join(0, self._config.ranks, self._folder / "meeting", device)

    def agree_on(self, blocks: int) -> int:
        return least_of_ranks(blocks, self._device)

    def explain(self, error: BaseException) -> BaseException:
        """What is behind `error`: a rank's end, if there was one, as a LoadError while loading."""
        if isinstance(error, LoadError):
            return error
        with self._news:
            self._news.wait_for(lambda: self._failure, PATIENCE_SECONDS)
            if self._failure is None:
                return error
            return self._failure if self._serving else _as_load_error(self._failure)

    def follow(self, launch: Launch) -> Launch:
        """`launch`, of which the others hear first. Raises LoadError unless all are ready."""
        self._await(READY)
        self._launch = launch
        with self._news:
            self._serving = True
        return self._tell_and_launch

    def _tell_and_launch(self, works: list[Work]) -> Launched:
        assert self._launch is not None
        plan = self._plans.write(works)
        for process in self._processes:
            process.link.send(plan)
        return self._launch(works)

    def stop(self) -> None:
        """Ends all of them, and what this one can compute."""
        with self._news:
            self._stopping = True
            self._news.notify_all()
        for process in self._processes:
            process.end()
        self._launch = None
        gc.collect()  # graphs hold what `leave` gives up
        leaving = threading.Thread(target=leave, name="leave", daemon=True)
        leaving.start()
        leaving.join(LEAVE_SECONDS)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _await(self, word: bytes) -> None:
        """Until every rank has said `word`. Raises LoadError if one can't."""
        with self._news:
            ranks = range(1, self._config.ranks)
            self._news.wait_for(
                lambda: self._failure or (len(self._processes) == len(ranks) and all(word in p.said for p in self._processes))
            )
            if self._failure:
                raise _as_load_error(self._failure)

    def _watch(self) -> None:
        try:
            with self._news:
                for rank in range(1, self._config.ranks):
                    hello = Hello(config=self._config, rank=rank, meeting_file=self._folder / "meeting")
                    self._processes.append(RankProcess(hello))
            while not self._failure and not self._stopping:
                self._look()
        except Exception as error:
            self._fail(RankFailed(f"the processes of the other cards can't be started or watched: {error!r}"))

    def _look(self) -> None:
        readable, _, _ = select.select([process.link for process in self._processes], [], [], LOOK_SECONDS)
        for process in self._processes:
            if process.link in readable:
                self._hear(process)
            elif self._serving and (silence := time.monotonic() - process.signs.read().seen) > FROZEN_SECONDS:
                self._fail(process.frozen(silence))

    def _hear(self, process: RankProcess) -> None:
        try:
            message = process.link.receive()
        except Gone:
            return self._fail(process.ended())
        if message.startswith(FAILED):
            return self._fail(RankFailed(message.removeprefix(FAILED).decode(), process.name))
        with self._news:
            process.said.add(message)
            self._news.notify_all()
        return None

    def _fail(self, failure: RankFailed) -> None:
        with self._news:
            if self._failure or self._stopping:
                return
            self._failure = failure
            serving = self._serving
            self._news.notify_all()
        if serving:
            self._on_failure(failure)
        for process in self._processes:  # so that nobody waits for them in a collective
            process.kill()
        if self._met and not serving:
            threading.Thread(target=leave, name="leave", daemon=True).start()
            with self._news:
                freed = self._news.wait_for(lambda: self._stopping, STUCK_SECONDS)
            if not freed:
                self._on_stuck(failure)


def _as_load_error(failure: RankFailed) -> LoadError:
    if own := parse_load_failure(str(failure)):
        return load_error(own.code, f"{failure.name}: {own.message}")
    return DeviceUnavailable(f"{failure} while it loaded; its log has the details")
