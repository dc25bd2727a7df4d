"""Whether a request sent now would reach the engine, asked by requests: the shell that reads the clock and the parts.

The rules are in `backend_state`; here they become the errors and waits of one request.
"""

import asyncio
from time import monotonic

from localmodel.gateway import backend_state, errors
from localmodel.gateway.backend import Backend
from localmodel.gateway.drain import Drain
from localmodel.gateway.ending import Ending
from localmodel.gateway.timers import Limit

_RENEWAL_SECONDS = 2.0
"""How long a request waits for a broken event stream to come back."""
_POLL_SECONDS = 0.02


class Readiness:
    def __init__(self, backend: Backend, drain: Drain, ending: Ending, step_timeout_seconds: float) -> None:
        self._backend = backend
        self._drain = drain
        self._ending = ending
        self._step_timeout_seconds = step_timeout_seconds

    def why_dead(self) -> str:
        stream = self._backend.stream
        state, now = self._backend.state, monotonic()
        return backend_state.why_dead(state, now, stream.silence.seconds, stream.step_age_seconds, self._step_timeout_seconds)

    def check(self) -> None:
        """Raises if a new request should not be taken."""
        if self._drain.refusing:
            raise errors.draining()
        self._check_backend()

    def _why_not_serving(self) -> tuple[str, str] | None:
        return backend_state.why_not_serving(self._backend.state, stream_open=self._backend.stream.open.is_set())

    def _check_backend(self) -> None:
        why = backend_state.why_not_serving(self._backend.state, stream_open=True)
        if why is not None:
            raise errors.not_ready(why[1])

    async def wait_stream(self, limit: Limit) -> None:
        """Outlasts a short break of the event stream; raises if the backend is not there then."""
        stream = self._backend.stream
        if not stream.open.is_set():
            seconds = min(_RENEWAL_SECONDS, limit.at - monotonic())
            try:
                async with asyncio.timeout(seconds):
                    await stream.open.wait()
            except TimeoutError:
                raise errors.not_ready("The connection to the engine is being renewed.") from None
        self._check_backend()

    async def wait_backend(self, until: float) -> bool:
        """Outlasts a restart of the backend: whether it takes requests, latest at `until` (monotonic seconds).

        It must have spoken since this was asked: what ended a request may be a death that the supervisor has yet to notice.
        """
        asked, stream = monotonic(), self._backend.stream
        while stream.heard_at <= asked or self._why_not_serving() is not None:
            if monotonic() >= until or self._ending.error is not None:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True
