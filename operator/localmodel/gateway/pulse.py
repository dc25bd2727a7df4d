"""Tells silence from death: when the event stream falls silent, the engine is asked, and how it answers decides.

It reports what it finds; what follows from it is the supervisor's decision. A dead engine inside a living Triton takes a
second to be told from a hung one, so a verdict comes in two steps: late, then the cause.
"""

import asyncio
from time import monotonic
from typing import Literal

from localmodel.api.channel import EngineStatus
from localmodel.gateway.backend_errors import BackendError, BackendGarbage, BackendSilent, BackendUnreachable, Refused
from localmodel.gateway.channel import Channel
from localmodel.gateway.events import EventStream

_LATE_SECONDS = 0.4
_PROBE_SECONDS = 2.0
_RENEW_SECONDS = 2.5
_WAIT_SECONDS = 0.05

Finding = Literal["alive", "asking", "late", "engine_dead", "triton_gone"]


class Pulse:
    def __init__(self, link: Channel, stream: EventStream) -> None:
        self._channel = link
        self._stream = stream
        self._probe: asyncio.Task[Finding] | None = None
        self._asked_at = 0.0
        self.message = ""
        """Of the last finding of death, word for word."""
        self.engine: EngineStatus | None = None
        """The last answer."""

    @property
    def silent_seconds(self) -> float:
        return monotonic() - self._stream.heard_at

    async def ask(self) -> Finding:
        """Called again and again while the stream is silent; one probe runs at a time."""
        if self._probe is None:
            self._asked_at = monotonic()
            self._probe = asyncio.create_task(self._ask_engine())
        done, _ = await asyncio.wait({self._probe}, timeout=_WAIT_SECONDS)
        if not done:
            return "late" if monotonic() - self._asked_at > _LATE_SECONDS else "asking"
        finding = self._probe.result()
        self._probe = None
        if finding == "alive" and self.silent_seconds > _RENEW_SECONDS:
            self._stream.reconnect()
        return finding

    def stop(self) -> None:
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None

    async def refresh(self) -> None:
        """The engine's numbers, when nothing is wrong."""
        await self._ask_engine()

    async def _ask_engine(self) -> Finding:
        try:
            self.engine = await self._channel.status(_PROBE_SECONDS)
        except BackendSilent:
            return "late"
        except BackendUnreachable as error:
            self.message = str(error)
            return "triton_gone"
        except BackendError as error:
            self.message = str(error)
            # A dead engine leaves its stream open and silent; a new Triton has closed it.
            return "engine_dead" if self._stream.open.is_set() else "triton_gone"
        except (BackendGarbage, Refused):
            return "alive"
        return "alive"
