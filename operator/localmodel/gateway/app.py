"""Puts the gateway's parts together and runs them until it is told to stop.

The only place that knows all parts. It decides nothing: it asks `backend_state` and `drain`.
"""

import asyncio
import logging
from time import monotonic

import aiohttp

from localmodel.api import metrics as declared
from localmodel.api.gateway import GatewaySettings
from localmodel.gateway import backend_state, errors
from localmodel.gateway.accounting import Accounting
from localmodel.gateway.admin import AdminSite
from localmodel.gateway.auth import Door
from localmodel.gateway.backend import Backend
from localmodel.gateway.breaker import Breaker
from localmodel.gateway.canceller import cancel_abandoned
from localmodel.gateway.channel import Channel
from localmodel.gateway.drain import Drain
from localmodel.gateway.embedder import Embedder
from localmodel.gateway.ending import Ending
from localmodel.gateway.first_load import Answer
from localmodel.gateway.gate import Gate
from localmodel.gateway.generation import Generator
from localmodel.gateway.hosts import Hosts
from localmodel.gateway.key_directory import KeyDirectory
from localmodel.gateway.lane import Lane
from localmodel.gateway.log import RecordLog
from localmodel.gateway.long_input import LongInput
from localmodel.gateway.loop_lag import LoopLag
from localmodel.gateway.metrics import GatewayMetrics
from localmodel.gateway.open_inference import OpenInference
from localmodel.gateway.predict_triton import load_through
from localmodel.gateway.predictor import Predictor
from localmodel.gateway.prompts import Prompts
from localmodel.gateway.readiness import Readiness
from localmodel.gateway.report import Report
from localmodel.gateway.resend import Resender
from localmodel.gateway.retries import RetryBudget
from localmodel.gateway.sequences import Sequences
from localmodel.gateway.server import MAX_CONNECTIONS, Listener
from localmodel.gateway.serving import ServingSite
from localmodel.gateway.upstream import Upstreams

log = logging.getLogger("localmodel.gateway")

_STOP_SECONDS = 2.0


