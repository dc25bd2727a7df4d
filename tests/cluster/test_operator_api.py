"""The operator's process against a real API server: children, status, zero writes, drift, conflicts, restarts, rights.

No controller and no kubelet run here: pods, their status and their gateways are played by tests/simulation.
"""

import itertools
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localmodel.api import constants
from localmodel.core.kinds import CHILD_KINDS
from localmodel.core.permissions import MODEL_PERMISSIONS, OPERATOR_PERMISSIONS
from simulation.fake_gateway import build_report
from simulation.operator_process import (
    LEASE,
    OPERATOR_NAMESPACE,
    USER,
    OperatorProcess,
    build_rbac,
    write_operator_kubeconfig,
)
from simulation.proxy import Proxy
from simulation.workload import Workload, until

pytestmark = pytest.mark.cluster
_NUMBERS = itertools.count(1)
CPU = {"model": {"source": {"pvc": {"claimName": "models", "path": "smol"}}}, "gpu": {"count": 0}}
FULL: dict[str, Any] = {
    "model": {"source": {"pvc": {"claimName": "models"}}, "servedNames": ["full", "full:latest"], "version": "2026.11 ü"},
    "contextWindow": 8192,
    "maxBatchSize": 4,
    "gpu": {"count": 2, "memory": "60Gi", "resourceName": "nvidia.com/mig-1g.10gb"},
    "resources": {"requests": {"cpu": "1.5", "memory": "1000M", "ephemeral-storage": "3Gi"}, "limits": {"cpu": 8}},
    "placement": {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}],
    },
    "replicas": 2,
    "gateway": {"timeouts": {"total": "1m30s"}, "logging": {"mode": "Full"}},
    "security": {
        "allowFrom": [
            {"namespaceSelector": {}},
            {"podSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}},
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
        ]
    },
}


@pytest.fixture(scope="module")
def operator(apiserver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    folder = tmp_path_factory.mktemp("operator")
    apiserver.kubectl("apply", "-f", "-", stdin=build_rbac())
    operator = OperatorProcess(write_operator_kubeconfig(apiserver.kubeconfig, folder), folder, "first").start()
    operator.wait_for_lead()
    yield operator
    operator.stop()
    assert operator.own_exceptions() == []


@pytest.fixture
def workload(apiserver, request: pytest.FixtureRequest) -> Iterator[Workload]:
    """A restricted namespace of its own."""
    name = f"op-{next(_NUMBERS)}-{request.node.originalname[5:30].replace('_', '-').strip('-')}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    apiserver.kubectl("create", "-f", "-", stdin=body)
    workload = Workload(apiserver, name)
    yield workload
    workload.close()


@pytest.fixture
def audit(apiserver) -> "Audit":
    return Audit(apiserver.kubeconfig.parent / "audit.log")


class Audit:
    """What the operator's user did, by the API server's own account."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def entries(self) -> list[dict[str, Any]]:
        entries = (json.loads(line) for line in self._path.read_text().splitlines() if line.endswith("}"))
        return [e for e in entries if e["user"]["username"] == USER and e["stage"] == "ResponseComplete" and "objectRef" in e]

    def writes(self, namespace: str) -> list[str]:
        """All but the lease's, which must be renewed, in words."""
        return [
            f"{e['verb']} {e['objectRef']['resource']}/{e['objectRef'].get('subresource', '')} {e['objectRef'].get('name')}"
            for e in self.entries()
            if e["verb"] in ("create", "update", "patch", "delete") and e["objectRef"].get("namespace") == namespace
        ]

    def when_quiet(self, namespace: str) -> list[str]:
        """The same, once nothing has been written for two seconds."""
        written = -1
        while written != len(writes := self.writes(namespace)):
            written = len(writes)
            time.sleep(2)
        return writes


def make_ready(workload: Workload, name: str, spec: dict[str, Any]) -> list[str]:
    workload.claim()
    workload.apply(name, spec)
    until(lambda: workload.get("deployment", name), f"deployment {name}")
    pods = [workload.run_pod(name) for _ in range(spec.get("replicas", 1))]
    workload.set_deployment(name, len(pods))
    workload.wait(name, "Ready", "True")
    workload.wait(name, "Progressing", "False", "Complete")
    return pods


def test_children_and_status(operator: OperatorProcess, workload: Workload, audit: Audit) -> None:
    make_ready(workload, "chat", CPU)
    model = workload.get("localmodel", "chat")
    for kind, name in [(k.plural, "chat") for k in CHILD_KINDS if k.name != "ConfigMap"] + [("services", "chat-pods")]:
        child = workload.get(kind, name)
        assert child["metadata"]["ownerReferences"][0]["uid"] == model["metadata"]["uid"], kind
    assert "finalizers" not in model["metadata"] and "annotations" not in model["metadata"]
    status = model["status"]
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "Ready": "True", "Accepted": "True", "Scheduled": "True", "ModelLoaded": "True", "GatewayReady": "True",
        "Progressing": "False", "Paused": "False",
    }  # fmt: skip
    assert (status["replicas"], status["readyReplicas"]) == (1, 1)
    assert status["selector"] == "localmodel.dev/name=chat"
    assert status["memory"]["measuredBytes"] == 1_500_000_000 and status["memory"]["kvTokens"] == 65536
    assert status["load"] == {"bytes": 270_000_000, "seconds": 3.2}
    path = f"/apis/localmodel.dev/v1alpha1/namespaces/{workload.namespace}/localmodels/chat/scale"
    scale = json.loads(workload.api.kubectl("get", "--raw", path))
    assert scale["status"] == {"replicas": 1, "selector": "localmodel.dev/name=chat"}


