"""The operator's process with nothing but the rights and the settings that the chart gives it, on a real API server.

A right that is missing shows here in seconds; in a cluster it shows as a model that never gets its pods.
"""

import json
import os
import subprocess
import sys
import time

import pytest
import yaml

from chart.conftest import CHART, NAMESPACE, RELEASE, ROOT, Helm
from ports import free_ports

CHECK = CHART / "files" / "check.py"
ACCOUNT = "localmodel-operator"
CHILDREN = "deployment,service,configmap,networkpolicy,poddisruptionbudget,serviceaccount"
CHOSEN = ("-n", "llm", "-l", "localmodel.dev/name=mistral")


@pytest.fixture(params=[{}, {"config": {"watchNamespaces": ["llm"]}}], ids=["whole-cluster", "one-namespace"])
def operator(request, server, namespaces, tmp_path):
    """The port of its metrics."""
    helm = Helm(server.kubeconfig)
    installed = helm.run("install", RELEASE, str(CHART), "-n", NAMESPACE, "--no-hooks", values=request.param)
    assert installed.returncode == 0, installed.stderr
    config = server.get("configmap", ACCOUNT, "-n", NAMESPACE)["data"]["config.yaml"]
    (tmp_path / "config.yaml").write_text(config)
    kubeconfig = yaml.safe_load(server.kubeconfig.read_text())
    token = server.kubectl("create", "token", ACCOUNT, "-n", NAMESPACE).strip()
    kubeconfig["users"] = [{"name": each["name"], "user": {"token": token}} for each in kubeconfig["users"]]
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    port, probe_port = free_ports(2)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "operator"),
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
        "LOCALMODEL_OPERATOR_NAMESPACE": NAMESPACE,
        "LOCALMODEL_OPERATOR_SERVER__METRICS_PORT": str(port),
        "LOCALMODEL_OPERATOR_SERVER__PROBE_PORT": str(probe_port),
    }
    command = [sys.executable, "-m", "localmodel.controller", "--settings", str(tmp_path / "config.yaml")]
    with (tmp_path / "operator.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield port
        finally:
            process.terminate()
            process.wait(timeout=60)
            helm.run("uninstall", RELEASE, "-n", NAMESPACE, "--no-hooks")


def test_it_leads_and_serves_a_model(operator, server, tmp_path):
    check = subprocess.run([sys.executable, str(CHECK), "127.0.0.1", str(operator), "90"], capture_output=True, text=True)
    assert check.returncode == 0, check.stderr + (tmp_path / "operator.log").read_text()
    body = {
        "apiVersion": "localmodel.dev/v1alpha1",
        "kind": "LocalModel",
        "metadata": {"name": "mistral", "namespace": "llm"},
        "spec": {"model": {"source": {"pvc": {"claimName": "absent"}}}},
    }
    server.kubectl("create", "-f", "-", stdin=body)
    try:
        wait_for_event(server, "VolumeClaimNotFound")
        log = (tmp_path / "operator.log").read_text()
        assert "orbidden" not in log
        children = server.get(CHILDREN, *CHOSEN)
        assert {each["kind"] for each in children["items"]} >= {"Deployment", "Service", "ConfigMap", "NetworkPolicy"}
    finally:
        server.kubectl("delete", "localmodel", "mistral", "-n", "llm")
        server.kubectl(
            "delete", "deployment,service,configmap,networkpolicy,pdb,sa", "-n", "llm", "-l", "localmodel.dev/name=mistral"
        )
        server.kubectl("delete", "events.events.k8s.io", "--all", "-n", "llm")


def wait_for_event(server, reason, seconds=90):
    """The last thing that is written for a new model: status before it, children before that."""
    deadline = time.monotonic() + seconds
    while reason not in server.kubectl("get", "events.events.k8s.io", "-n", "llm", "-o", "jsonpath={.items[*].reason}"):
        assert time.monotonic() < deadline, server.kubectl("get", "localmodel", "mistral", "-n", "llm", "-o", "yaml")
        time.sleep(0.3)
