"""The seven conditions, each from the plan, the cause and what was observed."""

import re
from typing import Literal

from localmodel.api.localmodel import LocalModel
from localmodel.api.status import ConditionType
from localmodel.core.cause import Cause, explain
from localmodel.core.failures import UNUSABLE_DIRECTORY
from localmodel.core.hints import hint
from localmodel.core.observe import Observed, Pod, summarize_rollout
from localmodel.core.placement import describe_setting_up
from localmodel.core.plan import Plan
from localmodel.core.pods import answering_pods, current_pods, find_silent
from localmodel.core.reasons import Reason
from localmodel.core.verdict import Verdict

_NOT_CALLED_READY = "The gateway answers, but its pod is not called ready yet: the kubelet asks each second."


def derive_verdicts(model: LocalModel, plan: Plan, observed: Observed, cause: Cause | None) -> tuple[Verdict, ...]:
    return (
        _derive_ready(model, plan, observed, cause),
        _derive_accepted(cause),
        _derive_scheduled(model, plan, observed, cause),
        _derive_loaded(model, plan, observed, cause),
        _derive_gateway_ready(model, plan, observed, cause),
        _derive_progressing(model, plan, observed, cause),
        _derive_paused(model),
    )


def _derive_accepted(cause: Cause | None) -> Verdict:
    if cause and cause.stage == ConditionType.ACCEPTED:
        return Verdict(ConditionType.ACCEPTED, "False", cause.reason, explain(cause))
    return Verdict(ConditionType.ACCEPTED, "True", Reason.ACCEPTED)


def _derive_scheduled(model: LocalModel, plan: Plan, observed: Observed, cause: Cause | None) -> Verdict:
    type_, wanted = ConditionType.SCHEDULED, plan.replicas
    if cause and cause.stage == type_:
        return Verdict(type_, "False", cause.reason, explain(cause))
    if wanted == 0:
        return _stopped(type_, model)
    pods = current_pods(plan, observed)
    placed, waits = sum(pod.scheduled for pod in pods), describe_setting_up(pods)
    if placed >= wanted and not waits:
        return Verdict(type_, "True", Reason.SCHEDULED, f"{wanted} of {wanted} pods have a node.")
    return Verdict(type_, "Unknown", Reason.PENDING, f"{min(placed, wanted)} of {wanted} pods have a node.{waits}")


def _derive_loaded(model: LocalModel, plan: Plan, observed: Observed, cause: Cause | None) -> Verdict:
    type_, wanted = ConditionType.MODEL_LOADED, plan.replicas
    if cause and cause.stage == type_:
        return Verdict(type_, "False", cause.reason, explain(cause))
    if wanted == 0:
        return _stopped(type_, model)
    pods = current_pods(plan, observed)
    reports = [observed.gateways.get(pod.name) for pod in pods]
    states = [report.backend.state for report in reports if report]
    loaded = states.count("Ready")
    if loaded >= wanted:
        return Verdict(type_, "True", Reason.LOADED, f"{wanted} of {wanted} replicas have the model loaded.")
    counted = f"{loaded} of {wanted} {_name_pods('replicas', pods, observed)}"
    if silent := find_silent(pods, observed):
        reason = Reason.GATEWAY_UNREACHABLE
        message = f"{counted} say that they have the model loaded. {_describe_silent(silent)}"
        return Verdict(type_, "Unknown", reason, f"{message}\n{hint(reason)}")
    reason = Reason.LOADING if "Loading" in states else Reason.STARTING
    told = next((f" {report.message}" for report in reports if report and report.backend.progress), "")
    return Verdict(type_, "False", reason, f"{counted} have the model loaded.{told}")


def _derive_gateway_ready(model: LocalModel, plan: Plan, observed: Observed, cause: Cause | None) -> Verdict:
    type_, wanted = ConditionType.GATEWAY_READY, plan.replicas
    if cause and cause.stage == type_:
        return Verdict(type_, "False", cause.reason, explain(cause))
    if wanted == 0:
        return _stopped(type_, model)
    pods = current_pods(plan, observed)
    ready = sum(1 for pod in pods if (report := observed.gateways.get(pod.name)) and report.ready)
    message = f"{ready} of {wanted} {_name_pods('gateways', pods, observed)} answer requests."
    if ready >= wanted:
        reports = [observed.gateways.get(pod.name) for pod in pods]
        wrong = next((report.keys_problem for report in reports if report and report.keys_problem), "")
        if wrong:
            return Verdict(type_, "False", Reason.KEYS_INVALID, f"{message} {wrong}\n{hint(Reason.KEYS_INVALID)}")
        return Verdict(type_, "True", Reason.ANSWERING, message)
    if cause and cause.stage == ConditionType.MODEL_LOADED:
        return Verdict(type_, "False", cause.reason, f"{message} The model is not loaded.")
    waiting = [pod for pod in pods if not ((report := observed.gateways.get(pod.name)) and report.ready)]
    reports = [observed.gateways.get(pod.name) for pod in waiting]
    told = next((report for report in reports if report), None)
    if told:
        if told.reason in UNUSABLE_DIRECTORY and told.backend.state != "Ready":
            return Verdict(type_, "False", Reason.LOADING, f"{message} The model is not loaded yet.")
        return Verdict(type_, "False", _word(told.reason), f"{message} {told.message}".strip())
    if silent := find_silent(waiting, observed):
        reason = Reason.GATEWAY_UNREACHABLE
        return Verdict(type_, "False", reason, f"{message} {_describe_silent(silent)}\n{hint(reason)}")
    return Verdict(type_, "False", Reason.STARTING, message)