def test_steady_state_and_restart_write_nothing(operator: OperatorProcess, workload: Workload, audit: Audit) -> None:
    """The full spec: whatever the API server makes of it by defaulting must not look like drift."""
    make_ready(workload, "full", FULL)
    workload.apply("chat", CPU)
    until(lambda: workload.get("deployment", "chat"), "deployment chat")
    workload.wait("chat", "Ready", "False")
    before = audit.when_quiet(workload.namespace)
    assert any("deployments" in write for write in before), "the audit log shows the operator's writes"
    time.sleep(4)
    assert audit.writes(workload.namespace)[len(before) :] == []
    operator.stop()
    operator.start().wait_for_lead()
    until(lambda: (operator.metric("localmodel_operator_reconcile_seconds_count") or 0) >= 2, "both reconciled")
    time.sleep(3)
    assert audit.writes(workload.namespace)[len(before) :] == []


def test_other_default_images_restart_nothing(operator: OperatorProcess, workload: Workload, audit: Audit) -> None:
    make_ready(workload, "chat", CPU)
    template = workload.get("deployment", "chat")["spec"]["template"]
    operator.stop()
    operator.start(images={"triton": "localmodel/triton:newer", "gateway": "localmodel/gateway:newer"}).wait_for_lead()
    try:
        workload.wait("chat", "Progressing", "False", "UpgradePending")
        assert workload.get("deployment", "chat")["spec"]["template"] == template
        workload.api.kubectl("set", "image", "deployment/chat", "triton=evil:1", "-n", workload.namespace)
        until(lambda: workload.get("deployment", "chat")["spec"]["template"] == template, "the recorded template is back")
        workload.apply("chat", {**CPU, "contextWindow": 2048})
        until(lambda: "newer" in json.dumps(workload.get("deployment", "chat")), "the new image with the next change")
    finally:
        operator.stop()
        operator.start().wait_for_lead()


@pytest.mark.parametrize(
    ("kind", "patch", "part", "member"),
    [
        ("deployment", {"spec": {"replicas": 7}}, "spec", "replicas"),
        ("deployment", {"spec": {"paused": True}}, "spec", "paused"),
        ("service", {"spec": {"selector": {"localmodel.dev/name": "other"}}}, "spec", "selector"),
        ("networkpolicy", {"spec": {"egress": [{}]}}, "spec", "egress"),
        ("poddisruptionbudget", {"metadata": {"labels": {"app.kubernetes.io/name": "x"}}}, "metadata", "labels"),
    ],
)
def test_drift_is_repaired(operator, workload: Workload, kind: str, patch: dict[str, Any], part: str, member: str) -> None:
    workload.apply("chat", CPU)
    before = until(lambda: workload.get(kind, "chat"), kind)
    until(lambda: workload.condition("chat", "Ready"), "status")
    workload.api.kubectl("patch", kind, "chat", "-n", workload.namespace, "--type=merge", "-p", json.dumps(patch))
    until(lambda: workload.get(kind, "chat")[part].get(member) == before[part].get(member), f"{kind} is as it was")
    until(lambda: "DriftRepaired" in workload.api.kubectl("get", "events", "-n", workload.namespace), "an Event about it")


