"""The `spec` of a LocalModel, as users write it. The CRD, the reference and `kubectl explain` are generated from here.

A field appears here in the same change that makes it work. A rule that CEL can check stands in the field's type; what CEL
cannot see (does the claim exist, does it fit) is a condition, decided in core.
A class's docstring is its field's description, unless the field has one of its own.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from localmodel.api.engine import Compile
from localmodel.api.gateway_spec import Gateway, GatewaySpec
from localmodel.api.peers import AllowedPeer
from localmodel.api.predict import Format, PredictConfig, Task
from localmodel.api.rules import KEYWORD, Rule, matches
from localmodel.api.scheduling import GPU, GPUSpec, PlacementSpec, Resources, ResourcesSpec
from localmodel.api.sources import OneSource
from localmodel.api.values import SpecModel

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
