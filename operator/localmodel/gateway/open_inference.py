"""`/v2`: the little of Triton's protocol that is let through, rebuilt request by request.

Only ready, metadata, generate and generate_stream of a language model, or infer of a Predict model. The operation is set here, so
that nobody outside can submit, cancel or listen. A path is compared byte for byte and never decoded: another spelling is another
path, and unknown.
"""

import json
import re
from time import monotonic
from urllib.parse import unquote

import aiohttp
from pydantic import ValidationError

from localmodel.api import channel
from localmodel.api.constants import TRITON_PREDICT_NAME
from localmodel.api.gateway import GatewaySettings
from localmodel.gateway import errors, strict_json
from localmodel.gateway.answers import send
from localmodel.gateway.auth import Caller
from localmodel.gateway.backend_errors import BackendGarbage
from localmodel.gateway.channel import read_whole
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.intake import read_body
from localmodel.gateway.lane import Lane, judge
from localmodel.gateway.predictor import Predictor
from localmodel.gateway.prompts import Prompts
from localmodel.gateway.relay import Relay
from localmodel.gateway.request import Request
from localmodel.gateway.slots import Need
from localmodel.gateway.timers import Deadlines
from localmodel.gateway.upstream import Route, Upstreams

_VERBS = {"": "GET", "/ready": "GET", "/generate": "POST", "/generate_stream": "POST"}
_PREDICT_VERBS = {"": "GET", "/ready": "GET", "/infer": "POST"}


def looks_like_v2(target: str) -> bool:
    """Whether an unknown path was meant for this protocol, whatever its spelling: its 404 has Triton's form."""
    path = unquote(unquote(target.split("?", 1)[0])).lower()
    path = re.sub(r"^[a-z]+://[^/]*", "", path)
    return re.match(r"[/\\.]*v2([/\\?]|$)", path) is not None


class OpenInference:
    def __init__(
        self, settings: GatewaySettings, session: aiohttp.ClientSession, upstreams: Upstreams, lane: Lane, prompts: Prompts,
        predictor: Predictor,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._session = session
        self._upstreams = upstreams
        self._lane = lane
        self._prompts = prompts
        self._predictor = predictor
        predicts = settings.task == "Predict"
        self._verbs = _PREDICT_VERBS if predicts else _VERBS
        self._model = TRITON_PREDICT_NAME if predicts else settings.triton_model
        self._model_url = f"{settings.triton_url}/v2/models/{self._model}"

    async def respond(self, request: Request, exchange: Exchange) -> None:
        exchange.record.endpoint = "v2"
        method, url, name = self._resolve(request.path, exchange.caller)
        request.check_method(method)
        if method == "GET":
            await self._get(request, exchange, url, name)
        elif url.endswith("/infer"):
            await self._predictor.answer(request, exchange, name)
        else:
            await self._generate(request, exchange, url)

    def _resolve(self, path: str, caller: Caller) -> tuple[str, str, str]:
        """Method, Triton's URL, and the model's name as the client writes it."""
        if path in ("/v2", "/v2/health/live", "/v2/health/ready"):
            return "GET", self._settings.triton_url + path, ""
        prefix, _, rest = path.partition("/v2/models/")
        for name in (*self._settings.served_names, self._model):
            if prefix or not rest.startswith(name):
                continue
            method = self._verbs.get(rest.removeprefix(name))
            if method is not None:
                caller.check_model(name)
                return method, self._model_url + rest.removeprefix(name), name
        raise errors.unknown_v2_url(self._settings.served_names[0], tuple(filter(None, self._verbs)))

    async def _get(self, request: Request, exchange: Exchange, url: str, name: str) -> None:
        try:
            with exchange.waiting():
                async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as reply:
                    body = await read_whole(reply)
        except (aiohttp.ClientError, TimeoutError, OSError, BackendGarbage):
            raise errors.not_ready("Triton does not answer.") from None
        if self._model == TRITON_PREDICT_NAME and name:
            body = body.replace(f'"name":"{self._model}"'.encode(), f'"name":{json.dumps(name)}'.encode(), 1)
        await send(request, exchange, reply.status, body, until=monotonic() + 10)
        exchange.close("ok" if reply.status < 400 else "upstream_error")

    async def _generate(self, request: Request, exchange: Exchange, url: str) -> None:
        self._lane.check_load()
        stream = url.endswith("_stream")
        generate = parse_generate(await read_body(request, exchange), stream=stream)
        deadlines = self._lane.accept(request.headers, exchange.started)
        tokens = await self._most_tokens(generate, deadlines)
        exchange.reserve(tokens)
        route = Route(url, {"content-type": "application/json", **exchange.trace_headers()}, rebuild(generate), stream)
        need = Need(tokens, exchange.hold_body())

        async def attempt(again: bool) -> None:
            if not again:
                self._lane.check_serving()
            await self._send(request, exchange, deadlines, route, need, again=again)

        until = deadlines.queue(monotonic()).at
        await self._lane.resender.run(exchange, attempt, lambda: until)

    async def _send(
        self, request: Request, exchange: Exchange, deadlines: Deadlines, route: Route, need: Need, *, again: bool
    ) -> None:
        with exchange.waiting():
            slot, trial = await self._lane.enter(exchange, deadlines.queue(monotonic()), need, again=again)
        ok: bool | None = None
        try:
            async with self._upstreams.open(route, slot) as upstream:
                relay = Relay(request, exchange, deadlines, lambda ok: self._lane.report(trial, ok))
                await relay.run(upstream, self._lane.ending, stream=route.stream)
        except errors.ApiError as error:
            ok = judge(error)
            raise
        finally:
            self._lane.report(trial, ok)

    async def _most_tokens(self, generate: channel.Generate, deadlines: Deadlines) -> int:
        """Prompt and answer. The answer's own count passes through here unread, so this is what a caller is charged."""
        window = self._settings.context_window
        if generate.prompt is not None:
            prompt = len(generate.prompt)
        else:
            prompt = len((await self._prompts.encode_inputs_async([generate.text or ""], deadlines.total))[0])
        return min(prompt + (generate.sampling.max_tokens or window), window)


def parse_generate(body: bytes, *, stream: bool) -> channel.Generate:
    """What is asked for: the fields of `channel.Generate` and nothing else. Raises ApiError 400."""
    outer = strict_json.parse_object(body)
    text = outer.get(channel.REQUEST)
    if not isinstance(text, str) or len(outer) != 1:
        raise errors.bad_request(f"Send one field, '{channel.REQUEST}': a text that holds a JSON object.", channel.REQUEST)
    inner = strict_json.parse_object(text.encode())
    try:
        return channel.Generate.model_validate({**inner, "op": "generate", "stream": stream})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise errors.bad_request(f"{channel.REQUEST}: '{where[:64]}': {first['msg']}", channel.REQUEST) from None


def rebuild(generate: channel.Generate) -> bytes:
    """The request as the engine gets it."""
    return json.dumps({channel.REQUEST: generate.model_dump_json()}).encode()
