"""What one replica needs and where it may run: GPUs, quantities, placement. Whether it fits is decided in core."""

from typing import Literal

from pydantic import ConfigDict, Field

from localmodel.api.values import Bytes, LabelKey, Labels, LabelValue, MemoryCap, Quantity, SpecModel, all_of, cel


class GPUSpec(SpecModel):
    """The accelerators of one replica."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            "self.count > 0 || !has(self.memory) || self.memory == ''",
            "leave out gpu.memory with gpu.count 0; on the CPU the cap is resources.limits.memory",
            ".memory",
        )
    )

    count: int = Field(1, ge=0, le=16, description="GPUs of one replica; 0 runs on the CPU.")
    memory: MemoryCap = Field(
        "",
        description="Cap per GPU: a share such as 60% or a quantity such as 60Gi. Absent: 80% of the card. Not with count 0.",
    )
    resource_name: str = Field(
        "nvidia.com/gpu",
        max_length=253,
        description="Name of the extended resource: nvidia.com/gpu, or a MIG profile such as nvidia.com/mig-1g.10gb.",
        json_schema_extra=cel(
            "self.matches(r'^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$')",
            "write the name of an extended resource with its domain, such as nvidia.com/gpu or nvidia.com/mig-1g.10gb",
        ),
    )


class ResourceList(SpecModel):
    """Quantities of the serving container. GPUs go to spec.gpu."""

    model_config = ConfigDict(alias_generator=None)

    cpu: Quantity | None = Field(None, description="CPU cores: a whole number such as 2, or a text such as 500m or '0.5'.")
    memory: Bytes | None = Field(None, description="Memory with a unit, such as 8Gi.")
    ephemeral_storage: Bytes | None = Field(None, alias="ephemeral-storage", description="Scratch disk with a unit, such as 2Gi.")


def _not_below_request(name: str, cel_name: str) -> dict[str, object]:
    """The guards keep CEL from evaluating a quantity that another rule refuses."""
    limit, request = f"self.limits.{cel_name}", f"self.requests.{cel_name}"
    return cel(
        f"!has(self.limits) || !has({limit}) || !has(self.requests) || !has({request})"
        f" || !isQuantity(string({limit})) || !isQuantity(string({request}))"
        f" || quantity(string({limit})).compareTo(quantity(string({request}))) >= 0",
        f"write limits.{name} not below requests.{name}, or leave it out: it is then computed",
        ".limits",
    )


class ResourcesSpec(SpecModel):
    """CPU, memory and scratch disk of the container that runs the model. What is absent is computed; a limit always exists."""

    model_config = ConfigDict(
        json_schema_extra=all_of(
            _not_below_request("cpu", "cpu"),
            _not_below_request("memory", "memory"),
            _not_below_request("ephemeral-storage", "ephemeral__dash__storage"),
        )
    )

    requests: ResourceList = Field(
        ResourceList(), description="What the scheduler reserves: cpu, memory, ephemeral-storage. GPUs go to spec.gpu."
    )
    limits: ResourceList = Field(
        ResourceList(), description="What may not be exceeded. Absent: the larger of our default and the request."
    )


class Toleration(SpecModel):
    """Lets the pods run on nodes with this taint; as in a Pod."""

    model_config = ConfigDict(
        json_schema_extra=all_of(
            cel(
                "has(self.operator) && self.operator == 'Exists' ? !has(self.value) || self.value == '' : has(self.key)",
                "write a key (operator Exists without one tolerates every taint), and a value only with operator Equal",
            ),
            cel(
                "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
                "write effect NoExecute with tolerationSeconds, or leave tolerationSeconds out",
            ),
        )
    )

    key: LabelKey | None = Field(None, description="Key of the taint; absent, with operator Exists, means every taint.")
    operator: Literal["Exists", "Equal"] | None = Field(None, description="How key and value are compared. Absent: Equal.")
    value: LabelValue | None = Field(None, description="Value of the taint, with Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint. Absent: every effect."
    )
    toleration_seconds: int | None = Field(
        None, ge=0, le=2_147_483_647, description="How long a NoExecute taint is tolerated. Absent: for ever."
    )


class PlacementSpec(SpecModel):
    """Where the pods may run."""

    node_selector: Labels = Field({}, description="Labels that a node must carry.")
    tolerations: tuple[Toleration, ...] = Field((), max_length=16, description="Taints that the pods tolerate.")
    priority_class_name: str = Field(
        "",
        max_length=253,
        description="PriorityClass of the pods.",
        json_schema_extra=cel(
            "self == '' || !format.dns1123Subdomain().validate(self).hasValue()",
            "write the name of a PriorityClass: lower-case letters, digits, '-' and '.', such as 'production'",
        ),
    )
