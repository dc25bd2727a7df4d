"""Tells silence from death: when the event stream falls silent, the engine is asked, and how it answers decides.

It reports what it finds; what follows from it is the supervisor's decision. All times are of listening (see `silence`), so that a
gateway that was itself stopped finds nothing late. A dead engine inside a living Triton takes a
second to be told from a hung one, so a verdict comes in two steps: late, then the cause.
"""

import asyncio
from time import monotonic
from typing import Literal

from localmodel.api.engine_status import EngineStatus
from localmodel.gateway.backend_errors import BackendError, BackendGarbage, BackendSilent, BackendUnreachable, Refused
from localmodel.gateway.channel import Channel
from localmodel.gateway.events import EventStream

_LATE_SECONDS = 1.7
"""So long the engine must have owed an answer before it counts as hung. One that died is told by Triton at once; one that is only
starved by other work of the machine was found to be silent for 0.7 s to 2.5 s, and answers what is sent to it."""
_PROBE_SECONDS = 2.0
_RENEW_SECONDS = 2.5
_PROOF_SECONDS = 1.0
"""So long the engine must have been known to answer while its stream says nothing: one that was frozen answers first."""
_WAIT_SECONDS = 0.05

Finding = Literal["alive", "asking", "late", "engine_dead", "triton_gone"]


class Pulse:
    def __init__(self, link: Channel, stream: EventStream) -> None:
        self._channel = link
        self._stream = stream
        self._probe: asyncio.Task[Finding] | None = None
        self._owed_since: float | None = None
        """Of this silence, in its seconds: when the engine was asked what it has not answered."""
        self._broken = False
        """The last question met no connection, or one that broke: said twice it means that Triton is gone."""
        self._answered_at: float | None = None
        """Of this silence, when the engine was first found to answer. Both in seconds of silence."""
        self.message = ""
        """Of the last finding of death, word for word."""
        self.engine: EngineStatus | None = None
        """The last answer."""

    def look(self) -> float:
        """Seconds of silence; to be called all the time."""
        return self._stream.silence.look(monotonic())

    async def ask(self) -> Finding:
        """Called again and again while the stream is silent; one probe runs at a time."""
        silent = self._stream.silence.seconds
        if self._owed_since is None:
            self._owed_since = silent
        if self._probe is None:
            self._probe = asyncio.create_task(self._ask_engine())
        done, _ = await asyncio.wait({self._probe}, timeout=_WAIT_SECONDS)
        late: Finding = "late" if silent - self._owed_since > _LATE_SECONDS else "asking"
        if not done:
            return late
        finding = self._probe.result()
        self._probe = None
        if finding != "late":
            self._owed_since = None
        broken, self._broken = self._broken, finding == "triton_gone"
        if finding == "triton_gone" and not broken:
            return "asking"
        if finding != "alive":
            self._answered_at = None
        elif self._answered_at is None:
            self._answered_at = silent
        elif self._stream.silence.seconds > max(_RENEW_SECONDS, self._answered_at + _PROOF_SECONDS):
            self._answered_at = silent  # the next connection gets its time, too
            self._stream.reconnect(f"no event for {silent:.1f} s though the engine answers")
        return late if finding == "late" else finding

    def stop(self) -> None:
        """The stream speaks again."""
        self._answered_at = self._owed_since = None
        self._broken = False
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
