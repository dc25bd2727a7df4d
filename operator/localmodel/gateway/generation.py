"""Composes an OpenAI answer, a stream or one body, from what a Run says.

The status line waits for the first text, so that until then a failure has its real status.
"""

import time
from dataclasses import dataclass

from aiohttp import web

from localmodel.gateway.answers import send
from localmodel.gateway.exchange import Exchange
from localmodel.gateway.openai_answer import unary
from localmodel.gateway.openai_request import Call, fit_window
from localmodel.gateway.prompts import Prompts
from localmodel.gateway.run import Lane, Run
from localmodel.gateway.streaming import StreamAnswer
from localmodel.gateway.timers import Deadlines


@dataclass
class Generator:
    prompts: Prompts
    lane: Lane
    window: int

    async def answer(self, request: web.BaseRequest, exchange: Exchange, call: Call, deadlines: Deadlines) -> web.StreamResponse:
        prompt = await self.prompts.encode_async(call)
        exchange.record.prompt_tokens = len(prompt)
        sampling = fit_window(call, len(prompt), self.window)
        with Run(self.lane, exchange, deadlines, prompt, sampling) as run:
            text = await run.first()
            prefix = "chatcmpl" if call.endpoint == "chat" else "cmpl"
            answer_id = f"{prefix}-{exchange.record.request_id.removeprefix('req_')}"
            created = int(time.time())
            if call.stream:
                return await StreamAnswer(request, exchange, call, answer_id, created, deadlines).run(text, run)
            texts = [text]
            while not run.finish_reason:
                texts.append(await run.more())
            body = unary(call, answer_id, created, "".join(texts), run.finish_reason, run.usage)
            response = await send(request, exchange, 200, body, until=deadlines.total.at)
            exchange.close("ok")
            return response
