"""The `spec` of a LocalModel, as users write it. The CRD, the reference and `kubectl explain` are generated from here.

A field appears here in the same change that makes it work. A rule that CEL can check stands in the field's type; what CEL
cannot see (does the claim exist, does it fit) is a condition, decided in core.
A class's docstring is its field's description, unless the field has one of its own.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from localmodel.api.access import Auth, AuthSpec, Limits
from localmodel.api.engine import Compile
from localmodel.api.peers import AllowedPeer, Peer
from localmodel.api.predict import Format, PredictConfig, Task
from localmodel.api.request_log import GatewayLogging, LogFileSpec, Logging
from localmodel.api.rules import KEYWORD, Rule, matches
from localmodel.api.scheduling import GPU, GPUSpec, PlacementSpec, ResourceList, Resources, ResourcesSpec, Toleration
from localmodel.api.sources import HostPathSource, ModelSource, OneSource, PVCSource
from localmodel.api.values import BYTES_PATTERN, INT_OR_STRING, Duration, SpecModel, parse_bytes

__all__ = [
    "GPUSpec",
    "GatewayBreaker",
    "GatewayConcurrency",
    "GatewayLogging",
    "GatewayRetries",
    "GatewaySpec",
    "GatewayTimeouts",
    "HostPathSource",
    "LocalModelSpec",
    "LogFileSpec",
    "ModelSource",
    "ModelSpec",
    "PVCSource",
    "Peer",
    "PlacementSpec",
    "ResourceList",
    "ResourcesSpec",
    "RuntimeSpec",
    "SecuritySpec",
    "SpecModel",
    "Toleration",
]

ServedName = Annotated[
    str,
    Field(max_length=256),
    matches(r"[A-Za-z0-9._:/-]+", "write a name of letters, digits and . _ : / - only, such as qwen-7b"),
]
VersionText = Annotated[
    str,
    Field(max_length=128),
    matches(r"[^\x00-\x1f\x7f-\x9f]*", "write a version of one line, without control characters, such as 2026.11.1"),
]
ImageReference = Annotated[
    str,
    Field(max_length=1024),
    matches(r"[!-~]*", "write the reference of an image in ASCII and without spaces, such as engine:1.2"),
]


class ModelSpec(SpecModel):
    """What is served."""

    source: OneSource
    format: Format = Field(
        "Transformers",
        description="Transformers: a directory with config.json, *.safetensors and tokenizer.json. For task Predict: "
        "TorchScript (model.pt) or TorchExport (model.pt2).",
    )
    task: Task = Field(
        "TextGeneration",
        description="TextGeneration: chat and completions. Embedding: vectors of texts from an encoder such as BERT; "
        "contextWindow is then the longest text. Predict: tensors in, tensors out, at /v2/models/NAME/infer.",
    )
    config: PredictConfig | None = None
    served_names: tuple[ServedName, ...] = Field(
        (),
        max_length=16,
        description="Names that clients may put into OpenAI's `model`. Default: metadata.name. Unique in a namespace.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    version: VersionText = Field("", description="Free text shown everywhere the model is; a change makes a new revision.")


Model = Annotated[
    ModelSpec,
    Rule(
        "(self.task == 'Predict') == (self.format != 'Transformers')",
        "write format TorchScript or TorchExport with task Predict, and only there",
        lambda model: (model.task == "Predict") == (model.format != "Transformers"),
        ".format",
    ),
    Rule(
        "!has(self.config) || self.task == 'Predict'",
        "leave out config unless the task is Predict",
        lambda model: model.config is None or model.task == "Predict",
        ".config",
    ),
]


class RuntimeSpec(SpecModel):
    """What runs the model."""

    backend: Literal["PyTorch"] = Field("PyTorch", description="PyTorch: LocalModel's own engine inside NVIDIA Triton.")
    image: ImageReference = Field("", description="Image of Triton with the engine. Default: the operator's setting.")
    compile: Compile = Field(
        "Auto",
        description="CUDA graphs, which let a GPU compute a step without waiting for the host. Auto captures each when a step of "
        "its size first comes, which delays that step by a fraction of a second. Max captures all before the model is ready: the "
        "start takes longer, no request pays. None captures nothing and is several times slower: to look for faults. Answers are "
        "the same. For TextGeneration on a GPU.",
    )


class GatewayTimeouts(SpecModel):
    """Time limits of a request, such as 30s, 1m30s or 500ms; at most 24h. Each is capped by `total` at run time."""

    queue: Duration = Field("30s", description="Longest wait in the queue before the engine gets the request.")
    first_token: Duration = Field("30s", description="From sending to the engine until the first token.")
    idle: Duration = Field("30s", description="Longest pause between tokens after the first.")
    total: Duration = Field("10m", description="Request head to last byte, slow readers included.")


QueueBytes = Annotated[
    str | int,
    INT_OR_STRING,
    Rule(
        "type(self) == int ? self >= 8388608 && self <= 1099511627776 : "
        f"(self.matches(r'^({BYTES_PATTERN})$') && quantity(self).compareTo(quantity('8Mi')) >= 0"
        " && quantity(self).compareTo(quantity('1Ti')) <= 0)",
        "write an amount from 8Mi, the largest body of a request, to 1Ti, such as 64Mi",
        lambda value: 8 * 2**20 <= parse_bytes(value) <= 2**40,
    ),
]


class GatewayConcurrency(SpecModel):
    """How much is taken in at once, so that one overload does not become an avalanche."""

    max: int = Field(0, ge=0, le=4096, description="Requests running at once per replica; 0: the engine's maxBatchSize.")
    queue: int = Field(64, ge=0, le=65536, description="Requests that may wait; more are answered 503 with retry-after.")
    queue_bytes: QueueBytes = Field(
        "32Mi", description="What the waiting requests may hold in the gateway's memory together: bodies and tokens."
    )


class GatewayRetries(SpecModel):
    """Sending a request to the engine again that failed before its first text: the engine's process died, no connection was
    made, or Triton answered 503. Never after a time limit, an error of the client's, or a byte of the answer."""

    attempts: int = Field(2, ge=0, le=10, description="How often one request is sent again; 0: never.")
    budget_percent: int = Field(
        10, ge=0, le=100, description="Retries in any minute: at most this share of its requests, plus three."
    )