def _name_pods(what: str, pods: list[Pod], observed: Observed) -> str:
    """While older pods are left, which may answer, it is said that these are not they."""
    return f"{what} of the present revision" if len(pods) < len(observed.live_pods) else what


def _describe_silent(pod: Pod) -> str:
    return f"Pod {pod.name} is called ready, but does not answer the operator."


def _word(reason: str) -> str:
    """A gateway of another version may say anything; the API server takes one word only."""
    return reason if re.fullmatch(r"[A-Za-z][A-Za-z0-9]{0,127}", reason) else Reason.STARTING


def _derive_ready(model: LocalModel, plan: Plan, observed: Observed, cause: Cause | None) -> Verdict:
    type_, wanted = ConditionType.READY, plan.replicas
    pods = answering_pods(observed)
    answering = len(pods)
    if answering and wanted:
        rolling = " A roll-out is in progress." if len(current_pods(plan, observed)) < len(observed.live_pods) else ""
        trouble = f" {cause.reason}: {explain(cause)}" if cause else rolling
        counted = f"{answering} of {wanted}" if answering <= wanted else f"{answering}"
        reports = (observed.gateways.get(pod.name) for pod in pods)
        chats = next((f" Chats are refused: {report.chat_problem}" for report in reports if report and report.chat_problem), "")
        return Verdict(type_, "True", Reason.READY, f"{counted} replicas answer.{chats}{trouble}")
    if cause:
        return Verdict(type_, "False", cause.reason, explain(cause))
    if wanted == 0:
        return _stopped(type_, model)
    if model.spec.paused and observed.deployment is None:
        return Verdict(type_, "False", Reason.PAUSED, "Paused before anything was made; set spec.paused to false.")
    for verdict in (
        _derive_scheduled(model, plan, observed, cause),
        _derive_loaded(model, plan, observed, cause),
        _derive_gateway_ready(model, plan, observed, cause),
    ):
        if verdict.status != "True":
            return Verdict(type_, "False", verdict.reason, verdict.message)
    return Verdict(type_, "False", Reason.POD_NOT_READY, _NOT_CALLED_READY)


def _derive_progressing(model: LocalModel, plan: Plan, observed: Observed, cause: Cause | None) -> Verdict:
    type_, wanted = ConditionType.PROGRESSING, plan.replicas
    if model.spec.paused:
        return Verdict(type_, "False", Reason.PAUSED, "Nothing is changed while spec.paused is true.")
    if cause:
        return Verdict(type_, "False", Reason.BLOCKED, f"{cause.reason}: {cause.message}")
    current, live = current_pods(plan, observed), observed.live_pods
    if wanted == 0:
        status: Literal["True", "False"] = "True" if live else "False"
        return Verdict(type_, status, Reason.STOPPING if live else Reason.STOPPED, f"{len(live)} pods are left.")
    ready = [pod for pod in answering_pods(observed) if pod in current]
    if len(ready) == len(live) == wanted:
        if plan.upgrade_pending:
            return Verdict(type_, "False", Reason.UPGRADE_PENDING, "\n".join(plan.notes))
        return Verdict(type_, "False", Reason.COMPLETE, f"{wanted} of {wanted} replicas are as the spec wants them.")
    message = f"{len(ready)} of {wanted} replicas of the present revision answer; {len(live) - len(current)} older pods are left."
    if summarize_rollout(observed.deployment).deadline_exceeded:
        reason = Reason.DEADLINE_EXCEEDED
        return Verdict(type_, "False", reason, f"{message}\n{hint(reason)}")
    return Verdict(type_, "True", Reason.ROLLING_OUT if len(live) > len(current) else Reason.STARTING, message)


def _derive_paused(model: LocalModel) -> Verdict:
    if model.spec.paused:
        message = "Nothing but the status is written; what runs goes on serving."
        return Verdict(ConditionType.PAUSED, "True", Reason.PAUSED, message)
    return Verdict(ConditionType.PAUSED, "False", Reason.NOT_PAUSED)


def _stopped(type_: ConditionType, model: LocalModel) -> Verdict:
    message = "spec.replicas is 0; raise it to start the model."
    if model.spec.paused:
        message = "It was stopped before it was paused; set spec.paused to false and spec.replicas above 0."
    return Verdict(type_, "False", Reason.STOPPED, message)
