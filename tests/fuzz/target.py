"""What is fuzzed: bytes of a client on a connection of the whole gateway, in one process with a scripted Triton; and the pure
readers of JSON and of events. `Target.run` raises if one input finds something.

Found means: an answer of 500 or one that is not ours, an exception nobody caught, a request that is not answered, a record
that is missing or says internal_error, a slot that is not given back, a call to Triton that no client may make, or a gateway
that does not answer the next client.
"""

import asyncio
import json
import logging
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from gateway.fake_triton import FakeTriton, Plan
from gateway.tiny_model import write_tiny_model
from gateway.wire import chat_bytes, request
from localmodel.api import channel
from localmodel.api.gateway import GatewaySettings
from localmodel.gateway import app, connection, errors, log, openai_request, prompts, sse, strict_json, wire
from localmodel.gateway.backend_errors import BackendError, BackendGarbage, Refused
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.redact import Redactor
from localmodel.gateway.sinks import Sink
from localmodel.gateway.targets import DescriptorTarget
from ports import free_ports

TOKEN = "the-token-of-the-fuzzer"
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v2/models/llm/generate", "/v2/models/llm/generate_stream")
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "What"}], "max_tokens": 4}
_UPSTREAM = re.compile(r"/v2/health/(live|ready)|/v2|/v2/repository/models/llm/load|/v2/models/llm(/ready|/generate(_stream)?)?")
_TICKS = 40
_ANSWER_SECONDS = 5.0


class Found(Exception):
    """An input that shows a fault of the gateway."""


class MemoryTransport(asyncio.Transport):
    """The client's end without a socket: the same bytes give the same steps every time."""

    def __init__(self, protocol: connection.Connection) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = bytearray()
        self.closed = False
        self.reading = True

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += data

    def writelines(self, data: Any) -> None:
        self.write(b"".join(data))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def write_eof(self) -> None:
        """The client sees the end and closes."""
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0