def test_deleted_child_comes_back_and_old_revisions_go(operator, workload: Workload) -> None:
    [pod] = make_ready(workload, "chat", CPU)
    first = _revisions(workload)
    workload.api.kubectl("delete", "service", "chat", "-n", workload.namespace)
    until(lambda: workload.get("service", "chat"), "the Service is back")
    workload.apply("chat", {**CPU, "maxBatchSize": 3})
    until(lambda: len(_revisions(workload)) == 2, "the new revision, and the old one while a pod uses it")
    workload.wait("chat", "Progressing", "True", "RollingOut")
    workload.wait("chat", "Ready", "True")
    workload.run_pod("chat")
    workload.set_deployment("chat", 1)
    workload.delete_pod(pod)
    until(lambda: len(_revisions(workload)) == 1 and _revisions(workload) != first, "the old revision is gone")
    workload.wait("chat", "Progressing", "False", "Complete")


def test_load_failure_in_tritons_words(operator, workload: Workload) -> None:
    [pod] = make_ready(workload, "chat", CPU)
    said = "load failed for model 'llm': [ModelFilesCorrupt] model.safetensors ends after 12 bytes\n\nAt:\n  model.py(12)\n"
    workload.gateways[pod].report = build_report(pod, "LoadFailed", said)
    condition = workload.wait("chat", "ModelLoaded", "False", "ModelFilesCorrupt")
    assert "model.safetensors ends after 12 bytes" in condition["message"]
    status = workload.get("localmodel", "chat")["status"]
    assert status["lastFailure"] == {
        "reason": "ModelFilesCorrupt", "message": said, "hint": "Copy the model's files again and compare their checksums.",
    }  # fmt: skip
    assert workload.condition("chat", "Ready")["status"] == "False"
    until(lambda: "ModelFilesCorrupt" in workload.api.kubectl("get", "events", "-n", workload.namespace), "an Event")
    workload.gateways[pod].report = build_report(pod)
    workload.wait("chat", "Ready", "True")
    assert "lastFailure" not in workload.get("localmodel", "chat")["status"]


def test_pods_that_cannot_run_are_explained(operator, workload: Workload) -> None:
    workload.apply("chat", {**CPU, "resources": {"requests": {"memory": "900Gi"}}})
    condition = workload.wait("chat", "Scheduled", "False", "VolumeClaimNotFound")
    assert "models" in condition["message"]
    workload.claim()
    workload.wait("chat", "Scheduled", "Unknown", "Pending")
    pod = workload.make_pod("chat")
    said = "0/2 nodes are available: 2 Insufficient memory."
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": said}
    workload._patch_status("pod", pod, {"conditions": [unschedulable]})
    condition = workload.wait("chat", "Scheduled", "False", "Unschedulable")
    assert said in condition["message"] and "900Gi" in condition["message"]
    waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "localmodel/triton:test"'}
    _set_container(workload, pod, state={"waiting": waiting})
    assert "localmodel/triton:test" in workload.wait("chat", "Ready", "False", "ImagePullFailed")["message"]
    killed = {"reason": "OOMKilled", "exitCode": 137}
    _set_container(workload, pod, state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState={"terminated": killed})
    condition = workload.wait("chat", "Ready", "False", "OutOfMemory")
    assert "900Gi" in condition["message"] and "planned" in condition["message"]
    died = {"reason": "Error", "exitCode": 3, "message": "cannot bind"}
    _set_container(workload, pod, state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState={"terminated": died})
    assert "cannot bind" in workload.wait("chat", "Ready", "False", "CrashLoop")["message"]
    refused = 'pods "chat-1" is forbidden: violates PodSecurity "restricted:latest": hostPath volumes'
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": refused}
    workload.delete_pod(pod)
    workload.set_deployment("chat", 0, conditions=[failure])
    assert "hostPath volumes" in workload.wait("chat", "Scheduled", "False", "PodSecurity")["message"]


