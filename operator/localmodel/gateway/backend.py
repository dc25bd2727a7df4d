"""Supervises Triton: has it load the model, keeps the event stream, notices death and hang, starts again.

With `loading` it is the only writer of BackendState. It restarts no process: when a container has to go, the liveness
probe says so.
"""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

from localmodel.api.engine_status import EngineStatus
from localmodel.api.gateway import GatewaySettings
from localmodel.gateway import errors
from localmodel.gateway.backend_errors import BackendError, BackendGarbage, BackendSilent, BackendUnreachable, Refused
from localmodel.gateway.backend_state import DEAD_SECONDS, SILENCE_SECONDS, BackendState
from localmodel.gateway.canary import canary_answers, canary_embeds, canary_predicts
from localmodel.gateway.channel import Channel
from localmodel.gateway.events import CutReason, EventStream
from localmodel.gateway.load_progress import ProgressReader
from localmodel.gateway.loading import Loadable, Loading
from localmodel.gateway.pulse import Pulse
from localmodel.gateway.sequences import Sequences

log = logging.getLogger("localmodel.gateway.backend")

_TICK_SECONDS = 0.05
_STATUS_SECONDS = 2.0
_QUIET_SECONDS = 30.0
_CANARY_RETRY_SECONDS = 1.0
_END_SECONDS = 5.0
"""From the engine's last words to the moment when Triton knows that it is dead; it was one to three."""


class Backend:
    def __init__(
        self,
        settings: GatewaySettings,
        triton: Loadable,
        link: Channel,
        sequences: Sequences,
        *,
        on_new_triton: Callable[[], None],
        on_new_engine: Callable[[], None],
        on_status: Callable[[EngineStatus], None],
        on_cut: Callable[[CutReason], None],
    ) -> None:
        self._settings = settings
        self._channel = link
        self._sequences = sequences
        self._on_new_triton = on_new_triton
        self._on_new_engine = on_new_engine
        self._on_status = on_status
        self.stream = EventStream(link, sequences, on_cut)
        self._pulse = Pulse(link, self.stream)
        self.state = BackendState(since=monotonic())
        self._loading = Loading(triton, self.state, ProgressReader(settings.channel_token_file))
        self._canary: asyncio.Task[None] | None = None
        self._canary_at = 0.0

    async def run(self) -> None:
        while True:
            if await self._loading.wait_live():
                self._on_new_triton()
            if await self._loading.load():
                await self._serve()

    def witness(self, answered: bool) -> None:
        """Whether the engine answered a request, or the canary."""
        if answered and not self.state.evidence:
            log.info("the model answers: ready")
        elif self.state.evidence and not answered:
            log.warning("the model did not answer a request: not ready until it has answered one")
        self.state.witness(answered, monotonic())

    async def _serve(self) -> None:
        """From a loaded model to its loss."""
        self.stream.forget()
        self._on_new_engine()
        self.state.evidence = False
        self._canary_at = 0.0
        reading = asyncio.create_task(self.stream.run())
        polling = asyncio.create_task(self._poll_status())
        try:
            while await self._watch():
                for task in (reading, polling, self._canary):
                    if task is not None and task.done():
                        task.result()  # only a bug ends one of the first two, and whoever runs us must hear of it
                await asyncio.sleep(_TICK_SECONDS)
        finally:
            reading.cancel()
            polling.cancel()
            self._pulse.stop()
            if self._canary is not None:
                self._canary.cancel()
                self._canary = None
            await asyncio.wait({reading})
            self._sequences.fail_all(errors.upstream("Its process ended.", resend=True))

    async def _watch(self) -> bool:
        """One look; False when the engine is gone."""
        if self.stream.failure:
            self._lose_engine(self.stream.failure)
            await self._see_it_end()
            return False
        if self._pulse.look() > SILENCE_SECONDS:
            return await self._explain_silence()
        self._pulse.stop()
        if self.stream.step_age_seconds >= self._settings.step_timeout_seconds:
            self._loading.enter("Hung", f"A step has run for {self.stream.step_age_seconds:.0f} seconds.")
        elif self.stream.open.is_set():
            self._loading.enter("Ready")
            self._ask_canary()
        return True

    async def _explain_silence(self) -> bool:
        finding = await self._pulse.ask()
        silent = self.stream.silence.seconds
        if finding == "late" and silent > SILENCE_SECONDS:
            self._loading.enter("Hung", f"No event and no answer for {silent:.1f} seconds.")
            if silent > DEAD_SECONDS:
                self._sequences.fail_all(errors.upstream("It stopped answering.", resend=True))
        elif finding == "triton_gone":
            self._loading.lost(self._pulse.message)
            return False
        elif finding == "engine_dead":
            return self._lose_engine(self._pulse.message)
        return True

    async def _see_it_end(self) -> None:
        """Triton has to notice that the engine's process is gone: asked to unload the model before, it may stop
        answering. It still may after that (2 of 18 times); then the liveness probe has it restarted."""
        until = monotonic() + _END_SECONDS
        while monotonic() < until:
            try:
                await self._channel.status(_END_SECONDS)
            except BackendSilent:
                continue
            except (BackendError, BackendUnreachable):
                return
            except (BackendGarbage, Refused):
                pass
            await asyncio.sleep(_TICK_SECONDS)

    def _lose_engine(self, message: str) -> bool:
        """Its process ends or has ended, inside a living Triton."""
        self._loading.stale = True
        self.state.last_failure = message
        self._loading.enter("Unreachable", message)
        return False

    async def _poll_status(self) -> None:
        while True:
            await self._pulse.refresh()
            self.state.engine = self._pulse.engine
            if self._pulse.engine is not None:
                self._on_status(self._pulse.engine)
            await asyncio.sleep(_STATUS_SECONDS)

    def _ask_canary(self) -> None:
        if self.state.engine is None and self._settings.task != "TextGeneration":
            return  # its status says what can be asked; a failed canary is not repeated at once
        now = monotonic()
        quiet = now - self.state.evidence_at > _QUIET_SECONDS and not len(self._sequences)
        due = quiet or (not self.state.evidence and now - self._canary_at > _CANARY_RETRY_SECONDS)
        if due and (self._canary is None or self._canary.done()):
            self._canary_at = now
            self._canary = asyncio.create_task(self._run_canary())

    async def _run_canary(self) -> None:
        seconds = self._settings.timeouts.first_token_seconds
        if self._settings.task == "Predict":
            answered = await canary_predicts(self._channel, self.state.engine, seconds)
        elif self._settings.task == "Embedding":
            answered = await canary_embeds(self._channel, seconds)
        else:
            answered = await canary_answers(self._sequences, seconds)
        self.witness(answered)
