"""A request of one token that the gateway sends itself: the evidence of readiness when no real request gives it."""

from time import monotonic

from localmodel.api.channel import Embed, Sampling
from localmodel.api.engine_status import EngineStatus
from localmodel.gateway import errors
from localmodel.gateway.backend_errors import BackendError, BackendGarbage, BackendUnreachable, Refused
from localmodel.gateway.channel import Channel
from localmodel.gateway.sequences import Sequences
from localmodel.gateway.tensors import ones

_PROMPT = (1,)
_SAMPLING = Sampling(max_tokens=1, temperature=0, ignore_eos=True)


async def canary_answers(sequences: Sequences, seconds: float) -> bool:
    until = monotonic() + seconds
    sequence = sequences.start(_PROMPT, _SAMPLING, seconds, lambda: None)
    try:
        while events := await sequence.mailbox.take(until):
            for event in events:
                if event.finish_reason is not None:
                    return event.finish_reason in ("stop", "length")
    except errors.ApiError:
        return False
    finally:
        sequences.abandon(sequence)
    return False


async def canary_embeds(link: Channel, seconds: float) -> bool:
    """The same for a model that makes vectors."""
    try:
        await link.embed(Embed(token=link.token, inputs=(_PROMPT,)), seconds)
    except (BackendError, BackendGarbage, BackendUnreachable, Refused):
        return False
    return True


async def canary_predicts(link: Channel, engine: EngineStatus | None, seconds: float) -> bool:
    """The same for a model of tensors: ones, in a shape that it has computed before."""
    if engine is None or engine.signature is None or not engine.example:
        return False
    body, header_length = ones(engine.signature.wire(), engine.example)
    try:
        await link.infer(body, header_length, seconds)
    except (BackendError, BackendGarbage, BackendUnreachable):
        return False
    return True
