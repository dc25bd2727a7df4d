"""What one replica needs and where it may run: GPUs, quantities, placement. Whether it fits is decided in core."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from localmodel.api.rules import Rule, matches
from localmodel.api.values import (
    Bytes,
    LabelKey,
    Labels,
    LabelValue,
    MemoryCap,
    OptionalObjectName,
    Quantity,
    SpecModel,
    parse_quantity,
)

DeviceName = Annotated[
    str,
    Field(max_length=253),
    matches(
        r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
        "write the name of an extended resource with its domain, such as nvidia.com/gpu or nvidia.com/mig-1g.10gb",
    ),
]


class GPUSpec(SpecModel):
    """The accelerators of one replica."""

    count: int = Field(
        1,
        ge=0,
        le=16,
        description="GPUs of one replica; 0 runs on the CPU. Several share one network that generates text: each takes an equal "
        "share of the weights and of the key-value heads, so only counts that divide those heads work.",
    )
    memory: MemoryCap = Field(
        "",
        description="Cap per GPU: a share such as 60% or a quantity such as 60Gi. Absent: 80% of the card. Not with count 0.",
    )
    resource_name: DeviceName = Field(
        "nvidia.com/gpu",
        description="Name of the extended resource: nvidia.com/gpu, or a MIG profile such as nvidia.com/mig-1g.10gb.",
    )


GPU = Annotated[
    GPUSpec,
    Rule(
        "self.count > 0 || !has(self.memory) || self.memory == ''",
        "leave out gpu.memory with gpu.count 0; on the CPU the cap is resources.limits.memory",
        lambda gpu: gpu.count > 0 or not gpu.memory,
        ".memory",
    ),
]


class ResourceList(SpecModel):
    """Quantities of the serving container. GPUs go to spec.gpu."""

    model_config = ConfigDict(alias_generator=None)

    cpu: Quantity | None = Field(None, description="CPU cores: a whole number such as 2, or a text such as 500m or '0.5'.")
    memory: Bytes | None = Field(None, description="Memory with a unit, such as 8Gi.")
    ephemeral_storage: Bytes | None = Field(None, alias="ephemeral-storage", description="Scratch disk with a unit, such as 2Gi.")


class ResourcesSpec(SpecModel):
    """CPU, memory and scratch disk of the container that runs the model. What is absent is computed; a limit always exists."""

    requests: ResourceList = Field(
        ResourceList(), description="What the scheduler reserves: cpu, memory, ephemeral-storage. GPUs go to spec.gpu."
    )
    limits: ResourceList = Field(
        ResourceList(), description="What may not be exceeded. Absent: the larger of our default and the request."
    )


def _limit_not_below_request(name: str, cel_name: str, attribute: str) -> Rule:
    """The guards keep CEL from evaluating a quantity that another rule refuses."""
    limit, request = f"self.limits.{cel_name}", f"self.requests.{cel_name}"

    def holds(resources: ResourcesSpec) -> bool:
        limit, request = (getattr(each, attribute) for each in (resources.limits, resources.requests))
        return limit is None or request is None or parse_quantity(limit) >= parse_quantity(request)

    return Rule(
        f"!has(self.limits) || !has({limit}) || !has(self.requests) || !has({request})"
        f" || !isQuantity(string({limit})) || !isQuantity(string({request}))"
        f" || quantity(string({limit})).compareTo(quantity(string({request}))) >= 0",
        f"write limits.{name} not below requests.{name}, or leave it out: it is then computed",
        holds,
        ".limits",
    )


Resources = Annotated[
    ResourcesSpec,
    _limit_not_below_request("cpu", "cpu", "cpu"),
    _limit_not_below_request("memory", "memory", "memory"),
    _limit_not_below_request("ephemeral-storage", "ephemeral__dash__storage", "ephemeral_storage"),
]


class Toleration(SpecModel):
    """Lets the pods run on nodes with this taint; as in a Pod."""

    key: LabelKey | None = Field(None, description="Key of the taint; absent, with operator Exists, means every taint.")
    operator: Literal["Exists", "Equal"] | None = Field(None, description="How key and value are compared. Absent: Equal.")
    value: LabelValue | None = Field(None, description="Value of the taint, with Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint. Absent: every effect."
    )
    toleration_seconds: int | None = Field(
        None, ge=0, le=2_147_483_647, description="How long a NoExecute taint is tolerated. Absent: for ever."
    )


def _is_comparison(toleration: Toleration) -> Any:
    return not toleration.value if toleration.operator == "Exists" else toleration.key is not None


CheckedToleration = Annotated[
    Toleration,
    Rule(
        "has(self.operator) && self.operator == 'Exists' ? !has(self.value) || self.value == '' : has(self.key)",
        "write a key (operator Exists without one tolerates every taint), and a value only with operator Equal",
        _is_comparison,
    ),
    Rule(
        "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        "write effect NoExecute with tolerationSeconds, or leave tolerationSeconds out",
        lambda each: each.toleration_seconds is None or each.effect == "NoExecute",
    ),
]


class PlacementSpec(SpecModel):
    """Where the pods may run."""

    node_selector: Labels = Field({}, description="Labels that a node must carry.")
    tolerations: tuple[CheckedToleration, ...] = Field((), max_length=16, description="Taints that the pods tolerate.")
    priority_class_name: OptionalObjectName = Field("", description="PriorityClass of the pods.")
