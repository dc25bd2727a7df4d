"""Raw bodies and reports become small frozen summaries: what core decides from, and all that the operator keeps of a pod.

Tolerant of absent fields, because an object may be seen before its controllers filled it in. It decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from localmodel.api import constants
from localmodel.api.gateway import GatewayStatus
from localmodel.core.kinds import CONFIG_MAP, DEPLOYMENT
from localmodel.core.names import HASH_LENGTH

ChildKey = tuple[str, str]
"""Kind and name."""


@dataclass(frozen=True)
class Container:
    name: str
    ready: bool = False
    restarts: int = 0
    waiting_reason: str = ""
    waiting_message: str = ""
    ended_reason: str = ""
    """Of the last run that ended, such as OOMKilled or Error."""
    ended_message: str = ""
    exit_code: int | None = None


@dataclass(frozen=True)
class Pod:
    name: str
    uid: str = ""
    ip: str = ""
    revision: str = ""
    created: str = ""
    phase: str = ""
    deleting: bool = False
    scheduled: bool = False
    unschedulable: str = ""
    """The scheduler's own sentence."""
    node: str = ""
    setting_up: bool = False
    """Its node has yet to give it volumes and an address: no container can start."""
    node_lost: bool = False
    """Its containers were ready when its kubelet was last heard of, and the cluster has given it up."""
    ended: str = ""
    """Why Kubernetes itself ended it, if it did: an eviction, or the end of its node."""
    ended_at: str = ""
    """When a condition of such a pod last changed."""
    ready: bool = False
    requests: tuple[tuple[str, str], ...] = ()
    """Of the container that runs the model."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    containers: tuple[Container, ...] = ()

    @property
    def live(self) -> bool:
        return not self.deleting and self.phase not in ("Failed", "Succeeded")


@dataclass(frozen=True)
class Rollout:
    """What the Deployment's controller says."""

    settled: bool = False
    """All pods that it knows of are of the current template."""
    refusal: str = ""
    """Why its pods are refused by the API server."""
    deadline_exceeded: bool = False


@dataclass(frozen=True)
class Rival:
    """Another LocalModel of the namespace."""

    name: str
    uid: str
    creation_timestamp: str
    served_names: tuple[str, ...]


@dataclass(frozen=True)
class Observed:
    """All that is known of one model's surroundings at one moment."""

    children: Mapping[ChildKey, dict[str, Any]] = field(default_factory=dict)
    """Live objects that carry our label, or that were found under a name we need."""
    pods: tuple[Pod, ...] = ()
    gateways: Mapping[str, GatewayStatus | None] = field(default_factory=dict)
    """By pod; None: it does not answer. Absent: not asked yet."""
    claim: Literal["NotNeeded", "Found", "Missing"] = "NotNeeded"
    rivals: tuple[Rival, ...] = ()
    refused: str = ""
    """What the API server said when it refused a child in this pass."""

    @property
    def deployment(self) -> dict[str, Any] | None:
        return next((body for (kind, _), body in self.children.items() if kind == DEPLOYMENT.name), None)

    @property
    def live_pods(self) -> tuple[Pod, ...]:
        return tuple(pod for pod in self.pods if pod.live)


def owner_uid(body: dict[str, Any]) -> str:
    """Of the controlling LocalModel; empty if there is none."""
    references = body.get("metadata", {}).get("ownerReferences") or ()
    return next((r.get("uid", "") for r in references if r.get("controller") and r.get("kind") == constants.KIND), "")


def live_revision(observed: Observed) -> str:
    """The revision that the Deployment runs; empty if there is none."""
    template = (observed.deployment or {}).get("spec", {}).get("template", {})
    return str((template.get("metadata", {}).get("annotations") or {}).get(constants.ANNOTATION_CONFIG_HASH, ""))


def revision_of_configmap(name: str) -> str:
    return name[-HASH_LENGTH:]


def is_configmap(key: ChildKey) -> bool:
    return key[0] == CONFIG_MAP.name


def summarize_pod(body: dict[str, Any]) -> Pod:
    metadata, spec, status = body.get("metadata", {}), body.get("spec", {}), body.get("status", {})
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    told = {type_: condition.get("status") for type_, condition in conditions.items()}
    phase = status.get("phase", "")
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    engine: dict[str, Any] = next((c for c in spec.get("containers", ()) if c.get("name") == constants.CONTAINER_TRITON), {})
    return Pod(
        name=metadata.get("name", ""),
        uid=metadata.get("uid", ""),
        ip=status.get("podIP", ""),
        revision=(metadata.get("annotations") or {}).get(constants.ANNOTATION_CONFIG_HASH, ""),
        created=metadata.get("creationTimestamp", ""),
        phase=phase,
        deleting="deletionTimestamp" in metadata,
        scheduled=bool(spec.get("nodeName")),
        unschedulable=scheduled.get("message", "") if scheduled.get("reason") == "Unschedulable" else "",
        node=spec.get("nodeName", ""),
        setting_up=phase == "Pending" and told.get("PodReadyToStartContainers") == "False" and bool(spec.get("nodeName")),
        node_lost=phase == "Running" and told.get("ContainersReady") == "True" and told.get("Ready") == "False",
        ended=": ".join(filter(None, (status.get("reason"), status.get("message", "").strip()))) if phase == "Failed" else "",
        ended_at=max(c.get("lastTransitionTime") or "" for c in (*conditions.values(), {})) if phase == "Failed" else "",
        ready=told.get("Ready") == "True",
        requests=tuple(sorted((engine.get("resources", {}).get("requests") or {}).items())),
        node_selector=spec.get("nodeSelector") or {},
        tolerations=tuple(spec.get("tolerations") or ()),
        containers=tuple(_summarize_container(each) for each in statuses),
    )


def _summarize_container(status: dict[str, Any]) -> Container:
    state, last = status.get("state") or {}, status.get("lastState") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or last.get("terminated") or {}
    return Container(
        name=status.get("name", ""),
        ready=bool(status.get("ready")),
        restarts=status.get("restartCount", 0),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        ended_reason=ended.get("reason", ""),
        ended_message=ended.get("message", ""),
        exit_code=ended.get("exitCode"),
    )


def summarize_rollout(deployment: dict[str, Any] | None) -> Rollout:
    if deployment is None:
        return Rollout()
    status = deployment.get("status", {})
    seen = status.get("observedGeneration", 0) >= deployment.get("metadata", {}).get("generation", 0)
    conditions = {c.get("type"): c for c in status.get("conditions") or () if seen}
    failure = conditions.get("ReplicaFailure", {})
    wanted = deployment.get("spec", {}).get("replicas", 1)
    return Rollout(
        settled=seen and status.get("replicas", 0) == status.get("updatedReplicas", 0) == wanted,
        refusal=failure.get("message", "") if failure.get("status") == "True" else "",
        deadline_exceeded=conditions.get("Progressing", {}).get("reason") == "ProgressDeadlineExceeded",
    )


def report_signature(report: GatewayStatus | None) -> tuple[Any, ...]:
    """The part of a report that a status can show: while it stays, nobody needs to look again."""
    if report is None:
        return ()
    engine = report.backend.engine or {}
    numbers = tuple(engine.get(name) for name in ("kv_tokens_capacity", "weights_bytes", "signature"))
    backend = (report.backend.state, report.backend.message, report.backend.load_seconds)
    words = (report.reason, report.message, report.chat_problem, report.keys_problem)
    return (report.ready, *words, report.version, report.draining, *backend, *numbers)
