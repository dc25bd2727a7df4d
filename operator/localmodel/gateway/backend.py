"""Supervises Triton: waits for it, has it load the model, keeps the event stream, notices death and hang, starts again.

It is the only writer of BackendState. It restarts no process: when a container has to go, the liveness probe says so.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from time import monotonic

from localmodel.api.gateway import GatewaySettings
from localmodel.gateway import errors
from localmodel.gateway.backend_state import DEAD_SECONDS, SILENCE_SECONDS, BackendState
from localmodel.gateway.canary import canary_answers
from localmodel.gateway.channel import BackendError, BackendUnreachable, Channel
from localmodel.gateway.events import EventStream
from localmodel.gateway.pulse import Pulse
from localmodel.gateway.sequences import Sequences
from localmodel.gateway.triton import Triton

log = logging.getLogger("localmodel.gateway.backend")

_TICK_SECONDS = 0.05
_POLL_SECONDS = 0.2
_LIVE_POLL_SECONDS = 1.0
_STATUS_SECONDS = 2.0
_QUIET_SECONDS = 30.0
_CANARY_RETRY_SECONDS = 1.0
_BACK_OFF_SECONDS = (5.0, 10.0, 20.0, 40.0, 60.0)


class Backend:
    def __init__(
        self,
        settings: GatewaySettings,
        triton: Triton,
        link: Channel,
        sequences: Sequences,
        on_new_triton: Callable[[], None],
        *,
        back_off: tuple[float, ...] = _BACK_OFF_SECONDS,
    ) -> None:
        self._settings = settings
        self._triton = triton
        self._sequences = sequences
        self._on_new_triton = on_new_triton
        self._back_off = back_off
        self.stream = EventStream(link, sequences)
        self._pulse = Pulse(link, self.stream)
        self.state = BackendState(since=monotonic())
        self._gone = False
        """Triton itself has been seen to be away."""
        self._stale = False
        """Triton lives, but the engine's process inside it died: unload before load."""
        self._canary: asyncio.Task[None] | None = None
        self._canary_at = 0.0

    async def run(self) -> None:
        while True:
            await self._wait_live()
            if await self._load():
                await self._serve()

    def _enter(self, state: str, message: str = "") -> None:
        if self.state.enter(state, monotonic(), message):
            log.info("backend is %s %s", state, message)

    async def _wait_live(self) -> None:
        while not await self._is_live():
            self._gone = self._gone or self.state.state != "Starting"
            await asyncio.sleep(_POLL_SECONDS)
        if self._gone:
            self._gone = False
            self._on_new_triton()

    async def _is_live(self) -> bool:
        live = await self._triton.live()
        if live:
            self.state.live_at = monotonic()
        return live

    async def _load(self) -> bool:
        """True when loaded; False when Triton went away meanwhile."""
        for attempt in range(1_000_000):
            self._enter("Loading")
            began = monotonic()
            loading = asyncio.create_task(self._load_once())
            if not await self._while_live(loading):
                return False
            try:
                loading.result()
            except BackendUnreachable as error:
                self._lost(str(error))
                return False
            except BackendError as error:
                self._enter("LoadFailed", str(error))
                pause = self._back_off[min(attempt, len(self._back_off) - 1)]
                if not await self._while_live(asyncio.create_task(asyncio.sleep(pause))):
                    return False
            else:
                self.state.load_seconds = round(monotonic() - began, 3)
                return True
        return False

    async def _load_once(self) -> None:
        """Loads, unless a gateway before this one has: Triton would load it anew, beside the running one."""
        if self._stale:
            self._stale = False
            with contextlib.suppress(BackendError):
                await self._triton.unload()
        elif await self._triton.loaded():
            return
        await self._triton.load()

    async def _while_live(self, task: "asyncio.Task[None]") -> bool:
        """Waits for the task as long as Triton lives; three failed probes in a row, and it is cancelled."""
        failed = 0
        try:
            while True:
                await asyncio.wait({task}, timeout=_LIVE_POLL_SECONDS)
                if task.done():
                    return True
                failed = 0 if await self._is_live() else failed + 1
                if failed >= 3:
                    self._lost("Triton stopped answering.")
                    return False
        finally:
            task.cancel()

    def _lost(self, message: str) -> None:
        self._gone = self._stale = True
        self._enter("Unreachable", message)

    async def _serve(self) -> None:
        """From a loaded model to its loss."""
        self.stream.forget()
        self.state.evidence = False
        self.stream.heard_at = monotonic()
        self._canary_at = 0.0
        reading = asyncio.create_task(self.stream.run())
        polling = asyncio.create_task(self._poll_status())
        try:
            while await self._watch():  # noqa: ASYNC110 - several facts are looked at, some of them only clocks
                await asyncio.sleep(_TICK_SECONDS)
        finally:
            reading.cancel()
            polling.cancel()
            self._pulse.stop()
            if self._canary is not None:
                self._canary.cancel()
            await asyncio.wait({reading})
            self._sequences.fail_all(errors.upstream("Its process ended."))

    async def _watch(self) -> bool:
        """One look; False when the engine is gone."""
        if self._pulse.silent_seconds > SILENCE_SECONDS:
            return await self._explain_silence()
        self._pulse.stop()
        if self.stream.step_age_seconds >= self._settings.step_timeout_seconds:
            self._enter("Hung", f"A step has run for {self.stream.step_age_seconds:.0f} seconds.")
        elif self.stream.open.is_set():
            self._enter("Ready")
            self._ask_canary()
        return True

    async def _explain_silence(self) -> bool:
        finding = await self._pulse.ask()
        silent = self._pulse.silent_seconds
        if finding == "late" and silent > SILENCE_SECONDS:
            self._enter("Hung", f"No event and no answer for {silent:.1f} seconds.")
            if silent > DEAD_SECONDS:
                self._sequences.fail_all(errors.upstream("It stopped answering."))
        elif finding == "triton_gone":
            self._lost(self._pulse.message)
            return False
        elif finding == "engine_dead":
            self._stale = True
            self._enter("Unreachable", self._pulse.message)
            return False
        return True

    async def _poll_status(self) -> None:
        while True:
            await self._pulse.refresh()
            self.state.engine = self._pulse.engine
            await asyncio.sleep(_STATUS_SECONDS)

    def _ask_canary(self) -> None:
        now = monotonic()
        quiet = now - self.state.evidence_at > _QUIET_SECONDS and not len(self._sequences)
        due = quiet or (not self.state.evidence and now - self._canary_at > _CANARY_RETRY_SECONDS)
        if due and (self._canary is None or self._canary.done()):
            self._canary_at = now
            self._canary = asyncio.create_task(self._run_canary())

    async def _run_canary(self) -> None:
        answered = await canary_answers(self._sequences, self._settings.timeouts.first_token_seconds)
        self.state.witness(answered, monotonic())
