"""A scripted stand-in for Triton and the engine, for fault injection only: it speaks the channel and misbehaves on demand."""

import asyncio
import base64
import contextlib
import json
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from localmodel.api.channel import REQUEST, RESPONSE

STATUS = {
    "model_version": "1", "task": "TextGeneration", "architecture": "Fake", "parameters": 1, "dtype": "none", "device": "cpu",
    "context_window": 512,
    "max_batch_size": 4, "running": 0, "waiting": 0, "kv_tokens_capacity": 65536, "kv_tokens_used": 7, "weights_bytes": 1,
    "kv_bytes": 1, "memory_bytes": 1, "load_seconds": 0.1, "tokens_total": 0, "steps_total": 0, "step_age_seconds": 0.0,
}  # fmt: skip


@dataclass
class Plan:
    """How one sequence goes."""

    texts: tuple[str, ...] = ("The", " capital", " is", " Paris", ".")
    accept_delay: float = 0.0
    first_delay: float = 0.0
    begin: asyncio.Event | None = None
    """Nothing is said before it is set."""
    gap: float = 0.005
    stall_after: int | None = None
    """Stop sending after so many texts, until cancelled."""
    finish: str = "stop"
    error: str | None = None
    reply: dict[str, Any] | None = None
    """Answer the whole submit with this instead; nothing of it begins."""
    status: int = 200
    refusal: dict[str, str] | None = None
    """Of this sequence alone."""


