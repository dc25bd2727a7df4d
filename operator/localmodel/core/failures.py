"""What is wrong now, if anything: one cause, the earliest on the way from spec to answer, in the words of whoever failed.

What failed and is tried again stays the cause until it succeeds: a status that flips with every try tells nobody anything.
Conditions, lastFailure and Events are all made from it, so that they never tell different stories.
"""

import re

from localmodel.api import constants
from localmodel.api.engine import parse_load_failure
from localmodel.api.gateway import GatewayStatus
from localmodel.api.localmodel import LocalModel
from localmodel.api.status import ConditionType, LocalModelStatus
from localmodel.core.cause import Cause
from localmodel.core.hints import hint
from localmodel.core.observe import Container, Observed, Pod
from localmodel.core.placement import find_eviction, find_scheduling_cause
from localmodel.core.plan import Plan
from localmodel.core.pods import current_pods
from localmodel.core.quantities import format_for_people, format_memory
from localmodel.core.reasons import Reason

_PULL_REASONS = {
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable",
}  # fmt: skip
_PULL_FAILED = "ErrImagePull"
"""The kubelet tells the same error with this before it while it waits to pull again."""
_STUB_GONE = re.compile(r"Stub process \S* ?is not healthy")
"""Triton's words when the process that runs the model ended before it could say why."""
_START_REASONS = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreStartHookError"}

_LONGEST_WORDS = 500
_NO_KEYS = {"KeysMissing", "KeysInvalid"}
"""A gateway's words when it would have to turn everybody away."""
UNUSABLE_DIRECTORY = {"TokenizerMissing"}
"""A gateway's word. Before Triton has loaded the model they may be a mere consequence of what Triton is about to say."""


def find_cause(model: LocalModel, plan: Plan, observed: Observed, previous: LocalModelStatus) -> Cause | None:
    if plan.refusal:
        return Cause(ConditionType.ACCEPTED, plan.refusal.reason, plan.refusal.message)
    if observed.refused:
        return Cause(ConditionType.ACCEPTED, Reason.CHILD_REFUSED, observed.refused)
    if plan.replicas == 0:
        return None
    pods = current_pods(plan, observed)
    return (
        find_scheduling_cause(model, plan, observed, pods)
        or next((cause for pod in pods if (cause := _find_container_cause(model, plan, pod))), None)
        or next((cause for pod in pods if (cause := _find_backend_cause(model, plan, pod, observed))), None)
        or _find_standing_cause(model, pods, observed, previous)
        or find_eviction(plan, observed, pods)
    )


def _find_container_cause(model: LocalModel, plan: Plan, pod: Pod) -> Cause | None:
    return next((cause for each in pod.containers if (cause := _container_cause(model, plan, pod, each))), None)


def _container_cause(model: LocalModel, plan: Plan, pod: Pod, container: Container) -> Cause | None:
    stage = ConditionType.GATEWAY_READY if container.name == constants.CONTAINER_GATEWAY else ConditionType.MODEL_LOADED
    waiting, said = container.waiting_reason, container.waiting_message
    if waiting in _PULL_REASONS:
        said = said.rpartition(f": {_PULL_FAILED}: ")[2]
        return Cause(stage, Reason.IMAGE_PULL_FAILED, f"Container {container.name}: {said or waiting}", said)
    if waiting in _START_REASONS:
        return Cause(stage, Reason.CONTAINER_CANNOT_START, f"Container {container.name}: {said or waiting}", said)
    if container.ended_reason == "OOMKilled" and not pod.ready:
        allowed = f" {_describe_memory(plan)}" if container.name == constants.CONTAINER_TRITON else ""
        message = f"Container {container.name} was killed because it used more memory than its limit.{allowed}"
        return Cause(stage, Reason.OUT_OF_MEMORY, message)
    if waiting == "CrashLoopBackOff":
        log_key = model.spec.gateway.logging.chain_key_ref
        if log_key and stage == ConditionType.GATEWAY_READY and container.exit_code == constants.EXIT_BAD_LOG_KEY:
            message = (
                f"The gateway can't use the key of the log's chain in Secret {log_key.name}: {container.ended_message.strip()}"
            )
            return Cause(stage, Reason.LOG_KEY_UNUSABLE, message, container.ended_message.strip())
        words = _last_words(container.ended_message)
        ended = f" It said: {words}" if words else ""
        message = f"Container {container.name} ended with exit code {container.exit_code} again and again.{ended}"
        return Cause(stage, Reason.CRASH_LOOP, message, container.ended_message.strip())
    return None