def test_admission_refuses_hostpath_in_a_restricted_namespace(operator, workload: Workload) -> None:
    """A negative control: the same admission takes every other pod of these tests."""
    workload.apply("chat", {"model": {"source": {"hostPath": {"path": "/opt/models"}}}, "gpu": {"count": 0}})
    until(lambda: workload.get("deployment", "chat"), "deployment")
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        workload.make_pod("chat")


def test_foreign_objects_and_served_names(operator, workload: Workload, audit: Audit) -> None:
    ports = [{"port": 1}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "taken", "namespace": workload.namespace}}
    workload.api.kubectl("create", "-f", "-", stdin={**service, "spec": {"ports": ports}})
    before = workload.get("service", "taken")
    workload.apply("taken", CPU)
    condition = workload.wait("taken", "Accepted", "False", "NameConflict")
    assert "Service named taken" in condition["message"]
    assert workload.get("service", "taken") == before and not workload.get("deployment", "taken")
    workload.apply("older", {**CPU, "model": {**CPU["model"], "servedNames": ["gpt"]}})
    workload.wait("older", "Accepted", "True")
    time.sleep(1.1)
    workload.apply("younger", {**CPU, "model": {**CPU["model"], "servedNames": ["gpt", "other"]}})
    assert "older" in workload.wait("younger", "Accepted", "False", "ServedNameConflict")["message"]
    assert workload.condition("older", "Accepted")["status"] == "True" and not workload.get("deployment", "younger")
    workload.api.kubectl("delete", "localmodel", "older", "-n", workload.namespace)
    workload.wait("younger", "Accepted", "True")


def test_paused_and_stopped(operator, workload: Workload, audit: Audit) -> None:
    workload.claim()
    workload.apply("chat", {**CPU, "paused": True})
    workload.wait("chat", "Paused", "True")
    assert not workload.get("deployment", "chat")
    make_ready(workload, "chat", {**CPU, "paused": False})
    revision = workload.get("deployment", "chat")["metadata"]["resourceVersion"]
    workload.apply("chat", {**CPU, "paused": True, "maxBatchSize": 2})
    workload.wait("chat", "Paused", "True")
    time.sleep(1)
    assert workload.get("deployment", "chat")["metadata"]["resourceVersion"] == revision
    assert workload.condition("chat", "Ready")["status"] == "True"
    workload.apply("chat", {**CPU, "replicas": 0})
    workload.wait("chat", "Ready", "False", "Stopped")
    until(lambda: workload.get("deployment", "chat")["spec"]["replicas"] == 0, "stopped")


def test_disabled_network_policies_are_pruned(operator: OperatorProcess, workload: Workload) -> None:
    make_ready(workload, "chat", CPU)
    assert workload.get("networkpolicy", "chat")
    operator.stop()
    operator.start(networkPolicy={"enabled": False}).wait_for_lead()
    try:
        until(lambda: not workload.get("networkpolicy", "chat"), "the NetworkPolicy is gone")
    finally:
        operator.stop()
        operator.start().wait_for_lead()
    until(lambda: workload.get("networkpolicy", "chat"), "the NetworkPolicy is back")


def test_one_leader_and_a_fast_successor(operator: OperatorProcess, workload: Workload, audit: Audit) -> None:
    second = OperatorProcess(operator.kubeconfig, operator.folder, "second").start()
    try:
        assert operator.metric("localmodel_operator_leader") == 1 and second.metric("localmodel_operator_leader") == 0
        make_ready(workload, "chat", CPU)
        assert second.metric("localmodel_operator_writes_total") is None
        before = audit.when_quiet(workload.namespace)
        operator.stop(signal.SIGKILL)
        killed = second.wait_for_lead()
        assert killed < 12, f"the successor leads {killed:.1f} s after the leader was killed; Kubernetes' own wait 15 s"
        time.sleep(2)
        assert audit.writes(workload.namespace)[len(before) :] == [], "taking over is no reason to write"
        workload.apply("chat", {**CPU, "replicas": 2})
        until(lambda: workload.get("deployment", "chat")["spec"]["replicas"] == 2, "the successor works")
        operator.start()
        assert operator.metric("localmodel_operator_leader") == 0
        assert operator.process
        operator.process.send_signal(signal.SIGSTOP)  # or it takes at once what is released
        second.stop()
        assert workload.api.get("lease", LEASE, "-n", OPERATOR_NAMESPACE)["spec"]["holderIdentity"] == "", "a clean exit frees it"
        operator.process.send_signal(signal.SIGCONT)
    finally:
        second.stop()
    operator.wait_for_lead()


