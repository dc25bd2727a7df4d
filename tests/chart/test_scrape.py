"""The documented scrape configuration, by a real Prometheus, on the labels that its discovery gives to our real pods.

A wrong relabelling is silent: no target, or no `localmodel` label, and every dashboard is empty. Debian's Prometheus is
built without discovery in Kubernetes, so the labels of its `pod` role are made here, as its documentation lists them.
"""

import re
from collections.abc import Iterator

import yaml

from chart.conftest import NAMESPACE, ROOT, Document, pick
from chart.models import build_pod
from chart.prometheus import Prometheus
from localmodel.api import constants

DOCUMENT = ROOT / "docs" / "reference" / "metrics.md"


def discover(pod: Document, address: str) -> Iterator[Document]:
    """One target for each port of each container, init containers too."""
    given = pod["metadata"]["labels"].items()
    labels = {"__meta_kubernetes_pod_label_" + re.sub("[^a-zA-Z0-9_]", "_", key): value for key, value in given}
    labels["__meta_kubernetes_namespace"] = pod["metadata"]["namespace"]
    labels["__meta_kubernetes_pod_name"] = pod["metadata"]["name"]
    for container in (*pod["spec"]["containers"], *pod["spec"].get("initContainers", ())):
        labels["__meta_kubernetes_pod_container_name"] = container["name"]
        for port in container.get("ports", ()):
            number = str(port["containerPort"])
            meta = {**labels, "__meta_kubernetes_pod_container_port_number": number}
            yield {"targets": [f"{address}:{number}"], "labels": meta}


def test_each_process_is_one_target_with_the_labels_that_queries_use(helm, tmp_path):
    template = pick(helm.template(), "Deployment")["spec"]["template"]
    operator = {**template, "metadata": {**template["metadata"], "name": "operator-0", "namespace": NAMESPACE}}
    discovered = [*discover(operator, "192.0.2.1"), *discover(build_pod(), "192.0.2.2")]
    assert len(discovered) > 2, "there must be something to leave out"
    (block,) = re.findall(r"```yaml\n(scrape_configs:.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    scrape_configs = yaml.safe_load(block)["scrape_configs"]
    for each in scrape_configs:
        assert each.pop("kubernetes_sd_configs") == [{"role": "pod"}]
        each["static_configs"] = discovered
    with Prometheus(tmp_path, scrape_configs) as prometheus:
        targets = prometheus.wait_for_targets(2)
    found = {each["scrapeUrl"]: {key: value for key, value in each["labels"].items() if key != "instance"} for each in targets}
    assert found == {
        f"http://192.0.2.1:{constants.OPERATOR_METRICS_PORT}/metrics": {
            "job": "localmodel-operator",
            "namespace": NAMESPACE,
            "pod": "operator-0",
        },
        f"http://192.0.2.2:{constants.ADMIN_PORT}/metrics": {
            "job": "localmodel-gateway",
            "namespace": "llm",
            "pod": "qwen-0",
            "localmodel": "qwen",
        },
    }


def test_pod_monitors_name_ports_and_labels_that_the_pods_have(helm):
    documents = helm.template({"monitoring": {"podMonitors": True}})
    monitor = pick(documents, "PodMonitor", "localmodel-gateway")["spec"]
    pod = build_pod()
    (gateway,) = (each for each in pod["spec"]["initContainers"] if each["name"] == constants.CONTAINER_GATEWAY)
    assert monitor["selector"]["matchExpressions"] == [{"key": constants.LABEL_MODEL, "operator": "Exists"}]
    assert constants.LABEL_MODEL in pod["metadata"]["labels"]
    ports = {each["name"]: each["containerPort"] for each in gateway["ports"]}
    assert ports[monitor["podMetricsEndpoints"][0]["port"]] == constants.ADMIN_PORT
