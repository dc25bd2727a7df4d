"""Puts the gateway's parts together and runs them until it is told to stop.

The only place that knows all parts. It decides nothing: it asks `backend_state` and `drain`.
"""

import asyncio
import logging
from time import monotonic

import aiohttp

from localmodel import __version__
from localmodel.api import metrics as declared
from localmodel.api.gateway import GatewaySettings, GatewayStatus
from localmodel.gateway import backend_state, errors
from localmodel.gateway.accounting import Accounting
from localmodel.gateway.admin import AdminSite
from localmodel.gateway.auth import Door
from localmodel.gateway.backend import Backend
from localmodel.gateway.canceller import cancel_abandoned
from localmodel.gateway.channel import Channel
from localmodel.gateway.drain import Drain
from localmodel.gateway.gate import Gate
from localmodel.gateway.generation import Generator
from localmodel.gateway.key_directory import KeyDirectory
from localmodel.gateway.log import RecordLog
from localmodel.gateway.loop_lag import LoopLag
from localmodel.gateway.metrics import GatewayMetrics
from localmodel.gateway.open_inference import OpenInference
from localmodel.gateway.prompts import Prompts
from localmodel.gateway.run import Lane
from localmodel.gateway.sequences import Sequences
from localmodel.gateway.server import Listener
from localmodel.gateway.serving import ServingSite
from localmodel.gateway.timers import Limit
from localmodel.gateway.triton import Triton

log = logging.getLogger("localmodel.gateway")

_RENEWAL_SECONDS = 2.0
"""How long a request waits for a broken event stream to come back."""
_STOP_SECONDS = 2.0


