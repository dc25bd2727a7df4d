"""What the gateway says about itself on the admin port: the document of /status and the gauges of /metrics.

It reads where each number lives, when somebody asks, and keeps nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import get_args

from localmodel import __version__
from localmodel.api import metrics as declared
from localmodel.api.gateway import GatewaySettings, GatewayStatus
from localmodel.gateway import backend_state
from localmodel.gateway.auth import Door
from localmodel.gateway.backend import Backend
from localmodel.gateway.breaker import Breaker, State
from localmodel.gateway.drain import Drain
from localmodel.gateway.gate import Gate
from localmodel.gateway.log import RecordLog
from localmodel.gateway.metrics import GatewayMetrics
from localmodel.gateway.prompts import Prompts


@dataclass
class Report:
    settings: GatewaySettings
    pod: str
    backend: Backend
    breaker: Breaker
    door: Door
    drain: Drain
    gate: Gate
    prompts: Prompts
    metrics: GatewayMetrics
    records: RecordLog
    lag_seconds: Callable[[], float]

    def status(self) -> GatewayStatus:
        state, circuit = self.backend.state, self.breaker.state(monotonic())
        why = backend_state.why_not_ready(
            state,
            stream_open=self.backend.stream.open.is_set(),
            draining=self.drain.draining,
            problem=self.door.missing or self.prompts.problem,
            circuit_open=circuit == "open",
        )
        reason, message = why or ("Ready", "")
        slots = self.gate.slots
        makes_vectors = state.engine is not None and state.engine.task == "Embedding"
        return GatewayStatus(
            pod=self.pod,
            model=self.settings.model_name,
            version=self.settings.model_version,
            gateway_version=__version__,
            ready=why is None,
            reason=reason,
            message=message,
            chat_problem="" if makes_vectors else self.prompts.chat_problem,
            keys_problem=self.door.problem,
            draining=self.drain.draining,
            breaker=circuit,
            slots=slots.slots,
            slots_in_use=slots.in_use,
            tokens_in_use=slots.tokens_in_use,
            queue_length=slots.queue_length,
            queued_bytes=slots.queued_bytes,
            backend=state.report(monotonic()),
        )

    def follow(self) -> None:
        """Connects the gauges, once."""
        slots, state, follow = self.gate.slots, self.backend.state, self.metrics.follow
        follow(declared.GATEWAY_SLOTS, lambda: slots.slots)
        follow(declared.GATEWAY_SLOTS_IN_USE, lambda: slots.in_use)
        follow(declared.GATEWAY_QUEUE_LENGTH, lambda: slots.queue_length)
        follow(declared.GATEWAY_QUEUE_BYTES, lambda: slots.queued_bytes)
        follow(declared.GATEWAY_LOOP_LAG_SECONDS, self.lag_seconds)
        follow(declared.GATEWAY_READY, lambda: self.status().ready)
        follow(declared.GATEWAY_KV_TOKENS, lambda: state.served.kv_tokens_capacity if state.served else 0, "capacity")
        follow(declared.GATEWAY_KV_TOKENS, lambda: state.served.kv_tokens_used if state.served else 0, "used")
        follow(declared.GATEWAY_KV_TOKENS, lambda: slots.tokens_in_use, "reserved")
        for name in get_args(State):
            follow(declared.GATEWAY_BREAKER, lambda name=name: self.breaker.state(monotonic()) == name, name)  # type: ignore[misc]

    def scrape(self) -> bytes:
        self.metrics.count_lost(self.records.lost)
        if self.backend.state.engine is not None:
            self.metrics.count_drafts(self.backend.state.engine)
        return self.metrics.render()
