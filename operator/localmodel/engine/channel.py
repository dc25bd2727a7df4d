"""Answers the requests of gateways and direct clients, and turns the engine's outputs into their events.

Why it exists: who may speak and who owns which sequence is decided here, without Triton and without torch. It sends
single answers at once; everything on long streams is sent by the pump, from one thread, so that order is kept. `lock`
guards all state; it is never held while sending.
"""

import itertools
import threading
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Ids

from pydantic import BaseModel
from tokenizers import Tokenizer

from localmodel.api.channel import Cancel, Cancelled, Embed, Events, Generate, Refusal, StatusRequest, Submit, Submitted
from localmodel.api.engine_status import EngineStatus
from localmodel.engine.channel_token import tokens_match
from localmodel.engine.compiling import Compiling, answer_request
from localmodel.engine.constraint import Constraint
from localmodel.engine.direct import Direct
from localmodel.engine.errors import Refused
from localmodel.engine.gateways import Gateway, Gateways, Stream
from localmodel.engine.requests import parse_request
from localmodel.engine.running import Running, TakesRequests
from localmodel.engine.sequence import Key, Output


def refuse_embed(_request: Embed, _stream: Stream) -> None:
    raise Refused("invalid_request", "this model generates text; send embeddings to a model whose task is Embedding")


def has_nothing(_instance: str) -> None:
    """A gateway that is gone, of an engine where it owns sequences only, which the channel ends."""


class Channel:
    def __init__(
        self, engine: TakesRequests, tokenizer: Tokenizer, token: str, grace_seconds: float,
        publish: Callable[[list[Output]], None], status: Callable[[], EngineStatus],
        compile_schema: Callable[[str], Constraint], embed: Callable[[Embed, Stream], None] = refuse_embed,
        gateway_gone: Callable[[str], None] = has_nothing,
    ) -> None:  # fmt: skip
        """`publish` hands outputs to the thread that calls `deliver`, and wakes it. `compile_schema` may take a second;
        it and `embed`, which answers on its own, raise Refused. `gateway_gone` ends what `embed` has begun for an instance."""
        self.lock = threading.Lock()
        self.gateways = Gateways(grace_seconds)
        self.directs: dict[Key, Direct] = {}
        self.closing: list[Stream] = []
        """Streams that the pump is to end without another word."""
        self._running = Running(engine, tokenizer)
        self._engine = engine
        self._tokenizer = tokenizer
        self._token = token
        self._publish = publish
        self._status = status
        self._direct_numbers = itertools.count()
        self._compiling = Compiling(compile_schema)
        self._embed = embed
        self._gateway_gone = gateway_gone

    def handle(self, document: str | bytes, stream: Stream) -> None:
        """Answers one request. `stream` stays open only for an accepted `events` or `generate`."""
        answer_request(stream, lambda: self._dispatch(document, stream))

    def close(self) -> None:
        """Takes no more schemas."""
        self._compiling.close()

    def deliver(self, outputs: Iterable[Output], error: str | None = None) -> None:
        """Makes the events of `outputs`; `error` explains those that finish with `error`."""
        with self.lock:
            self._running.take(outputs, error)

    def deliver_first(self, outputs: Ids[Output]) -> set[Key]:
        """Makes the events of those of whom `outputs` are the first news, if there are news of many others; returns whose."""
        with self.lock:
            first = self._running.find_first(outputs)
            if first:
                self._running.take([output for output in outputs if output.key in first], None)
        return first

    def forget(self, gateway: Gateway) -> None:
        """Ends all that was begun for a gateway that won't come back. The caller holds `lock`."""
        self.drop(gateway)
        self._gateway_gone(gateway.instance)

    def drop(self, gateway: Gateway) -> None:
        """Ends what a gateway owns, unheard. The caller holds `lock`."""
        for id_ in list(gateway.running):
            self.drop_sequence((gateway.instance, id_))

    def drop_sequence(self, key: Key) -> None:
        """Ends one sequence, unheard, if it still runs. The caller holds `lock`."""
        self._running.end(key)

    def _dispatch(self, document: str | bytes, stream: Stream) -> BaseModel | None:
        request = parse_request(document)
        if isinstance(request, Generate):
            self._generate(request, stream)
            return None
        if not tokens_match(request.token, self._token):
            raise Refused("bad_token", "the token is not the one of this pod; only its gateway may use the channel")
        match request:
            case Submit() if any(each.sampling.json_schema is not None for each in request.sequences):
                self._submit_compiled(request, stream)
                return None
            case Submit():
                return self._submit(request)
            case Cancel():
                return self._cancel(request)
            case Events():
                self._events(request, stream)
                return None
            case StatusRequest():
                return self._status()
            case Embed():
                self._embed(request, stream)
                return None

    def _submit(self, request: Submit, constraint: Constraint | None = None) -> Submitted:
        """The constraint is of a sequence that comes alone."""
        accepted: list[str] = []
        refused: dict[str, Refusal] = {}
        with self.lock:
            gateway = self.gateways.owner(request.instance, request.epoch)
            for each in request.sequences:
                try:
                    if not gateway.knows(each.id):
                        key = (gateway.instance, each.id)
                        self._running.begin(key, gateway, each.id, each.prompt, each.sampling, each.deadline_seconds, constraint)
                except Refused as error:
                    refused[each.id] = error.refusal
                else:
                    accepted.append(each.id)
        return Submitted(accepted=tuple(accepted), refused=refused)

    def _submit_compiled(self, request: Submit, stream: Stream) -> None:
        if len(request.sequences) > 1:
            raise Refused("invalid_request", "a sequence with a json_schema must come alone: compiling it may take a second")
        sequence, submit = request.sequences[0], self._submit
        key = (request.instance, sequence.id)
        self._compiling.answer_later(key, sequence.sampling, stream, lambda made: submit(request, made))

    def _cancel(self, request: Cancel) -> Cancelled:
        self._compiling.cancel((request.instance, id_) for id_ in request.ids)
        ended = [output for id_ in request.ids if (output := self._engine.cancel((request.instance, id_)))]
        self._publish(ended)
        return Cancelled(cancelled=request.ids)

    def _events(self, request: Events, stream: Stream) -> None:
        with self.lock:
            replaced = self.gateways.connect(request.instance, request.epoch, request.after, stream)
            if replaced:
                self.closing.append(replaced)
        self._publish([])

    def _generate(self, request: Generate, stream: Stream) -> None:
        if (request.prompt is None) == (request.text is None):
            raise Refused("invalid_request", "give either `prompt` (token ids) or `text`")
        prompt = request.prompt if request.text is None else self._tokenizer.encode(request.text).ids
        key = ("", next(self._direct_numbers))
        if request.sampling.json_schema is None:
            self._start_direct(key, request, prompt or (), stream)
            return

        def start(constraint: Constraint) -> None:
            self._start_direct(key, request, prompt or (), stream, constraint)

        self._compiling.answer_later(key, request.sampling, stream, start)

    def _start_direct(
        self, key: Key, request: Generate, prompt: Ids[int], stream: Stream, constraint: Constraint | None = None
    ) -> None:
        direct = Direct(stream, request.stream)
        with self.lock:
            self._running.begin(key, direct, "", prompt, request.sampling, constraint=constraint)
            self.directs[key] = direct