def test_a_cut_from_the_api_server(operator: OperatorProcess, workload: Workload, audit: Audit) -> None:
    """Longer than the lease: nothing is written meanwhile, the process lives on, and after healing all is right."""
    server = json.loads(operator.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    proxy = Proxy(int(server.rsplit(":", 1)[1]))
    kubeconfig = operator.folder / "proxied.kubeconfig"
    kubeconfig.write_text(operator.kubeconfig.read_text().replace(server, f"https://127.0.0.1:{proxy.port}"))
    operator.stop()
    behind = OperatorProcess(kubeconfig, operator.folder, "behind").start()
    try:
        behind.wait_for_lead()
        make_ready(workload, "chat", CPU)
        workload.apply("gone", {**CPU, "model": {**CPU["model"], "version": "1"}})
        until(lambda: workload.get("deployment", "gone"), "a second model")
        workload.wait("gone", "Ready", "False")
        before = audit.when_quiet(workload.namespace)
        proxy.set_cut(True)
        until(lambda: behind.metric("localmodel_operator_leader") == 0, "it knows that it may not write")
        workload.apply("chat", {**CPU, "replicas": 2})
        workload.api.kubectl("delete", "service", "chat", "-n", workload.namespace)
        workload.api.kubectl("delete", "localmodel", "gone", "-n", workload.namespace)
        time.sleep(3)
        assert audit.writes(workload.namespace)[len(before) :] == []
        proxy.set_cut(False)
        until(lambda: workload.get("deployment", "chat")["spec"]["replicas"] == 2, "the change is seen")
        until(lambda: workload.get("service", "chat"), "the deletion is seen")
        after = audit.when_quiet(workload.namespace)[len(before) :]
        assert not any("gone" in write for write in after), "a stale cache brings nothing back"
        assert behind.process and behind.process.poll() is None
    finally:
        behind.stop()
        proxy.close()
        operator.start().wait_for_lead()


def test_rights_are_exactly_what_is_used(operator, audit: Audit) -> None:
    """Runs last: what all tests above did is what the table allows."""
    used, refused = set(), []
    for entry in audit.entries():
        reference = entry["objectRef"]
        resource = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
        if entry["responseStatus"]["code"] == 403 and "RBAC" in entry["responseStatus"].get("message", "RBAC"):
            refused.append((entry["verb"], resource))
        used.add((reference.get("apiGroup", ""), resource, entry["verb"]))
    allowed = {(p.api_group, p.resource, verb) for p in (*MODEL_PERMISSIONS, *OPERATOR_PERMISSIONS) for verb in p.verbs}
    assert refused == []
    assert allowed - used - _CREATED_BY_PATCH == set(), "rights that nothing uses"


_CREATED_BY_PATCH = {
    (p.api_group, p.resource, "create") for p in MODEL_PERMISSIONS if "patch" in p.verbs and p.resource != "events"
}
"""Server-side apply of an absent object is a PATCH in the audit log, for which the API server also asks for `create`."""


def _revisions(workload: Workload) -> list[str]:
    selector = f"-l{constants.LABEL_MODEL}=chat"
    return workload.api.kubectl("get", "configmap", selector, "-n", workload.namespace, "-o", "name").split()


def _set_container(workload: Workload, pod: str, **status: Any) -> None:
    container = {"name": "triton", "image": "i", "imageID": "", "ready": False, "restartCount": 1, **status}
    workload.set_pod(pod, phase="Pending", containerStatuses=[container])