class _Alarm(logging.Handler):
    """An error in the log is a finding, too."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(self.format(record))


class Target:
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._alarm = _Alarm()
        logging.getLogger().addHandler(self._alarm)
        self._loop.set_exception_handler(lambda _, context: self._alarm.seen.append(repr(context)))
        self._open: list[Exchange] = []
        self._runs = 0
        self._loop.run_until_complete(self._start())

    async def _start(self) -> None:
        directory = Path(tempfile.mkdtemp(prefix="localmodel-fuzz-"))
        triton, serving, admin = free_ports(3)
        self._triton = FakeTriton(triton)
        self._triton.plan = Plan(texts=("Paris",), gap=0)
        await self._triton.start()
        settings = GatewaySettings(
            model_name="tiny", served_names=("tiny",), context_window=512, max_batch_size=4, serving_host="127.0.0.1",
            model_path=str(write_tiny_model(directory)), serving_port=serving, admin_host="127.0.0.1", admin_port=admin,
            triton_url=f"http://127.0.0.1:{triton}", endpoint_removal_seconds=0, log_mode="Full",
        )  # fmt: skip
        self._prompts = prompts.load_prompts(settings.model_path)
        self._records = log.RecordLog(
            [Sink("null", DescriptorTarget(os.open(os.devnull, os.O_WRONLY)), {}, b"")], Redactor((), ())
        )
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
        self._gateway = app.Gateway(
            settings, self._prompts, self._records, self._session, pod="pod", token=TOKEN, instance="fuzz"
        )  # fmt: skip
        self._listener = self._gateway._serving
        site, begin = self._listener.site, self._listener.site.open

        def remember(headers: Mapping[str, str], client: str | None) -> Exchange:
            self._open.append(begin(headers, client))
            return self._open[-1]

        site.open = remember  # type: ignore[method-assign]
        self._running = self._loop.create_task(self._gateway.run())
        async with asyncio.timeout(30):
            while not self._gateway._backend.state.evidence or not await self._answers():  # noqa: ASYNC110 - it starts
                await asyncio.sleep(0.05)
        self._open.clear()
        self._alarm.seen.clear()

    def close(self) -> None:
        self._loop.run_until_complete(self._end())
        self._loop.close()
        logging.getLogger().removeHandler(self._alarm)

    async def _end(self) -> None:
        self._gateway.stop()
        await self._running
        await self._session.close()
        await self._triton.die()
        self._records.close()

    def run(self, data: bytes) -> None:
        """The first byte chooses what the others are."""
        if len(data) < 2:
            return
        kind, how, rest = data[0] % 8, data[1], data[2:]
        if kind == 7:
            read_json(rest, self._prompts.vocabulary)
        elif kind == 6:
            read_events(rest, how)
        else:
            if kind in (4, 5):
                rest = request(PATHS[how % len(PATHS)], rest, "connection: close" if how & 64 else "x: y")
            self._loop.run_until_complete(self._talk(rest, how, (1 << 20, 1 << 20, 61, 7)[kind & 3]))

    async def _talk(self, data: bytes, how: int, cut: int) -> None:
        protocol, transport = self._connect()
        for start in range(0, len(data), cut):
            for _ in range(1000):
                if transport.reading or transport.closed:
                    break
                await asyncio.sleep(0)
            if transport.closed or not transport.reading:
                break
            protocol.data_received(data[start : start + cut])
            if how & 16:
                await asyncio.sleep(0)
        for _ in range(how % 16 if how & 32 else _TICKS):
            await asyncio.sleep(0)
        if not how & 32:
            await self._until(lambda: transport.closed or not protocol._body.is_eof() or not self._busy(), "an answer")
        if how & 128 and not transport.closed:
            protocol.eof_received()
        await self._end_connection(transport)
        await self._until(lambda: self._gateway._gate.slots.in_use == 0, "its slot back")
        self._check(bytes(transport.written))
        self._runs += 1
        if self._runs % 200 == 0 and not await self._answers():
            raise Found("the next client got no answer")

    def _connect(self) -> tuple[connection.Connection, MemoryTransport]:
        protocol = self._listener()
        assert isinstance(protocol, connection.Connection)
        transport = MemoryTransport(protocol)
        protocol.connection_made(transport)
        return protocol, transport

    async def _end_connection(self, transport: MemoryTransport) -> None:
        transport.close()
        for _ in range(10):
            await asyncio.sleep(0)
        await self._until(lambda: not self._busy(), "the end")

    async def _answers(self) -> bool:
        protocol, transport = self._connect()
        protocol.data_received(chat_bytes(CHAT))
        await self._until(lambda: transport.closed or b"Paris" in transport.written, "an answer to the next client")
        await self._end_connection(transport)
        await self._until(lambda: self._gateway._gate.slots.in_use == 0, "the next client's slot")
        return bytes(transport.written).startswith(b"HTTP/1.1 200 ") and b"Paris" in transport.written

    def _busy(self) -> bool:
        return any(not exchange.closed for exchange in self._open)

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        for _ in range(_TICKS):
            if condition():
                return
            await asyncio.sleep(0)
        deadline = self._loop.time() + _ANSWER_SECONDS
        while not condition():
            if self._loop.time() > deadline:
                raise Found(f"no {what}")
            await asyncio.sleep(0.001)

    def _check(self, written: bytes) -> None:
        ended, self._open = self._open, []
        for exchange in ended:
            record = exchange.record
            if record.outcome == "internal_error" or record.status in (500, 502, 504):
                raise Found(f"{record.outcome} {record.status}")
        if self._alarm.seen:
            raise Found(self._alarm.seen.pop())
        if written and not re.match(rb"HTTP/1\.[01] (100|[2-5]\d\d) ", written):
            raise Found(f"no HTTP: {written[:80]!r}")
        if b"text/plain" in written or b"Traceback" in written:
            raise Found("an answer that is not ours")
        wrong = [path for path in self._triton.paths if not _UPSTREAM.fullmatch(path)]
        if wrong or any(message["token"] != TOKEN for message in self._triton.submitted):
            raise Found(f"Triton was asked for {wrong}")
        for seen in (
            self._triton.paths,
            self._triton.submitted,
            self._triton.generates,
            self._triton.accepted,
            self._triton.cancelled,
        ):
            seen.clear()  # type: ignore[attr-defined]


def read_json(body: bytes, vocabulary: int) -> None:
    """Whatever the bytes are: a value, or a 400; and what is read is what every parser reads."""
    try:
        document = strict_json.parse_object(body)
        if document != json.loads(body):
            raise Found("read differently by another parser")
        for endpoint in ("chat", "completions"):
            try:
                openai_request.parse_call(endpoint, document, ("tiny",), vocabulary)
            except errors.ApiError as error:
                json.loads(error.body())
                if error.status >= 500:
                    raise Found(f"{error.status}") from error
    except errors.ApiError as error:
        json.loads(error.body())
        if error.status != 400:
            raise Found(f"{error.status}") from error


def read_events(data: bytes, cut: int) -> None:
    """However the bytes of the engine's stream are cut, they are the same events; none breaks the reader."""
    whole = sse.Decoder().feed(data)
    decoder, step = sse.Decoder(), 1 + cut % 16
    pieces = [payload for start in range(0, len(data), step) for payload in decoder.feed(data[start : start + step])]
    if pieces != whole:
        raise Found("another cut, other events")
    for payload in [*whole, data]:
        for document in (payload, json.dumps({channel.RESPONSE: payload.decode("utf-8", "replace")}).encode()):
            try:
                batch = wire.parse_batch(document)
            except (BackendError, BackendGarbage, Refused):
                continue
            for event in batch.events:
                event.text.encode("utf-8", "surrogatepass")
