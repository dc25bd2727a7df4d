"""When a request that failed may be sent again: the backend serves, and has spoken since."""

import asyncio
from time import monotonic
from types import SimpleNamespace
from typing import Any

from localmodel.gateway.backend_state import BackendState
from localmodel.gateway.ending import Ending
from localmodel.gateway.readiness import Readiness


def build(state: str = "Ready") -> tuple[Readiness, Any]:
    stream = SimpleNamespace(open=asyncio.Event(), heard_at=float("-inf"))
    stream.open.set()
    backend = SimpleNamespace(stream=stream, state=BackendState(state=state))
    return Readiness(backend, SimpleNamespace(), Ending(), 1.0), backend  # type: ignore[arg-type]


async def test_an_engine_that_has_not_spoken_since_may_be_dead() -> None:
    """Triton says that it is dead before the supervisor knows: retries must not be spent meanwhile."""
    readiness, backend = build()
    backend.stream.heard_at = monotonic()
    assert not await readiness.wait_backend(monotonic() + 0.1)
    waiting = asyncio.create_task(readiness.wait_backend(float("inf")))
    await asyncio.sleep(0)
    backend.stream.heard_at = monotonic() + 1
    assert await waiting


async def test_a_word_alone_is_not_enough() -> None:
    readiness, backend = build("Unreachable")
    waiting = asyncio.create_task(readiness.wait_backend(float("inf")))
    await asyncio.sleep(0)
    backend.stream.heard_at = monotonic() + 1
    await asyncio.sleep(0.1)
    assert not waiting.done()
    backend.state.enter("Ready", monotonic())
    assert await waiting