@dataclass
class Client:
    """What the engine keeps of one gateway instance."""

    epoch: int = 0
    number: int = 0
    past: list[list[Any]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class FakeTriton:
    def __init__(self, port: int) -> None:
        self.port = port
        self.plan = Plan()
        self.loaded = False
        self.load_errors: list[str] = []
        self.loads = 0
        self.frozen = False
        """Neither events nor answers, as under SIGSTOP."""
        self.silent_live = False
        self.stub_dead = False
        self.stub_seconds = 1.0
        """How long Triton takes to say so: seen from at once to a second."""
        self.step_age = 0.0
        self.may_load = asyncio.Event()
        """Cleared: the model goes on loading."""
        self.may_load.set()
        self.may_cancel = asyncio.Event()
        """Cleared: cancels are not confirmed."""
        self.may_cancel.set()
        self.may_generate = asyncio.Event()
        """Cleared: `generate` says nothing."""
        self.may_generate.set()
        self.status: dict[str, Any] = {}
        """What the engine says of itself instead."""
        self.task = "TextGeneration"
        self.next_plans: list[Plan] = []
        """Of the next sequences, one each, before `plan` is used again."""
        self.embeds: list[dict[str, Any]] = []
        self.embedding: dict[str, asyncio.Event] = {}
        """Batches that are being computed; set: cancelled."""
        self.submits: list[list[str]] = []
        """The ids of each."""
        self.submitted: list[dict[str, Any]] = []
        """Each sequence, with what its submit said of all."""
        self.accepted: list[str] = []
        self.cancelled: list[str] = []
        self.overtaken: list[str] = []
        """Cancelled before their submit was answered."""
        self.told: Counter[str] = Counter()
        """Texts of each sequence that are on their way to the gateway."""
        self.generates: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.traces: list[tuple[str, str]] = []
        """traceparent and tracestate of the requests that had one."""
        self.running: dict[str, asyncio.Task[None]] = {}
        self.inject: list[bytes] = []
        """Bytes put into the event stream as they are."""
        self.cut_streams = 0
        """Break so many event streams."""
        self.last_words = ""
        """Said after the next sequence that ends with an error; then the engine's process is gone."""
        self.split = False
        """Send the event stream byte by byte."""
        self._dead = False
        self._clients: dict[str, Client] = {}
        self._plans: dict[tuple[str, str], Plan] = {}
        self._begun: set[tuple[str, str]] = set()
        self._runner: web.AppRunner | None = None
        self._sockets: set[web.StreamResponse] = set()

    @property
    def user_submits(self) -> list[dict[str, Any]]:
        """Without the gateway's own test requests."""
        return [s for s in self.submitted if not s["sampling"]["ignore_eos"]]

    @property
    def accepted_users(self) -> list[str]:
        return [s["id"] for s in self.user_submits if s["id"] in self.accepted]

    @property
    def user_cancels(self) -> list[str]:
        users = {s["id"] for s in self.user_submits}
        return [each for each in self.cancelled if each in users]

    async def heard_cancel(self, sequence: str) -> None:
        while sequence not in self.cancelled:  # noqa: ASYNC110 - a list that a handler fills
            await asyncio.sleep(0.002)

    async def start(self) -> None:
        self._dead = False
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def die(self) -> None:
        """The process ends: sockets close, everything is forgotten."""
        self._dead = True
        for task in self.running.values():
            task.cancel()
        self.running.clear()
        self._clients.clear()
        self.loaded = False
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        if "traceparent" in request.headers:
            self.traces.append((request.headers["traceparent"], request.headers.get("tracestate", "")))
        if request.path == "/v2/health/live":
            return web.Response(status=500 if self.silent_live else 200)
        if request.path.startswith("/v2/repository/models/llm/"):
            return await self._control(request.path.rsplit("/", 1)[1])
        if request.path == "/v2/models/llm":
            return web.json_response({"name": "llm", "versions": ["1"], "platform": "python", "inputs": [], "outputs": []})
        if request.path == "/v2/models/llm/ready":
            return web.Response(status=200 if self.loaded else 400)
        if request.path not in ("/v2/models/llm/generate", "/v2/models/llm/generate_stream"):
            return web.json_response({"error": "no such route"}, status=404)
        while self.frozen:  # noqa: ASYNC110 - a test sets it
            await asyncio.sleep(0.01)
        if self.stub_dead:
            await asyncio.sleep(self.stub_seconds)
            return web.json_response({"error": "Stub process 'llm_0_0' is not healthy."}, status=400)
        if not self.loaded:
            return web.json_response({"error": "Request for unknown model: 'llm' is not found"}, status=404)
        message = json.loads((await request.json())[REQUEST])
        return await getattr(self, f"_{message['op']}")(request, message)

    async def _control(self, verb: str) -> web.Response:
        if verb == "unload":
            self.loaded = self.stub_dead = False
            self._clients.clear()
            return web.Response()
        self.loads += 1
        await self.may_load.wait()
        if self.load_errors:
            return web.json_response({"error": self.load_errors.pop(0)}, status=400)
        self.loaded = True
        return web.Response()

    async def _status(self, request: web.Request, message: dict[str, Any]) -> web.Response:
        return answer({**STATUS, "task": self.task, "running": len(self.running), **self.status})

    async def _submit(self, request: web.Request, message: dict[str, Any]) -> web.Response:
        sequences = message["sequences"]
        self.submits.append([each["id"] for each in sequences])
        self.submitted += [{**message, **each} for each in sequences]
        plans = [self._plan_of(message["instance"], each) for each in sequences]
        await asyncio.sleep(max(plan.accept_delay for plan in plans))
        for plan in plans:
            if plan.reply is not None:
                return web.json_response(plan.reply, status=plan.status)
        client = self._clients.get(message["instance"])
        if client is None or client.epoch != message["epoch"]:
            return answer({"code": "no_event_stream", "message": "open events first"})
        refused = {each["id"]: plan.refusal for each, plan in zip(sequences, plans, strict=True) if plan.refusal}
        for each, plan in zip(sequences, plans, strict=True):
            if plan.refusal is None and (message["instance"], each["id"]) not in self._begun:
                self._begun.add((message["instance"], each["id"]))
                self.accepted.append(each["id"])
                self.running[each["id"]] = asyncio.create_task(self._generate_tokens(client, each, plan))
        return answer({"accepted": [each["id"] for each in sequences if each["id"] not in refused], "refused": refused})

    def _plan_of(self, instance: str, sequence: dict[str, Any]) -> Plan:
        """The same for a repeated submit."""
        key = instance, sequence["id"]
        if key not in self._plans:
            next_plan = self.next_plans.pop(0) if self.next_plans and not sequence["sampling"]["ignore_eos"] else self.plan
            self._plans[key] = Plan(texts=("x",), finish="length") if sequence["sampling"]["ignore_eos"] else next_plan
        return self._plans[key]

    async def _generate_tokens(self, client: Client, message: dict[str, Any], plan: Plan) -> None:
        sequence = message["id"]
        made = 0
        try:
            if plan.begin is not None:
                await plan.begin.wait()
            await asyncio.sleep(plan.first_delay)
            for text in plan.texts:
                if made == plan.stall_after:
                    await asyncio.Event().wait()
                made += 1
                more = logprobs(message, made)
                self.tell(client, [sequence, text, 1, None, None, None, *more] if more else [sequence, text])
                await asyncio.sleep(plan.gap)
        except asyncio.CancelledError:
            self.running.pop(sequence, None)
            self.tell(client, [sequence, "", 0, "cancelled", [len(message["prompt"]), made], None])
            raise
        self.running.pop(sequence, None)
        self.tell(client, [sequence, "", 0, plan.finish, [len(message["prompt"]), made], plan.error])

    def tell(self, client: Client, row: list[Any]) -> None:
        if self._dead:
            return
        client.number += 1
        client.past.append([client.number, self.step_age, False, [row]])
        client.news.set()

    async def _cancel(self, request: web.Request, message: dict[str, Any]) -> web.Response:
        await self.may_cancel.wait()
        self.cancelled += message["ids"]
        self.overtaken += [each for each in message["ids"] if each not in self.accepted]
        for sequence in message["ids"]:
            if sequence in self.embedding:
                self.embedding[sequence].set()
            if task := self.running.get(sequence):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        return answer({"cancelled": message["ids"]})

    async def _events(self, request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        client = self._clients.setdefault(message["instance"], Client())
        client.epoch = message["epoch"]
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        lost = message["after"] > client.number
        sent = client.number if lost else message["after"]
        await self._write(response, [sent, self.step_age, lost, []])
        while client.epoch == message["epoch"] and not self.stub_dead:
            if self.cut_streams:
                self.cut_streams -= 1
                break
            if self.frozen:
                await asyncio.sleep(0.01)
                continue
            while self.inject:
                await response.write(self.inject.pop(0))
            fresh = [batch for batch in client.past if batch[0] > sent]
            for batch in fresh or [[sent, self.step_age, False, []]]:
                await self._write(response, batch)
                self.told.update(row[0] for row in batch[3] if row[1])
                sent = batch[0]
            if self.last_words and any(row[3] == "error" for batch in fresh for row in batch[3]):
                await self._write(response, [sent, 0.0, False, [], self.last_words])
                self.last_words, self.stub_dead = "", True
            client.news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(client.news.wait(), 0.1)
        while self.stub_dead:  # noqa: ASYNC110 - the stream of a dead stub neither ends nor errs
            await asyncio.sleep(0.01)
        if request.transport is not None:
            request.transport.close()
        return response

    async def _write(self, response: web.StreamResponse, batch: list[Any]) -> None:
        data = b"data: " + envelope(batch) + b"\n\n"
        for piece in (data[i : i + 1] for i in range(len(data))) if self.split else (data,):
            await response.write(piece)
            if self.split:
                await asyncio.sleep(0)

    async def _embed(self, request: web.Request, message: dict[str, Any]) -> web.Response:
        self.embeds.append(message)
        cancelled = self.embedding[message["id"]] = asyncio.Event()
        try:
            async with asyncio.timeout(self.plan.accept_delay):
                await cancelled.wait()
            return answer({"code": "failed", "message": "the request was cancelled"})
        except TimeoutError:
            pass
        finally:
            del self.embedding[message["id"]]
        if self.plan.reply is not None:
            return web.json_response(self.plan.reply, status=self.plan.status)
        vectors = [struct.pack("<3f", len(ids), sum(ids), 0.5) for ids in message["inputs"]]
        return answer({"vectors": [base64.b64encode(vector).decode() for vector in vectors], "dimensions": 3})

    async def _generate(self, request: web.Request, message: dict[str, Any]) -> web.StreamResponse:
        self.generates.append(message)
        await self.may_generate.wait()
        end = {"text": "", "finish_reason": self.plan.finish, "error": self.plan.error}
        if not message["stream"] and self.plan.finish == "error":
            return answer(end)
        if not message["stream"]:
            return answer({"text": "".join(self.plan.texts), "finish_reason": "stop"})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for text in self.plan.texts:
            await response.write(b"data: " + envelope({"text": text}) + b"\n\n")
        if self.plan.finish == "error":
            await response.write(b"data: " + envelope(end) + b"\n\n")
        elif self.plan.error is not None:
            await asyncio.sleep(0.05)
            await response.write(b"data: " + json.dumps({"error": self.plan.error}, separators=(",", ":")).encode() + b"\n\n")
        return response


def logprobs(message: dict[str, Any], made: int) -> list[list[Any]]:
    """The seventh member of a row, if it was asked for: one made-up token."""
    top = message["sampling"]["logprobs"]
    return [] if top is None else [[[5, -0.25 * made, [[5 + rank, -0.25 * (made + rank)] for rank in range(top)]]]]


def envelope(document: Any) -> bytes:
    """As compact as Triton and the engine write it."""
    text = json.dumps(document, separators=(",", ":"))
    return json.dumps({"model_name": "llm", "model_version": "1", RESPONSE: text}, separators=(",", ":")).encode()


def answer(document: Any) -> web.Response:
    return web.Response(body=envelope(document), content_type="application/json")