class Gateway:
    def __init__(
        self, settings: GatewaySettings, prompts: Prompts, records: RecordLog, session: aiohttp.ClientSession,
        *, pod: str, token: str, instance: str, first_load: Answer | None = None,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._prompts = Prompts(None, None) if settings.task == "Predict" else prompts
        self._pod = pod
        self._records = records
        self._metrics = GatewayMetrics(settings.model_name)
        self._lag = LoopLag()
        self._ending = Ending()
        self._stop = asyncio.Event()
        self._channel = Channel(session, settings.triton_url, settings.triton_model, token, instance)
        self._sequences = Sequences(self._channel, self._metrics.of(declared.GATEWAY_WASTED_TOKENS).inc)
        concurrency = settings.concurrency
        self._gate = Gate(concurrency.max or settings.max_batch_size, concurrency.queue, concurrency.queue_bytes)
        self._breaker = Breaker(settings.breaker.failures, settings.breaker.open_seconds)
        self._accounting = Accounting(settings.log_mode == "Full", self._metrics, records)
        self._drain = Drain(
            settings.endpoint_removal_seconds,
            settings.timeouts.total_seconds,
            busy=lambda: self._accounting.open_requests > 0,
            dead=lambda: backend_state.ends_nothing(self._backend.state, monotonic(), self._readiness.why_dead()),
        )
        self._upstreams = Upstreams(session)
        self._backend = Backend(
            settings,
            load_through(session, settings, self._channel, first_load),
            self._channel,
            self._sequences,
            on_new_triton=self._drain.backend_returned,
            on_new_engine=self._forget_engine,
            on_status=lambda engine: self._gate.resize(engine.kv_tokens_capacity),
            on_cut=lambda reason: self._metrics.of(declared.GATEWAY_EVENT_STREAM_CUTS).labels(reason).inc(),
        )
        self._readiness = Readiness(self._backend, self._drain, self._ending, settings.step_timeout_seconds)
        self._keys = KeyDirectory(settings.keys_directory) if settings.keys_directory else None
        self._door = Door(settings, self._keys)
        self._serving = Listener(self._serving_site(session), lambda: self._drain.draining)
        report = self._report()
        report.follow()
        admin = AdminSite(
            status=report.status, why_backend_dead=self._readiness.why_dead, drain=self._drain.run, metrics=report.scrape,
            hosts=Hosts(settings.admin_host, keyed=False),
        )  # fmt: skip
        self._admin = Listener(admin)

    def _report(self) -> Report:
        return Report(
            settings=self._settings,
            pod=self._pod,
            backend=self._backend,
            breaker=self._breaker,
            door=self._door,
            drain=self._drain,
            gate=self._gate,
            prompts=self._prompts,
            metrics=self._metrics,
            records=self._records,
            lag_seconds=lambda: self._lag.seconds,
        )

    def _serving_site(self, session: aiohttp.ClientSession) -> ServingSite:
        settings, metrics = self._settings, self._metrics
        lane = Lane(
            timeouts=settings.timeouts,
            gate=self._gate,
            sequences=self._sequences,
            breaker=self._breaker,
            ending=self._ending,
            resender=Resender(
                settings.retries.attempts,
                RetryBudget(settings.retries.budget_percent),
                self._readiness.wait_backend,
                lambda result: metrics.of(declared.GATEWAY_RETRIES).labels(result).inc(),
            ),
            check_load=self._check_load,
            check_serving=self._readiness.check,
            wait_serving=self._readiness.wait_stream,
            witness=self._backend.witness,
            on_pace=metrics.of(declared.GATEWAY_PER_TOKEN_SECONDS).observe,
        )
        window = settings.context_window
        long_input = LongInput(settings.long_input, self._prompts)
        generator = Generator(self._prompts, lane, window, long_input, lambda: self._backend.state.engine)
        embedder = Embedder(self._prompts, lane, self._channel, window, lambda: self._backend.state.engine)
        predictor = Predictor(settings.triton_url, self._upstreams, lane, lambda: self._backend.state.engine)
        open_inference = OpenInference(self._settings, session, self._upstreams, lane, self._prompts, predictor)
        return ServingSite(self._settings, self._pod, self._door, generator, embedder, open_inference, self._accounting)

    def _forget_engine(self) -> None:
        self._breaker.reset()
        self._upstreams.forget()
        self._channel.forget()

    def _check_load(self) -> None:
        if self._lag.guard.overloaded:
            self._metrics.of(declared.GATEWAY_SHED_BY_LAG).inc()
            raise errors.overloaded(self._gate.slots.retry_after(monotonic()), "This server can't keep up with its streams.")

    def stop(self) -> None:
        """Drain and end; said again, end now."""
        if self._stop.is_set():
            self._drain.hurry()
        self._stop.set()

    async def run(self) -> None:
        """Serves until `stop` is called, then drains. Raises if a background task fails: the process must not limp on."""
        loop, settings = asyncio.get_running_loop(), self._settings
        admin = await loop.create_server(self._admin, settings.admin_host, settings.admin_port)
        serving = await loop.create_server(self._serving, settings.serving_host, settings.serving_port, backlog=MAX_CONNECTIONS)
        tasks: list[asyncio.Task[None]] = [
            asyncio.create_task(self._backend.run()),
            asyncio.create_task(cancel_abandoned(self._channel, self._sequences)),
            asyncio.create_task(self._lag.run()),
            *([asyncio.create_task(self._keys.run())] if self._keys else []),
        ]
        stopping = asyncio.create_task(self._stop.wait())
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
            await self._admin.end(_STOP_SECONDS)
            for each in (stopping, *tasks):
                each.cancel()
            await asyncio.gather(stopping, *tasks, return_exceptions=True)
            self._channel.close()

    async def _end_requests(self) -> None:
        """Whoever is still there hears why, and the engine hears of it."""
        self._serving.stopping = True
        goodbye = errors.draining()
        self._ending.announce(goodbye)
        self._gate.dismiss(goodbye)
        self._sequences.fail_all(goodbye)
        await self._serving.end(_STOP_SECONDS)