class Gateway:
    def __init__(
        self,
        settings: GatewaySettings,
        prompts: Prompts,
        records: RecordLog,
        session: aiohttp.ClientSession,
        *,
        pod: str,
        token: str,
        instance: str,
    ) -> None:
        self._settings = settings
        self._prompts = prompts
        self._pod = pod
        self._records = records
        self._metrics = GatewayMetrics(settings.model_name)
        self._lag = LoopLag()
        self._channel = Channel(session, settings.triton_url, settings.triton_model, token, instance)
        self._sequences = Sequences(self._channel, self._metrics.of(declared.GATEWAY_WASTED_TOKENS).inc)
        self._gate = Gate(settings.concurrency.max or settings.max_batch_size, settings.concurrency.queue)
        self._accounting = Accounting(settings.log_mode, self._metrics, records)
        self._drain = Drain(
            settings.endpoint_removal_seconds,
            settings.timeouts.total_seconds,
            busy=lambda: self._accounting.open_requests > 0,
            dead=lambda: backend_state.ends_nothing(self._backend.state, monotonic(), self._why_dead()),
        )
        triton = Triton(session, settings.triton_url, settings.triton_model)
        self._backend = Backend(settings, triton, self._channel, self._sequences, self._drain.backend_returned)
        self._keys = KeyDirectory(settings.keys_directory) if settings.keys_directory else None
        self._door = Door(settings, self._keys)
        self._serving = Listener(self._serving_site(session))
        self._admin = Listener(
            AdminSite(status=self.status, why_backend_dead=self._why_dead, drain=self._drain.run, metrics=self._scrape)
        )
        self._follow()

    def _serving_site(self, session: aiohttp.ClientSession) -> ServingSite:
        lane = Lane(
            gate=self._gate,
            sequences=self._sequences,
            check_serving=self._check_serving,
            wait_serving=self._wait_serving,
            witness=lambda answered: self._backend.state.witness(answered, monotonic()),
            on_pace=self._metrics.of(declared.GATEWAY_PER_TOKEN_SECONDS).observe,
        )
        generator = Generator(self._prompts, lane, self._settings.context_window, lambda: self._backend.state.engine)
        open_inference = OpenInference(self._settings, session, lane, self._prompts)
        return ServingSite(self._settings, self._pod, self._door, generator, open_inference, self._accounting)

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set, then drains. Raises if a background task fails: the process must not limp on."""
        loop = asyncio.get_running_loop()
        settings = self._settings
        admin = await loop.create_server(self._admin, settings.admin_host, settings.admin_port)
        serving = await loop.create_server(self._serving, settings.serving_host, settings.serving_port)
        tasks: list[asyncio.Task[None]] = [
            asyncio.create_task(self._backend.run()),
            asyncio.create_task(cancel_abandoned(self._channel, self._sequences)),
            asyncio.create_task(self._lag.run()),
            *([asyncio.create_task(self._keys.run())] if self._keys else []),
        ]
        stopping = asyncio.create_task(stop.wait())
        log.info("serving on port %d, admin on port %d", settings.serving_port, settings.admin_port)
        try:
            await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            await self._drain.run(for_good=True)
        finally:
            serving.close()
            await self._end_requests()
            admin.close()
            self._admin.pre_shutdown()
            await self._admin.shutdown(_STOP_SECONDS)
            for each in (stopping, *tasks):
                each.cancel()
            await asyncio.gather(stopping, *tasks, return_exceptions=True)

    async def _end_requests(self) -> None:
        """Whoever is still there hears why, and the engine hears of it."""
        self._serving.stopping = True
        self._sequences.fail_all(errors.draining())
        self._serving.pre_shutdown()
        await self._serving.shutdown(_STOP_SECONDS)

    def _why_dead(self) -> str:
        stream = self._backend.stream
        return backend_state.why_dead(
            self._backend.state,
            monotonic(),
            stream.heard_at,
            stream.step_age_seconds,
            self._settings.step_timeout_seconds,
        )

    def _check_serving(self) -> None:
        if self._drain.refusing:
            raise errors.draining()
        self._check_backend()

    def _check_backend(self) -> None:
        why = backend_state.why_not_serving(self._backend.state, stream_open=True)
        if why is not None:
            raise errors.not_ready(why[1])

    async def _wait_serving(self, limit: Limit) -> None:
        stream = self._backend.stream
        if not stream.open.is_set():
            seconds = min(_RENEWAL_SECONDS, limit.at - monotonic())
            try:
                async with asyncio.timeout(seconds):
                    await stream.open.wait()
            except TimeoutError:
                raise errors.not_ready("The connection to the engine is being renewed.") from None
        self._check_backend()

    def status(self) -> GatewayStatus:
        state = self._backend.state
        why = backend_state.why_not_ready(
            state,
            stream_open=self._backend.stream.open.is_set(),
            draining=self._drain.draining,
            problem=self._door.missing or self._prompts.problem,
        )
        reason, message = why or ("Ready", "")
        return GatewayStatus(
            pod=self._pod,
            model=self._settings.model_name,
            version=self._settings.model_version,
            gateway_version=__version__,
            ready=why is None,
            reason=reason,
            message=message,
            chat_problem=self._prompts.chat_problem,
            keys_problem=self._door.problem,
            draining=self._drain.draining,
            slots=self._gate.slots.slots,
            slots_in_use=self._gate.slots.in_use,
            queue_length=self._gate.slots.queue_length,
            backend=state.report(monotonic()),
        )

    def _follow(self) -> None:
        """Gauges are read when somebody scrapes, from where the number lives."""
        slots = self._gate.slots
        follow = self._metrics.follow
        follow(declared.GATEWAY_SLOTS, lambda: slots.slots)
        follow(declared.GATEWAY_SLOTS_IN_USE, lambda: slots.in_use)
        follow(declared.GATEWAY_QUEUE_LENGTH, lambda: slots.queue_length)
        follow(declared.GATEWAY_LOOP_LAG_SECONDS, lambda: self._lag.seconds)
        follow(declared.GATEWAY_READY, lambda: self.status().ready)
        state = self._backend.state
        follow(declared.GATEWAY_KV_TOKENS, lambda: state.engine.kv_tokens_capacity if state.engine else 0, "capacity")
        follow(declared.GATEWAY_KV_TOKENS, lambda: state.engine.kv_tokens_used if state.engine else 0, "used")

    def _scrape(self) -> bytes:
        self._metrics.count_lost(self._records.lost)
        return self._metrics.render()
