"""What the clients of a soak do, and whether what they get is right."""

import asyncio
import json
import random
from typing import Any

from bench.engine_clients import Engine, Heard, Instance, compare
from bench.engine_questions import Question, break_request

PATIENCE = 300
KINDS = {"stay": 60, "cancel": 18, "deadline": 5, "broken": 10, "twice": 4, "direct": 8}
"""How often each is drawn."""


class Soak:
    def __init__(self, engine: Engine, questions: list[Question]) -> None:
        self.engine = engine
        self.questions = questions
        self.references: list[Heard] = []
        self.counts = engine.counts
        self.stopping = False

    async def refer(self, instance: Instance) -> None:
        """Every question alone."""
        for question in self.questions:
            id_, heard = instance.new()
            await instance.submit(question.document(id_))
            await asyncio.wait_for(heard.ended.wait(), PATIENCE)
            self.references.append(heard)
            self._judge(instance, id_, heard, question, None)

    async def work(self, instance: Instance, seed: int) -> None:
        chance = random.Random(seed)
        while not self.stopping:
            kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
            number = chance.randrange(len(self.questions))
            if kind == "broken":
                await self._break(instance, chance.randrange(10**6))
            elif kind == "direct":
                await self._direct(self.questions[number], leaves=chance.random() < 0.5)
            else:
                await self._ask(instance, number, kind, chance.random())
            self.counts[kind] += 1

    async def _ask(self, instance: Instance, number: int, kind: str, share: float) -> None:
        question, reference = self.questions[number], self.references[number]
        id_, heard = instance.new()
        document = question.document(id_, **({"deadline_seconds": 0.05 + share} if kind == "deadline" else {}))
        while id_ not in (answer := await instance.submit(document)).get("accepted", []):
            code = answer.get("code") or answer.get("refused", {}).get(id_, {}).get("code")
            self.counts[f"again after {code}"] += 1
            if code not in ("overloaded", "stale_epoch", "no_event_stream"):  # the stream was cut meanwhile
                self.engine.complain(f"a good request was refused: {answer}")
                return
            await asyncio.sleep(0.2)
        if kind == "twice":
            await instance.submit(document)
        if kind == "cancel":
            await asyncio.sleep(2 * share**2)
            await instance.cancel(id_)
        await asyncio.wait_for(heard.ended.wait(), PATIENCE)
        self._judge(instance, id_, heard, question, reference if "seed" in question.sampling else None)

    def _judge(self, instance: Instance, id_: str, heard: Heard, question: Question, reference: Heard | None) -> None:
        if heard.end is None:
            self.counts["unheard, came back too late"] += 1
            instance.forget(id_)
            return
        self.counts[f"ended by {heard.end.finish_reason}"] += 1
        self.counts["tokens"] += heard.tokens
        self.counts["tokens compared"] += heard.tokens if reference else 0
        if problem := compare(heard, len(question.prompt), reference):
            self.engine.complain(f"{id_} ({heard.end.finish_reason}), question {question.sampling}: {problem}")
        instance.forget(id_)

    async def _break(self, instance: Instance, number: int) -> None:
        answer = await self.engine.post(break_request(number, instance))
        if answer.get("accepted") or not (answer.get("refused") or answer.get("code") or answer.get("error")):
            self.engine.complain(f"a broken request got {answer}")

    async def _direct(self, question: Question, *, leaves: bool) -> None:
        """A client of Triton alone, who may leave at the first words."""
        request = {"op": "generate", "prompt": question.prompt, "sampling": question.sampling}
        body = {"REQUEST": json.dumps(request)}
        async with self.engine.session.post(f"{self.engine.url}/models/llm/generate_stream", json=body) as reply:
            last: dict[str, Any] = {}
            async for line in reply.content:
                if line.startswith(b"data: "):
                    last = json.loads(json.loads(line[6:])["RESPONSE"])
                    if leaves:
                        return
        if not last.get("finish_reason") and last.get("code") != "overloaded":
            self.engine.complain(f"a direct answer ended with {last}")

    async def cut(self, instances: list[Instance], seconds: float) -> None:
        """Now and then one gateway loses its connection, and another never comes back."""
        chance = random.Random(9)
        for round_ in range(10**9):
            await asyncio.sleep(seconds)
            instance = chance.choice(instances)
            await instance.cut()
            await asyncio.sleep(chance.random() * 0.5)
            await instance.connect()
            self.counts["streams cut"] += 1
            if round_ % 3 == 0:
                ghost = Instance(self.engine, f"ghost-{round_}")
                await ghost.connect()
                await ghost.submit(*(question.document(ghost.new()[0]) for question in self.questions[:3]))
                await ghost.cut()
                self.counts["gateways gone"] += 1

    async def idle(self) -> bool:
        status = await self.engine.ask("status")
        return not (status["running"] or status["waiting"] or status["kv_tokens_used"])
