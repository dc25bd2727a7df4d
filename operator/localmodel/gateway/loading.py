"""From a Triton that may not even run to a loaded model: waits for it, asks for the load, tries again where that failed.

It writes the states Loading, LoadFailed and Unreachable of the BackendState that it is given; what follows a load is the
supervisor's business.
"""

import asyncio
import contextlib
import itertools
import logging
from time import monotonic
from typing import Protocol

from localmodel.gateway.backend_errors import BackendError, BackendUnreachable
from localmodel.gateway.backend_state import BackendState
from localmodel.gateway.load_progress import ProgressReader

log = logging.getLogger("localmodel.gateway.backend")

_POLL_SECONDS = 0.05
_LIVE_POLL_SECONDS = 1.0
_BACK_OFF_SECONDS = (5.0, 10.0, 20.0, 40.0, 60.0)
_BAD = ("LoadFailed", "Unreachable", "Hung")


class Loadable(Protocol):
    """Triton and what it is to serve."""

    async def live(self) -> bool: ...

    async def loaded(self) -> bool: ...

    async def load(self) -> None: ...

    async def unload(self) -> None: ...


class Loading:
    def __init__(
        self, triton: Loadable, state: BackendState, progress: ProgressReader, back_off: tuple[float, ...] = _BACK_OFF_SECONDS
    ) -> None:
        self._triton = triton
        self._state = state
        self._back_off = back_off
        self._progress = progress
        self._gone = False
        """Triton itself has been seen to be away."""
        self.stale = False
        """Triton lives, but the engine's process inside it died: unload before load."""

    def enter(self, state: str, message: str = "") -> None:
        if self._state.enter(state, monotonic(), message):
            log.log(logging.WARNING if state in _BAD else logging.INFO, "backend is %s %s", state, message)

    def lost(self, message: str) -> None:
        """Triton went away."""
        self._gone = self.stale = True
        self.enter("Unreachable", message)

    async def wait_live(self) -> bool:
        """Returns when Triton is live; True if it had been away since the last call: it is a new one."""
        while not await self._is_live():
            self._gone = self._gone or self._state.state != "Starting"
            await asyncio.sleep(_POLL_SECONDS)
        returned, self._gone = self._gone, False
        return returned

    async def _is_live(self) -> bool:
        live = await self._triton.live()
        if live:
            self._state.live_at = monotonic()
        return live

    async def load(self) -> bool:
        """True when loaded; False when Triton went away meanwhile."""
        pauses = itertools.chain(self._back_off, itertools.repeat(self._back_off[-1]))
        while True:
            self.enter("Loading")
            began = monotonic()
            self._progress.begin()
            loading = asyncio.create_task(self._load_once())
            if not await self._while_live(loading):
                return False
            try:
                loading.result()
            except BackendUnreachable as error:
                self.lost(str(error))
                return False
            except BackendError as error:
                self.enter("LoadFailed", str(error))
                if not await self._while_live(asyncio.create_task(asyncio.sleep(next(pauses)))):
                    return False
            else:
                self._state.load_seconds = round(monotonic() - began, 3)
                return True

    async def _load_once(self) -> None:
        """Loads, unless a gateway before this one has: Triton would load it anew, beside the running one."""
        if self.stale:
            self.stale = False
            with contextlib.suppress(BackendError):
                await self._triton.unload()
        elif await self._triton.loaded():
            return
        await self._triton.load()

    async def _while_live(self, task: "asyncio.Task[None]") -> bool:
        """Waits for the task as long as Triton lives; three failed probes in a row, and it is cancelled.

        An engine that reads on is a sign of life, too: on a starved machine Triton was restarted in the middle of a load.
        """
        failed = 0
        try:
            while True:
                await asyncio.wait({task}, timeout=_LIVE_POLL_SECONDS)
                if task.done():
                    return True
                progress = self._progress.read()
                moves = progress is not None and progress != self._state.progress
                self._state.progress = progress
                if moves:
                    self._state.live_at = monotonic()
                failed = 0 if await self._is_live() or moves else failed + 1
                if failed >= 3:
                    self.lost("Triton stopped answering.")
                    return False
        finally:
            self._state.progress = None
            task.cancel()