def _last_words(text: str) -> str:
    """Of a log's end: why a process ended stands in its last lines, below what it did before."""
    lines = text.strip().splitlines()
    while len(lines) > 1 and len("\n".join(lines)) > _LONGEST_WORDS:
        del lines[0]
    return "\n".join(lines)[-_LONGEST_WORDS:]


def _find_standing_cause(model: LocalModel, pods: list[Pod], observed: Observed, previous: LocalModelStatus) -> Cause | None:
    """What made the same pods fail with this same spec before, while they try again."""
    failure = previous.last_failure
    before = {each.type: each for each in previous.conditions}
    stopped = before.get(ConditionType.PROGRESSING)
    if failure is None or stopped is None or stopped.reason != Reason.BLOCKED:
        return None
    for stage, is_over in ((ConditionType.MODEL_LOADED, _has_loaded), (ConditionType.GATEWAY_READY, _has_spoken)):
        told = before.get(stage)
        if told is None or told.reason != failure.reason or told.observed_generation != model.generation:
            continue
        if any(pod.created <= stopped.last_transition_time and not is_over(pod, observed) for pod in pods):
            message = told.message.removesuffix(hint(failure.reason)).strip()
            return Cause(stage, failure.reason, message, failure.message)
        return None
    return None


def _has_spoken(pod: Pod, observed: Observed) -> bool:
    return observed.gateways.get(pod.name) is not None


def _has_loaded(pod: Pod, observed: Observed) -> bool:
    report = observed.gateways.get(pod.name)
    return report is not None and report.backend.state == "Ready"


def _find_backend_cause(model: LocalModel, plan: Plan, pod: Pod, observed: Observed) -> Cause | None:
    report = observed.gateways.get(pod.name)
    if report is None or report.ready:
        return None
    if report.reason in _NO_KEYS:
        return _keys_cause(model, report)
    backend = report.backend
    if backend.state == "LoadFailed":
        failure = parse_load_failure(backend.message)
        if failure:
            return Cause(ConditionType.MODEL_LOADED, failure.code, failure.message, backend.message)
        return _load_cause(plan, backend.message)
    if backend.state == "Ready" and report.reason in UNUSABLE_DIRECTORY:
        return Cause(ConditionType.GATEWAY_READY, report.reason, report.message or "The model's directory is not complete.")
    if backend.state == "Hung":
        return Cause(ConditionType.GATEWAY_READY, Reason.BACKEND_HUNG, backend.message or "The engine makes no progress.")
    return None


def _keys_cause(model: LocalModel, report: GatewayStatus) -> Cause:
    secret = model.spec.gateway.auth.secret_ref
    if report.reason == Reason.KEYS_INVALID or secret is None:
        return Cause(ConditionType.GATEWAY_READY, Reason.KEYS_INVALID, report.message)
    message = f"Secret {secret.name} does not exist in namespace {model.namespace}, or it is empty: nobody has an API key."
    return Cause(ConditionType.GATEWAY_READY, Reason.SECRET_NOT_FOUND, message)


def _load_cause(plan: Plan, said: str) -> Cause:
    """A load that failed without a word of the engine. On cgroup v1 the kubelet does not learn of a killed child."""
    if _STUB_GONE.search(said) and plan.sizing.memory_limit < plan.sizing.planned_bytes:
        message = f"The model's process ended while it loaded, most likely killed for want of memory. {_describe_memory(plan)}"
        return Cause(ConditionType.MODEL_LOADED, Reason.OUT_OF_MEMORY, message, said)
    return Cause(ConditionType.MODEL_LOADED, Reason.LOAD_FAILED, said.strip() or "Triton gave no reason.")


def _describe_memory(plan: Plan) -> str:
    limit, planned = format_memory(plan.sizing.memory_limit), format_for_people(plan.sizing.planned_bytes)
    return f"It may use {limit}; {planned} were planned."
