"""Why pods have no node, or none that lets them run: the causes that stand before any container's own.

Lost nodes and evictions belong here: to whoever is called at night they look like a model that starts for ever.
"""

from datetime import datetime, timedelta

from localmodel.api.localmodel import LocalModel
from localmodel.api.status import ConditionType
from localmodel.core.cause import Cause
from localmodel.core.observe import Observed, Pod, summarize_rollout
from localmodel.core.plan import Plan
from localmodel.core.reasons import Reason

_UNBOUND = "unbound immediate PersistentVolumeClaims"
"""The scheduler's words."""
_REPLACED_WITHIN = timedelta(minutes=5)


def find_scheduling_cause(model: LocalModel, plan: Plan, observed: Observed, pods: list[Pod]) -> Cause | None:
    placed = sum(pod.scheduled for pod in pods)
    pvc = model.spec.model.source.pvc
    if observed.claim == "Missing" and pvc and placed < plan.replicas:
        message = f"PersistentVolumeClaim {pvc.claim_name} does not exist in namespace {model.namespace}."
        return Cause(ConditionType.SCHEDULED, Reason.VOLUME_CLAIM_NOT_FOUND, message)
    refusal = summarize_rollout(observed.deployment).refusal
    if refusal and placed < plan.replicas:
        return Cause(ConditionType.SCHEDULED, _refusal_reason(refusal), refusal)
    waiting = next((pod for pod in pods if pod.unschedulable), None)
    if waiting and pvc and _UNBOUND in waiting.unschedulable:
        message = f"PersistentVolumeClaim {pvc.claim_name} has no volume yet, so no node can be chosen."
        return Cause(ConditionType.SCHEDULED, Reason.VOLUME_CLAIM_UNBOUND, message, waiting.unschedulable)
    if waiting:
        message = f"{waiting.unschedulable.rstrip('. ')}. Each replica asks for {plan.sizing.describe()}."
        return Cause(ConditionType.SCHEDULED, Reason.UNSCHEDULABLE, message, waiting.unschedulable)
    lost = next((pod for pod in pods if pod.node_lost), None)
    if lost:
        message = f"Nothing is heard of node {lost.node}, where pod {lost.name} runs; requests do not go there."
        return Cause(ConditionType.SCHEDULED, Reason.NODE_LOST, message)
    return None


def find_eviction(plan: Plan, observed: Observed, pods: list[Pod]) -> Cause | None:
    """Why there is a new pod that has never been ready: what ended the last one of its revision."""
    new = [pod for pod in pods if not pod.ready and not any(each.restarts for each in pod.containers)]
    if not new and len(pods) >= plan.replicas:
        return None
    ended = [pod for pod in observed.pods if pod.ended and not pod.deleting and pod.revision == plan.revision]
    last = max(ended, key=lambda pod: (pod.created, pod.name), default=None)
    if last is None or (new and not any(_is_soon_after(pod.created, last.ended_at) for pod in new)):
        return None
    return Cause(ConditionType.SCHEDULED, Reason.POD_ENDED, f"Pod {last.name} was ended on node {last.node}: {last.ended}")


def _is_soon_after(created: str, end: str) -> bool:
    """Whether a pod may have been made in place of one that ended then. True if a time is not known."""
    try:
        return datetime.fromisoformat(created) - datetime.fromisoformat(end) < _REPLACED_WITHIN
    except ValueError:
        return True


def describe_setting_up(pods: list[Pod]) -> str:
    """Which pod's node has yet to give it volumes and an address. Without an end where a file server is away."""
    waiting = next((pod for pod in pods if pod.setting_up), None)
    if waiting is None:
        return ""
    return (
        f" Pod {waiting.name} waits on node {waiting.node} for its volumes or its network; "
        f"if it stays so, `kubectl describe pod {waiting.name}` says what is missing."
    )


def _refusal_reason(message: str) -> Reason:
    if "violates PodSecurity" in message:
        return Reason.POD_SECURITY
    return Reason.QUOTA_EXCEEDED if "exceeded quota" in message else Reason.PODS_REFUSED
