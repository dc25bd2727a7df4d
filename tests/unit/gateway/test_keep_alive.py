"""Comments in the silence of a stream: at their pace, between events only, and never instead of an end."""

import asyncio
from time import monotonic

import aiohttp
import pytest

from gateway.invariants import check_stream
from localmodel.api.channel import Sampling
from localmodel.api.events import Usage
from localmodel.api.gateway import Timeouts
from localmodel.gateway import streaming
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.openai_answer import Chunks, Heading
from localmodel.gateway.openai_choice import Choice
from localmodel.gateway.openai_request import Call
from localmodel.gateway.pieces import Piece
from localmodel.gateway.record import Record
from localmodel.gateway.request import Request
from localmodel.gateway.server import Listener
from localmodel.gateway.timers import Deadlines


class SlowSource:
    """Says nothing until there were three comments, wakes early with half a character, then ends."""

    def __init__(self) -> None:
        self.finished = False
        self.usage = Usage(1, 2)
        self._wakes: set[float] = set()
        """A comment moves the next one."""

    async def first(self) -> list[Piece]:
        return [Piece(0, "first")]

    async def more(self, wake_at: float = 0.0, say: object = None) -> list[Piece]:
        self._wakes.add(wake_at)
        if len(self._wakes) <= 3:
            await asyncio.sleep(min(0.03, max(0.0, wake_at - monotonic())))
            return [Piece(0, "")]
        self.finished = True
        return [Piece(0, "end", (), "stop")]


class StreamSite:
    def open(self, headers: object, client: str | None) -> Exchange:
        return Exchange(Record("r", "", "", "", ""), lambda exchange: None)

    async def respond(self, request: Request, exchange: Exchange) -> None:
        call = Call("chat", "m", [], (), Sampling(), "max_tokens", True, False)
        deadlines = Deadlines(Timeouts(), exchange.started)
        chunks = Chunks(call, Heading("id", 1, "fp"), [Choice(call, None, None)])
        source = SlowSource()
        await streaming.StreamAnswer(request, exchange, chunks, deadlines).run(await source.first(), source)


async def test_keep_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "KEEP_ALIVE_SECONDS", 0.1)
    server = await asyncio.get_running_loop().create_server(Listener(StreamSite()), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    began = monotonic()
    async with aiohttp.ClientSession() as session, session.post(f"http://127.0.0.1:{port}/") as reply:
        stream = check_stream(await reply.read())
    server.close()
    assert stream.text == "firstend"
    assert stream.comments == 3 and monotonic() - began >= 0.3
