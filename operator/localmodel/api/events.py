"""News of sequences, as the engine tells a gateway once a step, and their compact JSON form.

Why apart from `channel`: they are made and read for every token, so they are plain tuples, and what is left out of a row is
decided here. Nothing here is checked when it is made; the reader in the gateway checks.
"""

from typing import Any, Literal, NamedTuple

FinishReason = Literal["stop", "length", "cancelled", "deadline", "error"]
SCHEMA_TOO_COMPLEX = "[SchemaTooComplex] "
"""Begins the `error` of a sequence whose own JSON schema can't be followed: the request is to blame, not the engine."""


class Usage(NamedTuple):
    prompt_tokens: int
    completion_tokens: int


class TokenLogprob(NamedTuple):
    token: int
    logprob: float
    """Natural logarithm; at least -9999."""
    top: tuple[tuple[int, float], ...]
    """(token, logprob) of the likeliest, best first."""


class SequenceEvent(NamedTuple):
    """News of one sequence: text that became certain, and at the end the reason."""

    id: str
    text: str
    tokens: int = 1
    """Tokens sampled since the last event of this sequence; may be > 0 with an empty text (half a character)."""
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    """With the finish reason only."""
    error: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    """Of the tokens in this event, if they were asked for; a token whose text is held back (half a character, the start of
    a stop string) comes with the event that carries its text."""


class EventBatch(NamedTuple):
    number: int
    """Grows by one per non-empty batch of this instance; a heartbeat repeats the last."""
    step_age_seconds: float
    lost: bool
    """True in the first batch if `after` is too old: sequences not named in it are gone."""
    events: tuple[SequenceEvent, ...]
    failure: str = ""
    """Why the engine's process ends (`api.engine_failure`); no batch comes after it."""


def encode_batch(batch: EventBatch) -> list[Any]:
    """The JSON form: [number, step age, lost, rows], a row [id, text, tokens, finish, [in, out] | null, error, logprobs].

    Members at the end of a row that say what they usually say are left out: most are [id, text], one token. Log-probabilities are
    [[token, logprob, [[token, logprob], ...]], ...]. A fifth member of the document says why the engine ends, if it does.
    """
    events = [_encode_event(event) for event in batch.events]
    document = [batch.number, round(batch.step_age_seconds, 3), batch.lost, events]
    return [*document, batch.failure] if batch.failure else document


def _encode_event(event: SequenceEvent) -> tuple[Any, ...]:
    if event.logprobs:
        return event
    if event.finish_reason is None:
        return event[:2] if event.tokens == 1 else event[:3]
    return event[:6] if event.error is not None else event[:5]
