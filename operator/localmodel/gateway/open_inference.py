"""`/v2`: the little of Triton's protocol that is let through, rebuilt request by request.

Only ready, metadata, generate and generate_stream of the language model. The operation is set here, so that nobody outside can
submit, cancel or listen. A path is compared byte for byte and never decoded: another spelling is another path, and unknown.
"""

import json
import re
from time import monotonic
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from pydantic import ValidationError

from localmodel.api import channel
from localmodel.api.gateway import GatewaySettings
from localmodel.gateway import errors, strict_json
from localmodel.gateway.answers import send
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.hints import parse_hints
from localmodel.gateway.intake import read_body
from localmodel.gateway.relay import Relay
from localmodel.gateway.run import Lane
from localmodel.gateway.timers import Deadlines


def looks_like_v2(target: str) -> bool:
    """Whether an unknown path was meant for this protocol, whatever its spelling: its 404 has Triton's form."""
    path = unquote(unquote(target.split("?", 1)[0])).lower()
    path = re.sub(r"^[a-z]+://[^/]*", "", path)
    return re.match(r"[/\\.]*v2([/\\?]|$)", path) is not None


class OpenInference:
    def __init__(self, settings: GatewaySettings, session: aiohttp.ClientSession, lane: Lane) -> None:
        self._settings = settings
        self._session = session
        self._lane = lane
        self._names = frozenset((*settings.served_names, settings.triton_model))
        self._model_url = f"{settings.triton_url}/v2/models/{settings.triton_model}"

    async def respond(self, request: web.BaseRequest, exchange: Exchange, path: str) -> web.StreamResponse:
        exchange.record.endpoint = "v2"
        method, url = self._resolve(path)
        if request.method != method:
            raise errors.method_not_allowed(method)
        if method == "GET":
            return await self._get(request, exchange, url)
        return await self._generate(request, exchange, url)

    def _resolve(self, path: str) -> tuple[str, str]:
        if path in ("/v2", "/v2/health/live", "/v2/health/ready"):
            return "GET", self._settings.triton_url + path
        prefix, _, rest = path.partition("/v2/models/")
        for name in self._names:
            if prefix or not rest.startswith(name):
                continue
            match rest.removeprefix(name):
                case "" | "/ready" as verb:
                    return "GET", self._model_url + verb
                case "/generate" | "/generate_stream" as verb:
                    return "POST", self._model_url + verb
        raise errors.ApiError(404, "unknown_url", "Not Found", outcome="rejected")

    async def _get(self, request: web.BaseRequest, exchange: Exchange, url: str) -> web.StreamResponse:
        try:
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as reply:
                body = await reply.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            raise errors.not_ready("Triton does not answer.") from None
        response = await send(request, exchange, reply.status, body, until=monotonic() + 10)
        exchange.close("ok" if reply.status < 400 else "upstream_error")
        return response

    async def _generate(self, request: web.BaseRequest, exchange: Exchange, url: str) -> web.StreamResponse:
        body = rebuild(await read_body(request, exchange), stream=url.endswith("_stream"))
        deadlines = Deadlines(self._settings.timeouts, exchange.started, parse_hints(request.headers))
        self._lane.check_serving()
        with exchange.waiting():
            await self._lane.enter(exchange, deadlines)
        try:
            return await Relay(request, exchange, deadlines).run(self._session, url, body)
        except aiohttp.ClientError:
            raise errors.upstream("It could not be reached.") from None
        finally:
            self._lane.gate.leave()


def rebuild(body: bytes, *, stream: bool) -> bytes:
    """The request as the engine gets it: the fields of `channel.Generate` and nothing else."""
    outer = strict_json.parse_object(body)
    text = outer.get(channel.REQUEST)
    if not isinstance(text, str) or len(outer) != 1:
        raise errors.bad_request(f"Send one field, '{channel.REQUEST}': a text that holds a JSON object.", channel.REQUEST)
    inner = strict_json.parse_object(text.encode())
    try:
        generate = channel.Generate.model_validate({**inner, "op": "generate", "stream": stream})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise errors.bad_request(f"{channel.REQUEST}: '{where[:64]}': {first['msg']}", channel.REQUEST) from None
    return json.dumps({channel.REQUEST: generate.model_dump_json()}).encode()
