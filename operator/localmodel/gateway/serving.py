"""The serving port: which path is answered by whom, in the order of checks that the design fixes."""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from localmodel.api.gateway import GatewaySettings
from localmodel.gateway import errors, strict_json
from localmodel.gateway.accounting import Accounting
from localmodel.gateway.answers import send
from localmodel.gateway.auth import Door
from localmodel.gateway.embedder import Embedder
from localmodel.gateway.exchange import Exchange, pick_request_id
from localmodel.gateway.generation import Generator
from localmodel.gateway.hosts import Hosts
from localmodel.gateway.intake import read_body
from localmodel.gateway.known_calls import KnownCalls
from localmodel.gateway.models import model_document, models_document
from localmodel.gateway.open_inference import OpenInference, looks_like_v2
from localmodel.gateway.openai_embeddings import parse_embedding_call
from localmodel.gateway.openai_request import Endpoint
from localmodel.gateway.page import Page
from localmodel.gateway.record import Record
from localmodel.gateway.request import Request
from localmodel.gateway.timers import Deadlines
from localmodel.gateway.trace_context import join_trace

_GENERATE: dict[str, Endpoint] = {"/v1/chat/completions": "chat", "/v1/completions": "completions"}
_EMBEDDINGS = "/v1/embeddings"
_MODELS = "/v1/models"
_MODELS_SECONDS = 10.0


class ServingSite:
    def __init__(
        self,
        settings: GatewaySettings,
        pod: str,
        door: Door,
        generator: Generator,
        embedder: Embedder,
        triton: OpenInference,
        accounting: Accounting,
    ) -> None:
        self._settings = settings
        self._pod = pod
        self._door = door
        self._generator = generator
        self._embedder = embedder
        self._triton = triton
        self._accounting = accounting
        self._calls = KnownCalls()
        self._page = Page() if settings.page else None
        self._hosts = Hosts(settings.serving_host, keyed=settings.keys_directory is not None)
        self._created = int(time.time())

    def open(self, headers: Mapping[str, str], client: str | None) -> Exchange:
        record = Record(
            request_id=pick_request_id(headers.get("x-request-id")),
            pod=self._pod,
            namespace=self._settings.namespace,
            model=self._settings.model_name,
            model_version=self._settings.model_version,
            client=client,
        )
        exchange = Exchange(record, self._accounting.end, join_trace(headers))
        self._accounting.begin(exchange)
        return exchange

    async def respond(self, request: Request, exchange: Exchange) -> None:
        path = request.path
        page = self._page if self._page is not None and path in self._page.paths else None
        if page is not None:
            exchange.record.endpoint = "page"
        elif path not in _GENERATE and looks_like_v2(path):
            exchange.record.endpoint = "v2"
        self._hosts.check(request.headers.get("host"))
        if page is not None:
            await page.respond(request, exchange)
            return
        exchange.caller = caller = self._door.admit(request.headers)
        exchange.record.key = caller.key
        try:
            await self._dispatch(request, exchange)
        except errors.ApiError as error:
            raise caller.judge(error) from None

    async def _dispatch(self, request: Request, exchange: Exchange) -> None:
        path = request.path
        endpoint = _GENERATE.get(path)
        infer = f"/v2/models/{self._settings.served_names[0]}/infer" if self._settings.task == "Predict" else ""
        if infer and (endpoint is not None or path == _EMBEDDINGS):
            exchange.record.endpoint = endpoint or "embeddings"
            raise errors.wrong_task("Predict", infer)
        if endpoint is not None:
            exchange.record.endpoint = endpoint
            await self._generate(request, exchange, endpoint)
        elif path == _EMBEDDINGS:
            exchange.record.endpoint = "embeddings"
            await self._embed(request, exchange)
        elif path == _MODELS or path.startswith(_MODELS + "/"):
            exchange.record.endpoint = "models"
            await self._models(request, exchange, path.removeprefix(_MODELS))
        elif exchange.record.endpoint == "v2":
            await self._triton.respond(request, exchange)
        else:
            raise errors.unknown_url(f"{infer} or /v1/models") if infer else errors.unknown_url()

    async def _generate(self, request: Request, exchange: Exchange, endpoint: Endpoint) -> None:
        body, deadlines = await self._receive(request, exchange)
        served = exchange.caller.visible(self._settings.served_names)
        call = self._calls.parse(endpoint, body, served, self._generator.prompts.vocabulary)
        exchange.record.served_name = call.model
        exchange.record.stream = call.stream
        await self._generator.answer(request, exchange, call, deadlines)

    async def _embed(self, request: Request, exchange: Exchange) -> None:
        body, deadlines = await self._receive(request, exchange)
        served = exchange.caller.visible(self._settings.served_names)
        call = parse_embedding_call(body, served, self._generator.prompts.vocabulary)
        exchange.record.served_name = call.model
        await self._embedder.answer(request, exchange, call, deadlines)

    async def _receive(self, request: Request, exchange: Exchange) -> tuple[dict[str, Any], Deadlines]:
        request.check_method("POST")
        self._generator.lane.check_load()
        received = await read_body(request, exchange)
        deadlines = self._generator.lane.accept(request.headers, exchange.started)
        return strict_json.parse_object(received), deadlines

    async def _models(self, request: Request, exchange: Exchange, rest: str) -> None:
        request.check_method("GET")
        served = exchange.caller.visible(self._settings.served_names)
        if rest:
            name = unquote(rest[1:])
            if name not in served:
                raise errors.model_not_found(served)
            document = model_document(name, self._created)
        else:
            document = models_document(served, self._created)
        until = exchange.started + _MODELS_SECONDS
        await send(request, exchange, 200, document, until=until)
        exchange.close("ok")
