"""What gateway and engine say to each other, through Triton's HTTP `generate` and `generate_stream`.

One input tensor REQUEST and one output tensor RESPONSE, both TYPE_STRING [1], each carrying one JSON document:

* `submit` (of one sequence or many), `cancel` and `status` are POST /v2/models/llm/generate and get exactly one response.
* `events` is one long POST /v2/models/llm/generate_stream per gateway process: one response per engine step (or per
  2 ms if steps are shorter), carrying the news of every sequence this gateway owns, one ahead of it for answers that
  begin beside many others, and an empty one as a heartbeat every 100 ms when there is nothing to say. The first response
  is sent at once.
* `generate` is a decoupled stream of one request, for direct clients of Triton; same engine, another sink, no token.

The wire form is compact because it is parsed once per step: an event is a list, not an object. This module only
describes and (de)serializes; who may speak, and when a sequence dies, is decided by the engine.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from localmodel.api.events import FinishReason, TokenLogprob

REQUEST = "REQUEST"
RESPONSE = "RESPONSE"
HEARTBEAT_SECONDS = 0.1
MIN_EVENT_GAP_SECONDS = 0.002


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sampling(_Message):
    """How tokens are chosen and when to stop. `temperature` 0 is greedy."""

    max_tokens: int | None = Field(None, ge=1)
    """Absent: as many as the context window leaves."""
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    """0: no limit."""
    seed: int | None = None
    """Same seed, same prompt, same text, whatever else is in the batch."""
    stop: tuple[str, ...] = Field((), max_length=16)
    """The text ends before the first of these; they may span token borders."""
    ignore_eos: bool = False
    min_p: float = Field(0.0, ge=0, le=1)
    """Tokens less likely than this share of the likeliest one are not drawn."""
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    """Taken from the logit of every token that the answer has already; OpenAI's definition, the prompt does not count."""
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    """The same, once per occurrence."""
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] = Field({}, max_length=1024)
    """Added to the logits of these token ids."""
    logprobs: int | None = Field(None, ge=0, le=20)
    """Absent: none. Else each token's log-probability and those of this many likeliest tokens, of the model's own
    distribution (softmax of the raw logits, before temperature, penalties and masks)."""
    json_schema: str | None = Field(None, max_length=65536)
    """A JSON schema as text: the answer is a JSON document that fits it. '{"type": "object"}' is any object."""


class NewSequence(_Message):
    """One of those that a submit brings."""

    id: str
    """Unique per instance; a second submit of a known id is answered like the first and starts nothing."""
    prompt: tuple[int, ...]
    """Token ids, shape [n], 1 <= n < context window."""
    sampling: Sampling = Sampling()
    deadline_seconds: float | None = Field(None, gt=0)
    """Seconds left from now; the engine ends the sequence with `deadline` when they are over."""


class Submit(_Message):
    """Sequences that came at about the same time, because a request costs Triton more than a sequence in it.

    Each is accepted or refused by itself. One with a `json_schema` comes alone: compiling it may take a second.
    """

    op: Literal["submit"] = "submit"
    token: str
    instance: str
    """The gateway process that owns the sequences; must have an open event stream of the same epoch."""
    epoch: int
    sequences: tuple[NewSequence, ...] = Field(min_length=1, max_length=256)


class Cancel(_Message):
    op: Literal["cancel"] = "cancel"
    token: str
    instance: str
    ids: tuple[str, ...]


class Events(_Message):
    op: Literal["events"] = "events"
    token: str
    instance: str
    epoch: int
    """Grows with each connection of one instance; a newer epoch takes over, an older one is refused."""
    after: int = 0
    """Number of the last event seen; the engine resends what came later, or answers `lost` if it can't."""


class StatusRequest(_Message):
    op: Literal["status"] = "status"
    token: str


class Generate(_Message):
    op: Literal["generate"] = "generate"
    prompt: tuple[int, ...] | None = None
    text: str | None = None
    """Raw text, no chat template; exclusive with `prompt`."""
    sampling: Sampling = Sampling()
    stream: bool = True
    """True: one response per step that made text, for `generate_stream`. False: exactly one, for `generate`."""


class Generated(_Message):
    """One response of `generate`. The last one, and only it, has a finish reason."""

    text: str
    finish_reason: FinishReason | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None
    logprobs: tuple[TokenLogprob, ...] | None = None
    """Of the tokens that made `text`, if they were asked for."""


class Embed(_Message):
    """Vectors of an embedding model. One request, one response."""

    op: Literal["embed"] = "embed"
    token: str
    instance: str = ""
    id: str = ""
    """Unique per instance; a `cancel` that names it ends it with a refusal. Empty: it can't be cancelled."""
    inputs: tuple[tuple[int, ...], ...] = Field(min_length=1, max_length=2048)
    """Token ids with the special tokens the model wants, each of shape [n], 1 <= n <= context window."""


class Embedded(_Message):
    vectors: tuple[str, ...]
    """Base64 of little-endian float32, shape [dimensions], of unit length; one per input, in the same order."""
    dimensions: int


class Refusal(_Message):
    """The typed answer to a request that can't be served; the gateway turns `code` into an HTTP status."""

    code: Literal[
        "bad_token",
        "invalid_request",
        "context_length_exceeded",
        "overloaded",
        "no_event_stream",
        "stale_epoch",
        "failed",
    ]
    message: str
    """For a person: what was wrong and what to do."""


class Submitted(_Message):
    """Every id of the submit is in one of the two."""

    accepted: tuple[str, ...]
    refused: dict[str, Refusal]


class Cancelled(_Message):
    """Confirms that none of `ids` runs any more. Unknown ids count as ended."""

    cancelled: tuple[str, ...]
