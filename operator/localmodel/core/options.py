"""Options: what core needs of the operator's settings. Values only, with the defaults that a small cluster can live with.

The controller's settings embed these sections unchanged, so a name here is a name in the chart's `config:` block.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from localmodel.api.peers import AllowedPeer
from localmodel.api.values import parse_quantity

Amount = Annotated[
    str, Field(pattern=r"^[0-9]{1,15}(\.[0-9]{1,9})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$", description="A quantity such as 500m, 2 or 8Gi.")
]


class Section(BaseModel):
    """A part of the settings: camelCase on the wire; an unknown key is a typo and is refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Images(Section):
    """Which images the pods run. A change restarts no model: it is taken with the next change of a model's spec."""

    triton: str = Field(min_length=1, description="Image of Triton with the engine, for models without runtime.image.")
    gateway: str = Field(min_length=1, description="Image of the gateway.")
    pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    pull_secrets: tuple[str, ...] = Field((), description="Names of image pull secrets in the models' namespaces.")


class EngineDefaults(Section):
    """Resources of the container that runs the model, where its spec names none."""

    cpu_request: Amount = "1"
    cpu_limit: Amount = "4"
    ephemeral_storage_request: Amount = "256Mi"
    ephemeral_storage_limit: Amount = "2Gi"
    memory_base: Amount = Field("2Gi", description="Memory planned for Triton, the engine and the weights of a CPU model.")
    memory_base_gpu: Amount = Field("8Gi", description="Host memory planned for a GPU model, whose weights pass through it.")
    memory_rank: Amount = Field(
        "4Gi", description="Host memory added for each further GPU, whose share of the weights a process of its own loads."
    )
    memory_per_thousand_tokens: Amount = Field(
        "24Mi", description="Added on the CPU for each 1,000 tokens of contextWindow x maxBatchSize."
    )
    shared_memory: Amount = Field("256Mi", description="Size of /dev/shm, through which Triton talks to the engine.")
    scratch: Amount = Field("1Gi", description="Size of /tmp.")


class GatewayDefaults(Section):
    """Resources of the gateway's container."""

    cpu_request: Amount = "100m"
    cpu_limit: Amount = "2"
    memory_request: Amount = "192Mi"
    memory_limit: Amount = "512Mi"
    ephemeral_storage_request: Amount = "64Mi"
    ephemeral_storage_limit: Amount = "512Mi"
    endpoint_removal_seconds: float = Field(3.0, ge=0, le=60, description="On drain: how long new requests are still served.")
    step_timeout_seconds: float = Field(30.0, gt=0, description="An engine step older than this counts as hung.")

    @model_validator(mode="after")
    def _within_limits(self) -> "GatewayDefaults":
        """The API server would refuse the Deployment of every model."""
        for name in ("cpu", "memory", "ephemeral_storage"):
            if parse_quantity(getattr(self, f"{name}_request")) > parse_quantity(getattr(self, f"{name}_limit")):
                raise ValueError(f"write {to_camel(name)}Request not above {to_camel(name)}Limit")
        return self


class ProbeTimes(Section):
    """When the kubelet decides that a container started, lives, and has died."""

    startup_period_seconds: int = Field(2, ge=1)
    startup_limit_seconds: int = Field(600, ge=10, description="How long Triton may take until it answers at all.")
    liveness_period_seconds: int = Field(5, ge=1)
    liveness_failures: int = Field(3, ge=1)
    readiness_period_seconds: int = Field(1, ge=1)
    readiness_failures: int = Field(2, ge=1)
    timeout_seconds: int = Field(2, ge=1)
    hung_grace_seconds: int = Field(5, ge=1, description="Between SIGTERM and SIGKILL of a Triton that no longer answers.")


class Rollout(Section):
    """How long things may take before they are called stuck."""

    progress_deadline_seconds: int = Field(1800, ge=60)
    termination_margin_seconds: int = Field(30, ge=5, description="Added to the longest request before a pod is killed.")
    revision_history_limit: int = Field(3, ge=0)


class NetworkPolicyOptions(Section):
    """Who may reach the gateways' admin port besides the operator itself."""

    enabled: bool = True
    monitoring_peers: tuple[AllowedPeer, ...] = Field((), description="NetworkPolicy peers that may scrape the models' metrics.")


class Options(Section):
    """Everything that core reads of the settings."""

    images: Images
    engine: EngineDefaults = EngineDefaults()
    gateway: GatewayDefaults = GatewayDefaults()
    probes: ProbeTimes = ProbeTimes()
    rollout: Rollout = Rollout()
    network_policy: NetworkPolicyOptions = NetworkPolicyOptions()
    operator_namespace: str = Field("", description="Namespace of the operator's pods, which may ask the gateways.")


def amount_bytes(amount: str) -> int:
    """Bytes of a memory or storage amount."""
    return int(parse_quantity(amount))
