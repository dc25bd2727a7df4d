"""What helm makes of values, without a cluster: copies are equal, tables are whole, values reach what they name."""

import tomllib

import pytest
import yaml

from chart.conftest import CHART, NAMESPACE, RELEASE, ROOT, pick
from localmodel.api import constants
from localmodel.controller.settings import OperatorSettings, load_settings
from localmodel.core.permissions import MODEL_PERMISSIONS, OPERATOR_PERMISSIONS


def container(documents):
    return pick(documents, "Deployment")["spec"]["template"]["spec"]["containers"][0]


def test_lint_finds_nothing(helm):
    result = helm.run("lint", "--strict", str(CHART))
    assert result.returncode == 0, result.stdout + result.stderr


def test_versions_are_the_distributions():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert chart["version"] == chart["appVersion"] == version


def test_the_resource_is_the_generated_one_and_is_kept(helm):
    crd = pick(helm.template(), "CustomResourceDefinition", "localmodels.localmodel.dev")
    assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert crd == yaml.safe_load((ROOT / "crds" / "localmodels.yaml").read_text())


def test_the_resource_can_be_left_to_others(helm):
    assert "CustomResourceDefinition" not in {each["kind"] for each in helm.template({"crds": {"install": False}})}


@pytest.mark.parametrize("path", sorted((CHART / "files" / "monitoring").glob("*.json")), ids=lambda path: path.stem)
def test_dashboards_arrive_byte_for_byte(path, helm):
    config_map = pick(helm.template(), "ConfigMap", f"{path.stem}-dashboard")
    assert config_map["data"] == {path.name: path.read_text()}
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_rule_is_the_rule_file(helm):
    rule = pick(helm.template({"monitoring": {"rules": True}}), "PrometheusRule", "localmodel")
    assert rule["spec"] == yaml.safe_load((CHART / "files" / "monitoring" / "rules.yaml").read_text())


def test_objects_of_the_prometheus_operator_are_off_until_asked_for(helm):
    assert [each for each in helm.template() if each["apiVersion"].startswith("monitoring.")] == []
    documents = helm.template({"monitoring": {"rules": True, "podMonitors": True, "labels": {"release": "monitoring"}}})
    monitors = [each for each in documents if each["apiVersion"].startswith("monitoring.")]
    assert sorted(each["kind"] for each in monitors) == ["PodMonitor", "PodMonitor", "PrometheusRule"]
    assert all(each["metadata"]["labels"]["release"] == "monitoring" for each in monitors)


def rules(table):
    return [{"apiGroups": [each.api_group], "resources": [each.resource], "verbs": list(each.verbs)} for each in table]


def test_rights_are_the_table_and_leases_are_of_one_namespace(helm):
    documents = helm.template({"rbac": {"userRoles": False}})
    assert pick(documents, "ClusterRole")["rules"] == rules(MODEL_PERMISSIONS)
    own = pick(documents, "Role")
    assert own["rules"] == rules(OPERATOR_PERMISSIONS)
    assert own["metadata"]["namespace"] == NAMESPACE
    assert sum(each["kind"] in ("Role", "ClusterRole") for each in documents) == 2
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        subjects = pick(documents, kind)["subjects"]
        assert subjects == [{"kind": "ServiceAccount", "name": "localmodel-operator", "namespace": NAMESPACE}]


def test_an_operator_of_some_namespaces_has_no_right_outside_them(helm):
    documents = helm.template({"config": {"watchNamespaces": ["a", "b"]}, "rbac": {"userRoles": False}})
    assert [each for each in documents if each["kind"].startswith("ClusterRole")] == []
    roles = [each for each in documents if each["kind"] == "Role" and each["metadata"]["name"] == "localmodel-operator-models"]
    assert [each["metadata"]["namespace"] for each in roles] == ["a", "b"]
    assert all(each["rules"] == rules(MODEL_PERMISSIONS) for each in roles)


def test_the_code_reads_the_config_that_helm_writes(helm, tmp_path):
    given = {
        "images": {"triton": "lan/triton:2", "gateway": "lan/gateway@sha256:0", "pullSecrets": ["lan"]},
        "watchNamespaces": ["llm", "yes"],
        "resyncSeconds": 5000000,
        "logLevel": "DEBUG",
        "engine": {"memoryBase": "3Gi"},
        "networkPolicy": {"monitoringPeers": [{"namespaceSelector": {"matchLabels": {"a": "true"}}}]},
    }
    path = tmp_path / "config.yaml"
    path.write_text(pick(helm.template({"config": given}), "ConfigMap")["data"]["config.yaml"])
    assert load_settings(path) == OperatorSettings(**given)


