"""Gauges are counted from the bodies at the scrape: a model that nobody reconciled yet, or that goes away, has its own words."""

from typing import Any

from localmodel.controller.metrics import OperatorMetrics, Sources


def build_body(*conditions: tuple[str, str, str], **metadata: str) -> dict[str, Any]:
    told = [{"type": type_, "status": status, "reason": reason} for type_, status, reason in conditions]
    return {"metadata": {"namespace": "llm", "name": "a", **metadata}, "spec": {}, "status": {"conditions": told}}


def test_models_are_counted_by_readiness_and_by_change() -> None:
    degraded = build_body(("Ready", "True", "Ready"), ("Progressing", "False", "Blocked"))
    bodies = [
        degraded,
        degraded,
        build_body(("Ready", "False", "LoadFailed"), ("Progressing", "False", "Blocked")),
        build_body(("Ready", "True", "Ready"), ("Progressing", "False", "Complete"), deletionTimestamp="2026-11-26T00:00:00Z"),
        build_body(),
    ]
    metrics = OperatorMetrics()
    metrics.attach(Sources(lambda: iter(bodies), lambda: 0, lambda: 0.0, lambda: True, dict))

    def read(name: str) -> dict[tuple[str, str], float]:
        family = next(each for each in metrics.registry.collect() if each.name == name)
        return {(sample.labels["ready"], sample.labels["reason"]): sample.value for sample in family.samples}

    assert read("localmodel_operator_models") == {
        ("True", "Ready"): 2, ("False", "LoadFailed"): 1, ("False", "Deleting"): 1, ("Unknown", "NotReconciled"): 1,
    }  # fmt: skip
    assert read("localmodel_operator_changes") == {
        ("True", "Blocked"): 2, ("False", "Blocked"): 1, ("False", "Complete"): 1,
    }  # fmt: skip
