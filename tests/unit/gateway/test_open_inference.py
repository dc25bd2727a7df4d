"""What Triton itself is asked for a client: its time is not ours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.streams import EMPTY_PAYLOAD

from localmodel.api.gateway import GatewaySettings
from localmodel.gateway import exchange, open_inference
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.open_inference import OpenInference
from localmodel.gateway.record import Record
from localmodel.gateway.request import Request


async def test_tritons_time_is_no_overhead_of_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(exchange, "monotonic", lambda: now)

    class Session:
        @asynccontextmanager
        async def get(self, url: str, **_: Any) -> AsyncIterator[Any]:
            nonlocal now
            now += 3
            yield SimpleNamespace(status=200)

    async def read_whole(reply: Any) -> bytes:
        return b"{}"

    monkeypatch.setattr(open_inference, "read_whole", read_whole)
    settings = GatewaySettings(model_name="m", served_names=("m",), context_window=16, max_batch_size=1)
    nothing: Any = None
    site = OpenInference(settings, Session(), nothing, nothing, nothing, nothing)  # type: ignore[arg-type]
    sent: list[bytes] = []
    connection: Any = SimpleNamespace(write=sent.append, writing_paused=False)
    request = Request(None, EMPTY_PAYLOAD, connection)
    request.method, request.path = "GET", "/v2/health/live"
    one = Exchange(Record("r", "", "", "", ""), lambda ended: None)
    await site.respond(request, one)
    assert one.record.outcome == "ok" and sent[0].endswith(b"{}")
    assert one.record.overhead_seconds == 0
