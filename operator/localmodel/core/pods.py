"""Which pods count: those of the revision that should run, those that answer, those that nobody hears of."""

from localmodel.core.observe import Observed, Pod
from localmodel.core.plan import Plan


def current_pods(plan: Plan, observed: Observed) -> list[Pod]:
    """Live pods of the revision that should run, always in the same order."""
    pods = [pod for pod in observed.live_pods if not plan.revision or pod.revision == plan.revision]
    return sorted(pods, key=lambda pod: (pod.created, pod.name))


def answering_pods(observed: Observed) -> list[Pod]:
    """Pods that answer a request sent now: the gateway says so, and the Service sends requests there."""
    return [pod for pod in observed.live_pods if pod.ready and (report := observed.gateways.get(pod.name)) and report.ready]


def find_silent(pods: list[Pod], observed: Observed) -> Pod | None:
    """A pod that the kubelet calls ready, but whose gateway does not answer the operator."""
    return next((pod for pod in pods if pod.ready and observed.gateways.get(pod.name, pod) is None), None)
