"""Answers /v2/models/NAME/infer: checks the tensors, waits for a slot, lets Triton compute, passes its answer on.

Triton batches what is under way at once. No cancel can be sent: a client that leaves keeps its slot until Triton has answered.
"""

import asyncio
import json
from collections.abc import Callable
from time import monotonic

from localmodel.api.constants import TRITON_PREDICT_NAME
from localmodel.api.engine_status import EngineStatus
from localmodel.gateway import errors
from localmodel.gateway.answers import JSON, send
from localmodel.gateway.backend_errors import BackendGone, backend_error
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.failures import first_line
from localmodel.gateway.intake import OCTETS, read_body
from localmodel.gateway.kept_answer import KeptAnswer
from localmodel.gateway.lane import Lane, judge
from localmodel.gateway.request import Request
from localmodel.gateway.slots import Need
from localmodel.gateway.tensors import Infer, parse_infer
from localmodel.gateway.timers import Deadlines
from localmodel.gateway.upstream import Route, Upstreams
from localmodel.gateway.wire import error_message

_LENGTH = "inference-header-content-length"
_OWN_NAME = b'"model_name":' + json.dumps(TRITON_PREDICT_NAME).encode()


class Predictor:
    def __init__(self, triton_url: str, upstreams: Upstreams, lane: Lane, engine: Callable[[], EngineStatus | None]) -> None:
        self._url = f"{triton_url}/v2/models/{TRITON_PREDICT_NAME}/infer"
        self._upstreams = upstreams
        self._lane = lane
        self._engine = engine

    async def answer(self, request: Request, exchange: Exchange, name: str) -> None:
        self._lane.check_load()
        body = await read_body(request, exchange, (JSON, OCTETS))
        deadlines = self._lane.accept(request.headers, exchange.started)
        engine = self._engine()
        if engine is None or engine.signature is None:
            raise errors.not_ready("The model is being loaded.")
        infer = parse_infer(body, request.headers.get(_LENGTH), engine.signature.wire(), engine.max_batch_size)
        if infer.header_length is not None and exchange.request_body is not None:
            exchange.request_body = body[: infer.header_length]
        exchange.record.prompt_tokens = 0
        exchange.reserve(0)
        route = Route(self._url, {**_headers(infer), **exchange.trace_headers()}, body, stream=False, repeatable=True)
        need = Need(size=exchange.hold_body())

        async def attempt(again: bool) -> tuple[bytes, str | None]:
            with exchange.waiting():
                return await self._run(exchange, deadlines, route, need, again=again)

        until = deadlines.queue(monotonic()).at
        answered, length = await self._lane.resender.run(exchange, attempt, lambda: until)
        await _pass_on(request, exchange, answered, length, name, deadlines)

    async def _run(
        self, exchange: Exchange, deadlines: Deadlines, route: Route, need: Need, *, again: bool
    ) -> tuple[bytes, str | None]:
        """Triton's body, and the length of its JSON if tensors follow."""
        if not again:
            self._lane.check_serving()
        slot, trial = await self._lane.enter(exchange, deadlines.queue(monotonic()), need, again=again)
        ok: bool | None = None
        began = monotonic()
        limit = deadlines.first_token(began)
        try:
            async with self._upstreams.open(route, slot) as upstream:
                try:
                    async with asyncio.timeout(limit.at - began):
                        reply = await upstream.head()
                        body = bytearray()
                        while chunk := await upstream.read():
                            body += chunk
                except TimeoutError:
                    raise limit.error() from None
            exchange.record.first_token_seconds = monotonic() - began
            if reply.status != 200:
                raise _error(bytes(body), reply.status)
            ok = True
            return bytes(body), reply.headers.get(_LENGTH)
        except errors.ApiError as error:
            ok = judge(error)
            raise
        finally:
            self._lane.report(trial, ok)


def _headers(infer: Infer) -> dict[str, str]:
    """Triton would compress its answer for a client that takes that."""
    if infer.header_length is None:
        return {"content-type": JSON, "accept-encoding": "identity"}
    return {"content-type": OCTETS, "accept-encoding": "identity", _LENGTH: str(infer.header_length)}


def _error(body: bytes, status: int) -> errors.ApiError:
    """Of a request that was understood here: Triton's 400 is the network's word about the values."""
    message = error_message(body, status)
    gone = isinstance(backend_error(message, status), BackendGone)
    if status == 400 and not gone:
        return errors.bad_request(first_line(message), "inputs", "invalid_tensor")
    return errors.upstream(first_line(message), resend=gone)


async def _pass_on(
    request: Request, exchange: Exchange, body: bytes, length: str | None, name: str, deadlines: Deadlines
) -> None:
    """With the name that the client knows. A text inside JSON can't hold the bytes that are replaced: its quotes are escaped."""
    own = b'"model_name":' + json.dumps(name).encode()
    head, found, rest = body.partition(_OWN_NAME)
    if not found:
        raise errors.protocol("an answer without its model")
    headers = {} if length is None else {_LENGTH: str(int(length) + len(own) - len(_OWN_NAME))}
    if length is not None and exchange.keep_bodies:  # of a binary answer the log has the JSON
        exchange.keep_bodies, exchange.answer = False, KeptAnswer()
        exchange.answer.add(body[: int(length)])
    await send(
        request, exchange, 200, b"".join((head, own, rest)), content_type=JSON if length is None else OCTETS, headers=headers,
        until=deadlines.total.at,
    )  # fmt: skip
    exchange.close("ok")