class GatewayBreaker(SpecModel):
    """Stops sending to an engine that failed several times in a row (no connection, an error, no first token in time):
    requests are answered 503 at once, then one probe decides."""

    failures: int = Field(5, ge=0, le=1000, description="Failures in a row that open it; 0: never.")
    open_for: Duration = Field("5s", description="Until the first probe; doubled after each failed one, up to a minute.")


class GatewaySpec(SpecModel):
    """The sidecar in front of the model."""

    timeouts: GatewayTimeouts = GatewayTimeouts()
    concurrency: GatewayConcurrency = GatewayConcurrency()
    retries: GatewayRetries = GatewayRetries()
    breaker: GatewayBreaker = GatewayBreaker()
    logging: Logging = GatewayLogging()
    page: bool = Field(True, description="The chat page for people, at / of the serving port; for text generation only.")
    long_input: Literal["Reject", "Truncate", "Segment"] = Field(
        "Reject",
        description="A chat longer than contextWindow. Reject: 400. Truncate: leave out its oldest turns, then the middle of its "
        "longest message. Segment: read the longest message of the user in parts and join the answers. The answer says so.",
    )
    auth: Auth = AuthSpec()
    limits: Limits = ()


Gateway = Annotated[
    GatewaySpec,
    Rule(
        "!has(self.limits) || self.auth.mode == 'APIKey' || self.limits.all(l, l.key == '*')",
        "write auth.mode APIKey with limits of a named key; without keys only '*' has a meaning: all callers together",
        lambda gateway: gateway.auth.mode == "APIKey" or all(each.key == "*" for each in gateway.limits),
        ".limits",
    ),
]


class SecuritySpec(SpecModel):
    """Who may reach the model. The pods themselves may reach nothing but DNS."""

    allow_from: tuple[AllowedPeer, ...] = Field(
        (),
        max_length=16,
        description="NetworkPolicy peers that may call the model. Empty: pods of the same namespace. "
        "[{namespaceSelector: {}}] is the whole cluster; ipBlock opens it to the LAN.",
    )


QUANTIZATION_RULE = Rule(
    "self.quantization == 'None' || (self.gpu.count > 0 && self.model.task == 'TextGeneration')",
    "leave out quantization with gpu.count 0 or another task: it is for text generation on a GPU",
    lambda spec: spec.quantization == "None" or (spec.gpu.count > 0 and spec.model.task == "TextGeneration"),
    ".quantization",
)


COMPILE_RULE = Rule(
    "self.runtime.compile == 'Auto' || (self.gpu.count > 0 && self.model.task == 'TextGeneration')",
    "leave out runtime.compile with gpu.count 0 or another task: it is for text generation on a GPU",
    lambda spec: spec.runtime.compile == "Auto" or (spec.gpu.count > 0 and spec.model.task == "TextGeneration"),
    ".runtime.compile",
)


GPU_COUNT_RULE = Rule(
    "self.model.task == 'TextGeneration' || self.gpu.count <= 1",
    "write gpu.count 0 or 1 with task Embedding or Predict: only networks that generate text are divided over GPUs",
    lambda spec: spec.model.task == "TextGeneration" or spec.gpu.count <= 1,
    ".gpu.count",
)


_RULES = (QUANTIZATION_RULE, COMPILE_RULE, GPU_COUNT_RULE)
_SCHEMA_RULES: list[Any] = [rule.to_schema() for rule in _RULES]


class LocalModelSpec(SpecModel):
    """A language model to serve."""

    model_config = ConfigDict(json_schema_extra={KEYWORD: _SCHEMA_RULES})

    paused: bool = Field(False, description="Freeze all changes and keep serving as it is.")
    model: Model
    runtime: RuntimeSpec = RuntimeSpec()
    context_window: int = Field(
        4096,
        ge=256,
        le=1_048_576,
        description="Tokens of prompt and answer together; at most what the model was trained for.",
    )
    max_batch_size: int = Field(16, ge=1, le=1024, description="Sequences decoded, or rows predicted, together.")
    quantization: Literal["None", "INT8", "INT4"] = Field(
        "None",
        description="Bits of a weight, rounded while loading: None keeps 16; INT8 halves what a token reads; INT4 quarters it "
        "and costs quality, small models much of it. For TextGeneration on a GPU.",
    )
    gpu: GPU = GPUSpec()
    resources: Resources = ResourcesSpec()
    placement: PlacementSpec = PlacementSpec()
    replicas: int = Field(1, ge=0, le=64, description="Pods that serve; 0 stops the model on purpose.")
    gateway: Gateway = GatewaySpec()
    security: SecuritySpec = SecuritySpec()

    @model_validator(mode="after")
    def _check_rules(self) -> "LocalModelSpec":
        for rule in _RULES:
            if rule.holds and not rule.holds(self):
                raise ValueError(rule.message)
        return self
