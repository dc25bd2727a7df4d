"""The chart on a real API server: every object is accepted as it is, and an upgrade or uninstall harms no LocalModel.

No node runs here, so no pod starts: whether the operator works is the e2e tests' matter.
"""

import shutil
import textwrap

import pytest
import yaml

from chart import models
from chart.conftest import CHART, NAMESPACE, RELEASE, Helm, pick

CRD = "localmodels.localmodel.dev"
VALUES = {
    "defaults": {},
    "one-replica": {"replicas": 1, "networkPolicy": {"enabled": True}, "monitoring": {"dashboards": False}},
    "placed": {
        "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "registry"}], "pullPolicy": "Always"},
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}
                ]
            }
        },
        "priorityClassName": "system-cluster-critical",
        "podLabels": {"team": "platform"},
        "podAnnotations": {"note": "yes"},
    },
    "two-namespaces": {"config": {"watchNamespaces": ["llm", NAMESPACE]}},
    "others-make-roles": {"rbac": {"create": False, "userRoles": False}, "serviceAccount": {"create": False, "name": "default"}},
}


@pytest.fixture(scope="module")
def cluster_helm(server, namespaces):
    return Helm(server.kubeconfig)


def run(cluster_helm, command, *arguments, values=None):
    result = cluster_helm.run(command, RELEASE, *arguments, "-n", NAMESPACE, values=values)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
def test_every_object_is_accepted_with_no_field_unknown(values, helm, server, cluster_helm):
    documents = {"apiVersion": "v1", "kind": "List", "items": helm.template(values)}
    flags = ("--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict")
    server.kubectl("apply", *flags, "-f", "-", stdin=documents)


@pytest.fixture(scope="module")
def installed(server, cluster_helm):
    notes = run(cluster_helm, "install", str(CHART), "--no-hooks")
    server.kubectl("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=90s")
    yield notes
    run(cluster_helm, "uninstall", "--no-hooks")
    server.kubectl("delete", "localmodels", "--all", "-n", "llm")


def test_notes_say_what_to_do_next_and_it_works(installed, server):
    start, end = installed.index("<<YAML\n") + len("<<YAML\n"), installed.rindex("YAML\n")
    server.kubectl(
        "create", "--dry-run=server", "--validate=strict", "-f", "-", stdin=yaml.safe_load(textwrap.dedent(installed[start:end]))
    )
    assert f"helm test {RELEASE} -n {NAMESPACE}" in installed


@pytest.mark.parametrize(("kind", "name"), [("Deployment", "localmodel-operator"), ("Pod", "localmodel-operator-test")])
def test_a_restricted_namespace_accepts_the_pods(kind, name, installed, helm, server):
    document = pick(helm.template(), kind, name)
    pod = document["spec"]["template"] if kind == "Deployment" else document
    metadata = {"name": "probe", "namespace": NAMESPACE, "labels": pod["metadata"]["labels"]}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}
    server.kubectl("create", "--dry-run=server", "-f", "-", stdin=body)
    body["spec"]["hostNetwork"] = True
    refused = server.run("create", "--dry-run=server", "-f", "-", stdin=body)
    assert "violates PodSecurity" in refused.stderr


@pytest.mark.parametrize(
    ("verb", "what", "namespace", "answer"),
    [
        ("watch", "localmodels.localmodel.dev", "llm", "yes"),
        ("patch", "localmodels.localmodel.dev --subresource=status", "llm", "yes"),
        ("patch", "deployments.apps", "llm", "yes"),
        ("update", "leases.coordination.k8s.io", NAMESPACE, "yes"),
        ("update", "leases.coordination.k8s.io", "llm", "no"),
        ("delete", "localmodels.localmodel.dev", "llm", "no"),
        ("get", "secrets", NAMESPACE, "no"),
        ("create", "pods", "llm", "no"),
    ],
)
def test_the_operator_may_do_what_it_needs_and_no_more(verb, what, namespace, answer, installed, server):
    user = f"system:serviceaccount:{NAMESPACE}:localmodel-operator"
    assert server.run("auth", "can-i", verb, *what.split(), "-n", namespace, f"--as={user}").stdout.strip() == answer


def test_the_operators_rights_are_enough_for_every_child_of_a_model(installed, server):
    account = f"--as=system:serviceaccount:{NAMESPACE}:localmodel-operator"
    apply = ("apply", "--server-side", "--field-manager=localmodel-operator", "--dry-run=server", "--validate=strict", "-f", "-")
    children = models.build_children()
    server.kubectl(*apply, account, stdin={"apiVersion": "v1", "kind": "List", "items": children})
    stranger = server.run(*apply, "--as=system:serviceaccount:llm:default", stdin=children[0])
    assert "cannot patch resource" in stranger.stderr


def test_upgrade_and_uninstall_keep_the_resource_and_every_model(server, cluster_helm, installed, old_chart):
    run(cluster_helm, "uninstall", "--no-hooks")
    run(cluster_helm, "install", str(old_chart), "--no-hooks")
    assert describe(server) == "an older one"
    server.kubectl("create", "-f", "-", stdin=models.BODY)
    before = server.get("localmodel", "qwen", "-n", "llm")

    run(cluster_helm, "upgrade", str(CHART), "--no-hooks", values={"replicas": 1})
    assert server.get("deployment", "localmodel-operator", "-n", NAMESPACE)["spec"]["replicas"] == 1
    assert describe(server) != "an older one", "an upgrade must renew the CRD"
    assert server.get("localmodel", "qwen", "-n", "llm") == before

    run(cluster_helm, "upgrade", str(CHART), "--no-hooks", values={"crds": {"install": False}})
    assert server.get("localmodel", "qwen", "-n", "llm") == before

    run(cluster_helm, "uninstall", "--no-hooks")
    assert "NotFound" in server.run("get", "deployment", "localmodel-operator", "-n", NAMESPACE).stderr
    assert server.get("localmodel", "qwen", "-n", "llm") == before

    run(cluster_helm, "install", str(CHART), "--no-hooks")
    assert server.get("localmodel", "qwen", "-n", "llm") == before


@pytest.fixture
def old_chart(tmp_path):
    """This chart with a CRD that has another description."""
    folder = shutil.copytree(CHART, tmp_path / "chart")
    crd = yaml.safe_load((folder / "files" / "crd.yaml").read_text())
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "an older one"
    (folder / "files" / "crd.yaml").write_text(yaml.safe_dump(crd, sort_keys=False))
    return folder


def describe(server):
    return server.get("crd", CRD)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"]