def test_defaults_are_enough_for_the_code(helm, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(pick(helm.template(), "ConfigMap")["data"]["config.yaml"])
    assert load_settings(path).images.triton.startswith("localmodel-triton:")


def test_a_changed_setting_rolls_the_operator_out_and_an_unchanged_one_does_not(helm):
    def template(values):
        return pick(helm.template(values), "Deployment")["spec"]["template"]

    assert template({}) == template({"monitoring": {"dashboards": False}})
    assert template({}) != template({"config": {"resyncSeconds": 60}})


def test_the_deployment_starts_what_the_image_starts_with_the_mounted_settings(helm):
    operator = container(helm.template())
    assert "command" not in operator
    assert operator["args"] == ["--settings", "/etc/localmodel-operator/config.yaml"]
    names = {each["name"]: each["valueFrom"]["fieldRef"]["fieldPath"] for each in operator["env"]}
    assert names == {
        "LOCALMODEL_OPERATOR_IDENTITY": "metadata.name",
        "LOCALMODEL_OPERATOR_NAMESPACE": "metadata.namespace",
    }
    ports = {each["name"]: each["containerPort"] for each in operator["ports"]}
    assert ports == {"metrics": constants.OPERATOR_METRICS_PORT, "probe": constants.OPERATOR_PROBE_PORT}


def test_environment_of_the_deployment_is_read_by_the_code(helm, monkeypatch):
    for each in container(helm.template())["env"]:
        monkeypatch.setenv(each["name"], each["valueFrom"]["fieldRef"]["fieldPath"])
    settings = OperatorSettings(images={"triton": "a", "gateway": "b"})
    assert (settings.replica, settings.namespace) == ("metadata.name", "metadata.namespace")


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, "localmodel-operator:0.1.0"),
        ({"repository": "lan:5005/op", "tag": "1.2"}, "lan:5005/op:1.2"),
        ({"repository": "lan/op", "tag": "1.2", "digest": "sha256:" + "a" * 64}, "lan/op@sha256:" + "a" * 64),
    ],
)
def test_a_digest_wins_over_a_tag_in_deployment_and_test(image, reference, helm):
    documents = helm.template({"image": image})
    assert container(documents)["image"] == reference
    assert pick(documents, "Pod", "localmodel-operator-test")["spec"]["containers"][0]["image"] == reference


@pytest.mark.parametrize(("replicas", "budgets"), [(1, 0), (2, 1)])
def test_a_single_replica_may_be_evicted(replicas, budgets, helm):
    kinds = [each["kind"] for each in helm.template({"replicas": replicas})]
    assert kinds.count("PodDisruptionBudget") == budgets


def test_everything_namespaced_is_in_the_release_namespace_and_says_whose_it_is(helm):
    documents = helm.template({"networkPolicy": {"enabled": True}, "monitoring": {"rules": True, "podMonitors": True}})
    cluster_wide = ("ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition")
    for each in documents:
        if each["kind"] not in cluster_wide:
            assert each["metadata"]["namespace"] == NAMESPACE, each["metadata"]["name"]
        if each["kind"] != "CustomResourceDefinition":
            assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == RELEASE


def test_names_of_digits_stay_texts(helm):
    """A namespace may be called 2026, and a ServiceAccount `on`."""
    values = {"serviceAccount": {"name": "on"}, "priorityClassName": "7", "config": {"watchNamespaces": ["1", "no"]}}
    everything = "networkPolicy.enabled=true,monitoring.rules=true,monitoring.podMonitors=true"
    result = helm.run("template", "0815", str(CHART), "-n", "2026", "--set", everything, values=values)
    documents = [each for each in yaml.safe_load_all(result.stdout) if each]
    namespaced = {each["metadata"].get("namespace", "2026") for each in documents}
    assert namespaced == {"2026", "1", "no"}
    labels = [each["metadata"].get("labels", {}) for each in documents]
    assert {each["app.kubernetes.io/instance"] for each in labels if each} == {"0815"}
    pod = pick(documents, "Deployment")["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["priorityClassName"]) == ("on", "7")
    assert {each["metadata"]["name"] for each in documents if each["kind"] == "ServiceAccount"} == {"on"}


def test_selectors_select_the_pods(helm):
    documents = helm.template({"networkPolicy": {"enabled": True}, "monitoring": {"podMonitors": True}})
    labels = pick(documents, "Deployment")["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        pick(documents, "Deployment")["spec"]["selector"]["matchLabels"],
        pick(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        pick(documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        pick(documents, "PodMonitor")["spec"]["selector"]["matchLabels"],
        pick(documents, "Service", "localmodel-operator-metrics")["spec"]["selector"],
    ]
    assert all(selector.items() <= labels for selector in selectors)
    test = pick(documents, "Pod", "localmodel-operator-test")["metadata"]["labels"].items()
    assert not any(selector.items() <= test for selector in selectors), "the test's pod must not be taken for an operator"


def test_replicas_keep_apart_in_an_upgrade_too(helm):
    """Counted by template: else both new ones go where the old ones are not, and stay on one node."""
    (constraint,) = pick(helm.template(), "Deployment")["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert constraint["matchLabelKeys"] == ["pod-template-hash"]
