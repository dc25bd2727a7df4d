"""GatewaySettings: the file `gateway.json` that the operator (or `localmodel run`) writes and the gateway reads.

Durations are seconds. The pod's own identity comes from the environment (POD_NAME), because it differs between pods.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from localmodel.api import constants
from localmodel.api.load_progress import LoadProgress
from localmodel.api.predict import Task

Outcome = Literal[
    "ok",
    "client_closed",
    "rejected",
    "unauthorized",
    "rate_limited",
    "shed",
    "queue_timeout",
    "first_token_timeout",
    "idle_timeout",
    "total_timeout",
    "upstream_error",
    "protocol_error",
    "internal_error",
    "drained",
]
"""How a request ended: exactly one of these in its log record and in localmodel_gateway_requests_total."""

RedactKind = Literal["Email", "Phone", "IDCard", "BankCard"]
"""What the log takes out of bodies."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Timeouts(_Settings):
    """Each is capped by `total_seconds` at run time."""

    queue_seconds: float = Field(30, gt=0)
    first_token_seconds: float = Field(30, gt=0)
    idle_seconds: float = Field(30, gt=0)
    total_seconds: float = Field(600, gt=0)


class Concurrency(_Settings):
    max: int = Field(0, ge=0)
    """Requests running at once; 0 means the engine's max_batch_size."""
    queue: int = Field(64, ge=0)
    """Requests waiting; more are answered 503 with retry-after."""
    queue_bytes: int = Field(32 * 1024 * 1024, ge=0)
    """What the waiting requests may hold together: bodies and token ids."""


class Retries(_Settings):
    """Of requests that failed before their first text because the backend lost them."""

    attempts: int = Field(2, ge=0)
    budget_percent: int = Field(10, ge=0, le=100)
    """Of the requests of the last minute, plus three."""


class Breaker(_Settings):
    """When nothing is sent to a backend that keeps failing."""

    failures: int = Field(5, ge=0)
    """In a row; 0: never."""
    open_seconds: float = Field(5, gt=0)
    """Until the first probe; doubled after each failed one, up to a minute."""


class KeyLimits(_Settings):
    """What one caller may use, in each replica. Absent: no limit."""

    key: str
    """Name of a key; `*` is every key without an entry of its own, each for itself, and without keys all callers together."""
    rpm: int | None = Field(None, ge=1)
    """Requests in any minute."""
    tpm: int | None = Field(None, ge=1)
    """Tokens in any minute, prompt and answer."""
    max_concurrent: int | None = Field(None, ge=1)
    models: tuple[str, ...] = ()
    """Served names that it may use; empty: all."""


class LogFile(_Settings):
    """A directory for requests-NNNNNN.log."""

    directory: str
    max_bytes: int = Field(ge=1024 * 1024)
    max_files: int = Field(ge=2)


class GatewaySettings(_Settings):
    """What the gateway is told. Unknown keys are refused."""

    model_name: str
    """metadata.name of the LocalModel; label of metrics and log records."""
    namespace: str = ""
    served_names: tuple[str, ...]
    """OpenAI `model` names that are answered; the first is the one shown in answers to an absent name."""
    model_version: str = ""
    task: Task = "TextGeneration"
    batch_delay_seconds: float = Field(0, ge=0)
    """Of a Predict model: how long Triton lets a request wait for others."""
    model_path: str = constants.MODEL_MOUNT
    """For the tokenizer and the chat template."""
    context_window: int
    max_batch_size: int
    serving_host: str = "0.0.0.0"
    serving_port: int = constants.SERVING_PORT
    admin_host: str = "0.0.0.0"
    admin_port: int = constants.ADMIN_PORT
    triton_url: str = f"http://127.0.0.1:{constants.TRITON_HTTP_PORT}"
    triton_model: str = constants.TRITON_MODEL_NAME
    channel_token_file: str = constants.CHANNEL_TOKEN_FILE
    timeouts: Timeouts = Timeouts()
    concurrency: Concurrency = Concurrency()
    retries: Retries = Retries()
    breaker: Breaker = Breaker()
    long_input: Literal["Reject", "Truncate", "Segment"] = "Reject"
    """What becomes of a chat that does not fit the context window."""
    keys_directory: str | None = None
    """One file per API key, named like it, with hashes of the key; absent: no key is asked for."""
    limits: tuple[KeyLimits, ...] = ()
    page: bool = True
    """Serve the chat page at /."""
    log_mode: Literal["None", "Metadata", "Full"] = "Metadata"
    redact: tuple[RedactKind, ...] = ("Email", "Phone", "IDCard", "BankCard")
    """In mode Full."""
    redact_patterns: tuple[str, ...] = ()
    """More to take out: regular expressions in RE2 syntax."""
    log_file: LogFile | None = None
    """Beside standard output."""
    log_key_file: str | None = None
    """Holds the key of the log's hash chain; absent: plain SHA-256."""
    endpoint_removal_seconds: float = Field(3.0, ge=0)
    """On drain: how long to keep serving until nobody sends new requests any more."""
    step_timeout_seconds: float = Field(30.0, gt=0)
    """An engine step older than this counts as hung: liveness fails."""


class _Report(BaseModel):
    """Extra keys are ignored: an older operator must be able to read a newer gateway."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class BackendStatus(_Report):
    """The `backend` part of /status: what Triton says, word for word where it failed."""

    state: Literal["Starting", "Loading", "Ready", "LoadFailed", "Unreachable", "Hung"]
    message: str = ""
    """Triton's own message when state is LoadFailed."""
    since_seconds: float = 0.0
    """Seconds in this state."""
    load_seconds: float | None = None
    progress: LoadProgress | None = None
    """Of the weights, when Loading and the engine has begun."""
    last_failure: str = ""
    """Why the engine's process last ended: its own words, `[code] ...`, or Triton's if it had none. It stays when the engine
    is back."""
    engine: dict[str, int | float | str] | None = None
    """EngineStatus, when Ready."""


class GatewayStatus(_Report):
    """What GET /status on the admin port answers; the operator reads it."""

    pod: str
    model: str
    version: str
    gateway_version: str
    ready: bool
    reason: str
    """Why not ready, one PascalCase word: BackendStarting, Loading, LoadFailed, BackendUnreachable, BackendHung, Draining.
    `Ready` when it is.
    KeysMissing and KeysInvalid: API keys are asked for and there is none that could be given.
    TokenizerMissing names an unusable model directory, NoEvidence a model that loaded but has not answered a request yet,
    CircuitOpen one that failed requests in a row and is not asked for a while."""
    message: str = ""
    """The same for a person, with what to do; empty when ready."""
    chat_problem: str = ""
    """Why chats are refused while completions are answered, and what to do; empty when both are."""
    keys_problem: str = ""
    """What is wrong with some API keys or limits while others work, and what to do; empty when nothing is."""
    draining: bool
    breaker: Literal["closed", "open", "half_open"] = "closed"
    """Open: nothing is sent to the backend, because it failed several times in a row; half open: one request tries."""
    slots: int
    slots_in_use: int
    tokens_in_use: int = 0
    """Of the engine's KV cache, reserved for the prompts and longest answers of what runs."""
    queue_length: int
    queued_bytes: int = 0
    backend: BackendStatus
