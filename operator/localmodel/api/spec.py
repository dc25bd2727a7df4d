"""The `spec` of a LocalModel, as users write it. The CRD, the reference and `kubectl explain` are generated from here.

A field appears here in the same change that makes it work. Rules that CEL can check stand beside the field as
`x-kubernetes-validations`; what CEL cannot see (does the claim exist, does it fit) is a condition, decided in core.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from localmodel.api.values import Duration, MemoryCap, Quantity, cel


class SpecModel(BaseModel):
    """Base of everything in the spec: camelCase on the wire, unknown keys ignored (the API server drops or refuses them)."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class PVCSource(SpecModel):
    """A PersistentVolumeClaim in the same namespace; mounted read-only. The usual choice."""

    claim_name: str = Field(min_length=1, max_length=253, description="Name of the PersistentVolumeClaim.")
    path: str = Field(
        "",
        max_length=1024,
        description="Directory of the model inside the volume: relative, without `..`. Default: the volume's root.",
        json_schema_extra=cel(
            "!self.startsWith('/') && !self.split('/').exists(p, p == '..')",
            "write a path relative to the volume's root, without '..', such as 'models/qwen-7b'",
        ),
    )


class HostPathSource(SpecModel):
    """A directory of the node; mounted read-only. Refused by Pod Security in baseline and restricted namespaces."""

    path: str = Field(
        min_length=1,
        max_length=1024,
        description="Absolute path of the model's directory on the node, without `..`.",
        json_schema_extra=cel(
            "self.startsWith('/') && !self.split('/').exists(p, p == '..')",
            "write an absolute path without '..', such as '/opt/models/qwen-7b'",
        ),
    )


class ModelSource(SpecModel):
    """Where the model's files are. Exactly one member; which one can't be changed later (make a new LocalModel)."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            "[has(self.pvc), has(self.hostPath)].exists_one(x, x)",
            "write exactly one of pvc, hostPath",
        )
    )

    pvc: PVCSource | None = None
    host_path: HostPathSource | None = None


class ModelSpec(SpecModel):
    """What is served."""

    source: ModelSource = Field(description="Where the model's files are: exactly one of pvc, hostPath.")
    format: Literal["Transformers"] = Field(
        "Transformers", description="Transformers: a directory with config.json, *.safetensors and tokenizer.json."
    )
    task: Literal["TextGeneration"] = Field("TextGeneration", description="TextGeneration: chat and completions.")
    served_names: tuple[Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9._:/-]+$")], ...] = Field(
        (),
        max_length=16,
        description="Names that clients may put into OpenAI's `model`. Default: metadata.name. Unique in a namespace.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    version: str = Field(
        "",
        max_length=128,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="Free text shown everywhere the model is; a change makes a new revision.",
    )


class RuntimeSpec(SpecModel):
    """What runs the model."""

    backend: Literal["PyTorch"] = Field("PyTorch", description="PyTorch: LocalModel's own engine inside NVIDIA Triton.")
    image: str = Field("", max_length=1024, description="Image of Triton with the engine. Default: the operator's setting.")


class GPUSpec(SpecModel):
    """The accelerators of one replica."""

    count: int = Field(1, ge=0, le=16, description="GPUs of one replica; 0 runs on the CPU.")
    memory: MemoryCap = Field(
        "",
        description="Cap per GPU: a share such as 60% or a quantity such as 60Gi. Absent: 80% of the card. Not with count 0.",
    )
    resource_name: str = Field(
        "nvidia.com/gpu",
        max_length=253,
        pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        description="Name of the extended resource: nvidia.com/gpu, or a MIG profile such as nvidia.com/mig-1g.10gb.",
    )


class ResourceList(SpecModel):
    """Quantities of the serving container. GPUs go to spec.gpu."""

    model_config = ConfigDict(alias_generator=None)

    cpu: Quantity | None = Field(None, description="CPU cores, such as 2 or 500m.")
    memory: Quantity | None = Field(None, description="Memory with a unit, such as 8Gi.")
    ephemeral_storage: Quantity | None = Field(None, alias="ephemeral-storage", description="Scratch disk, such as 2Gi.")


class ResourcesSpec(SpecModel):
    """Requests and limits of the container that runs the model; what is absent is computed, and a limit always exists."""

    requests: ResourceList = Field(ResourceList(), description="What the scheduler reserves.")
    limits: ResourceList = Field(
        ResourceList(), description="What may not be exceeded. Absent: the larger of our default and the request."
    )


class Toleration(SpecModel):
    """As in a Pod."""

    key: str | None = Field(None, max_length=317)
    operator: Literal["Exists", "Equal"] | None = None
    value: str | None = Field(None, max_length=63)
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(None, ge=0)


class PlacementSpec(SpecModel):
    """Where the pods may run."""

    node_selector: dict[str, str] = Field({}, max_length=32, description="Labels that a node must carry.")
    tolerations: tuple[Toleration, ...] = Field((), max_length=32, description="Taints that the pods tolerate.")
    priority_class_name: str = Field("", max_length=253, description="PriorityClass of the pods.")


class GatewayTimeouts(SpecModel):
    """Time limits of a request, such as 30s, 1m30s or 500ms; at most 24h. Each is capped by `total` at run time."""

    queue: Duration = Field("30s", description="Longest wait in the queue before the engine gets the request.")
    first_token: Duration = Field("30s", description="From sending to the engine until the first token.")
    idle: Duration = Field("30s", description="Longest pause between tokens after the first.")
    total: Duration = Field("10m", description="Request head to last byte, slow readers included.")


class GatewayConcurrency(SpecModel):
    """How much is taken in at once, so that one overload does not become an avalanche."""

    max: int = Field(0, ge=0, le=4096, description="Requests running at once per replica; 0: the engine's maxBatchSize.")
    queue: int = Field(64, ge=0, le=65536, description="Requests that may wait; more are answered 503 with retry-after.")


class GatewayLogging(SpecModel):
    """The request log: one JSON line per request on the gateway's standard output."""

    mode: Literal["None", "Metadata", "Full"] = Field(
        "Metadata", description="None; Metadata: everything but prompts and answers; Full: those too, unredacted."
    )


