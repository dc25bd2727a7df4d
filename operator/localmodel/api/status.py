"""The `status` of a LocalModel, as the operator writes it. It changes on transitions only: counters are metrics."""

from enum import StrEnum
from typing import Literal

from pydantic import Field

from localmodel.api.values import SpecModel


class ConditionType(StrEnum):
    READY = "Ready"
    ACCEPTED = "Accepted"
    SCHEDULED = "Scheduled"
    MODEL_LOADED = "ModelLoaded"
    GATEWAY_READY = "GatewayReady"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"


CONDITION_MEANINGS = {
    ConditionType.READY: "A request sent now gets an answer from the model. The summary of the others.",
    ConditionType.ACCEPTED: "The object can be acted on: it is valid, and its names are taken by nobody else.",
    ConditionType.SCHEDULED: "The pods that are wanted have a node and their volume.",
    ConditionType.MODEL_LOADED: "The engine has loaded the model.",
    ConditionType.GATEWAY_READY: "The gateway takes requests.",
    ConditionType.PROGRESSING: "A change is being rolled out. Nothing is wrong when it is False.",
    ConditionType.PAUSED: "spec.paused is set: what serves goes on, and nothing is changed.",
}
"""What a condition says when it is True, for the reference."""


class Condition(SpecModel):
    """A condition of Kubernetes' API conventions."""

    type: str = Field(max_length=316, description="What the condition tells: " + ", ".join(ConditionType) + ".")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: str = Field(
        min_length=1,
        max_length=1024,
        pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        description="Why, as one word for programs.",
    )
    message: str = Field("", max_length=32768, description="Why, as a sentence that says what to do.")
    observed_generation: int = Field(0, ge=0, description="The metadata.generation that this was derived from.")
    last_transition_time: str = Field(
        max_length=64, description="When `status` last changed, RFC 3339.", json_schema_extra={"format": "date-time"}
    )


class MemoryStatus(SpecModel):
    """Memory of one replica: what was planned and what it took."""

    planned_bytes: int | None = Field(None, description="Memory planned for one replica.")
    planned: str | None = Field(None, max_length=32, description="The same for people, such as 5.2Gi.")
    measured_bytes: int | None = Field(None, description="What the engine used when it had loaded.")
    cap_bytes: int | None = Field(None, description="The container's memory limit.")
    kv_tokens: int | None = Field(None, description="Tokens that the KV cache holds.")


class LoadStatus(SpecModel):
    """How the model was last loaded."""

    bytes: int | None = Field(None, description="Bytes of weights that were read.")
    seconds: float | None = Field(None, description="How long it took.")


class Failure(SpecModel):
    """The last failure, kept until the model is Ready again."""

    reason: str = Field(max_length=128, description="What failed, as one word for programs.")
    message: str = Field("", max_length=8192, description="Word for word what the failing part said.")
    hint: str = Field("", max_length=2048, description="What to do.")


class LocalModelStatus(SpecModel):
    """What is true now and what to do about it. Written by the operator only."""

    observed_generation: int | None = Field(None, description="The metadata.generation that this was derived from.")
    conditions: tuple[Condition, ...] = Field(
        (),
        max_length=16,
        description="What holds. All are good when True, but Progressing and Paused, which tell something when True.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    replicas: int | None = Field(None, description="Pods that exist.")
    ready_replicas: int | None = Field(None, description="Pods that answer requests.")
    selector: str | None = Field(None, max_length=1024, description="Label selector of the pods, for the scale subresource.")
    endpoint: str | None = Field(None, max_length=1024, description="Base URL for OpenAI clients inside the cluster.")
    version: str | None = Field(None, max_length=128, description="spec.model.version that serves now.")
    signature: str | None = Field(None, max_length=2048, description="Of a Predict model: the tensors that it takes and gives.")
    memory: MemoryStatus | None = None
    load: LoadStatus | None = None
    last_failure: Failure | None = None
