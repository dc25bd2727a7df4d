"""derive_status: what is true now, from the plan and what was observed. It changes on transitions only.

Measured numbers are taken over only when they moved by a tenth, because the API server is no place for a gauge.
"""

from localmodel.api.gateway import GatewayStatus
from localmodel.api.localmodel import Invalid, LocalModel
from localmodel.api.status import ConditionType, Failure, LoadStatus, LocalModelStatus, MemoryStatus
from localmodel.core.cause import Cause
from localmodel.core.conditions import derive_verdicts
from localmodel.core.failures import find_cause
from localmodel.core.hints import hint
from localmodel.core.labels import format_selector
from localmodel.core.names import endpoint_url
from localmodel.core.observe import Observed
from localmodel.core.plan import Plan
from localmodel.core.pods import answering_pods, current_pods
from localmodel.core.quantities import format_for_people
from localmodel.core.reasons import Reason
from localmodel.core.verdict import Verdict, merge_conditions

_LONGEST_SAID = 8192
_LONGEST_SIGNATURE = 2048
_TOLERANCE = 0.1


def derive_status(model: LocalModel, plan: Plan, observed: Observed, previous: LocalModelStatus, now: str) -> LocalModelStatus:
    cause = find_cause(model, plan, observed, previous)
    verdicts = derive_verdicts(model, plan, observed, cause)
    answering = answering_pods(observed)
    ready = bool(answering) and plan.replicas > 0
    current = {pod.name for pod in current_pods(plan, observed)}
    ordered = sorted(answering, key=lambda pod: (pod.name not in current, pod.created, pod.name))
    report = observed.gateways.get(ordered[0].name) if ordered else None
    return LocalModelStatus(
        observed_generation=model.generation,
        conditions=merge_conditions(previous.conditions, verdicts, model.generation, now),
        replicas=len(observed.live_pods),
        ready_replicas=len(answering),
        selector=format_selector(model),
        endpoint=endpoint_url(model),
        version=(report.version or None) if report else None,
        signature=_signature(report) or previous.signature if model.spec.model.task == "Predict" else None,
        memory=_derive_memory(plan, report, previous.memory or MemoryStatus()),
        load=_derive_load(report, previous.load),
        last_failure=_derive_failure(cause, None if ready else previous.last_failure),
    )


def derive_invalid_status(invalid: Invalid, previous: LocalModelStatus, now: str) -> LocalModelStatus:
    """For a body that the schema let through and we can't read: nothing is changed, and the user is told."""
    message = "\n".join((*invalid.errors, hint(Reason.INVALID_SPEC)))
    verdicts = [
        Verdict(ConditionType.READY, "Unknown", Reason.INVALID_SPEC, message),
        Verdict(ConditionType.ACCEPTED, "False", Reason.INVALID_SPEC, message),
    ]
    kept = [condition for condition in previous.conditions if condition.type not in (ConditionType.READY, ConditionType.ACCEPTED)]
    conditions = (*merge_conditions(previous.conditions, verdicts, invalid.generation, now), *kept)
    return previous.model_copy(update={"observed_generation": invalid.generation, "conditions": conditions})


def _derive_memory(plan: Plan, report: GatewayStatus | None, previous: MemoryStatus) -> MemoryStatus:
    return MemoryStatus(
        planned_bytes=plan.sizing.planned_bytes,
        planned=format_for_people(plan.sizing.planned_bytes),
        measured_bytes=_steady(_number(report, "memory_bytes"), previous.measured_bytes),
        cap_bytes=plan.sizing.memory_limit,
        kv_tokens=_number(report, "kv_tokens_capacity") or previous.kv_tokens,
    )


def _derive_load(report: GatewayStatus | None, previous: LoadStatus | None) -> LoadStatus | None:
    if report is None or report.backend.load_seconds is None:
        return previous
    seconds = round(report.backend.load_seconds, 1)
    return LoadStatus(bytes=_number(report, "weights_bytes"), seconds=seconds)


def _derive_failure(cause: Cause | None, previous: Failure | None) -> Failure | None:
    if cause is None:
        return previous
    said = (cause.said or cause.message)[:_LONGEST_SAID]
    return Failure(reason=cause.reason, message=said, hint=hint(cause.reason))


def _signature(report: GatewayStatus | None) -> str | None:
    value = (report.backend.engine or {}).get("signature") if report else None
    return str(value)[:_LONGEST_SIGNATURE] if value else None


def _number(report: GatewayStatus | None, name: str) -> int | None:
    value = (report.backend.engine or {}).get(name) if report else None
    return int(value) if isinstance(value, int | float) and value > 0 else None


def _steady(measured: int | None, previous: int | None) -> int | None:
    if measured is None or (previous and abs(measured - previous) <= _TOLERANCE * previous):
        return previous
    return measured