class GatewaySpec(SpecModel):
    """The sidecar in front of the model."""

    timeouts: GatewayTimeouts = Field(GatewayTimeouts(), description="Time limits of a request.")
    concurrency: GatewayConcurrency = Field(GatewayConcurrency(), description="Limits of what is taken in at once.")
    logging: GatewayLogging = Field(GatewayLogging(), description="The request log.")


class SecuritySpec(SpecModel):
    """Who may reach the model. The pods themselves may reach nothing but DNS."""

    allow_from: tuple[dict[str, Any], ...] = Field(
        (),
        max_length=32,
        description="NetworkPolicy peers that may call the model. Empty: pods of the same namespace. "
        "[{namespaceSelector: {}}] is the whole cluster; ipBlock opens it to the LAN.",
    )


class LocalModelSpec(SpecModel):
    """A language model to serve."""

    paused: bool = Field(False, description="Freeze all changes and keep serving as it is.")
    model: ModelSpec
    runtime: RuntimeSpec = Field(RuntimeSpec(), description="What runs the model.")
    context_window: int = Field(
        4096,
        ge=256,
        le=1_048_576,
        description="Tokens of prompt and answer together; at most what the model was trained for.",
    )
    max_batch_size: int = Field(16, ge=1, le=1024, description="Sequences decoded together.")
    gpu: GPUSpec = Field(GPUSpec(), description="The accelerators of one replica.")
    resources: ResourcesSpec = Field(ResourcesSpec(), description="CPU, memory and scratch disk of the serving container.")
    placement: PlacementSpec = Field(PlacementSpec(), description="Where the pods may run.")
    replicas: int = Field(1, ge=0, le=64, description="Pods that serve; 0 stops the model on purpose.")
    gateway: GatewaySpec = Field(GatewaySpec(), description="The sidecar in front of the model.")
    security: SecuritySpec = Field(SecuritySpec(), description="Who may reach the model.")
