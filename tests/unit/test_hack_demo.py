"""hack/demo.py, hack/deploy.py and hack/model_copy.py: what they decide, without a cluster."""

import json
import subprocess

import pytest
import yaml

import demo
import deploy
import model_copy


def test_without_a_context_the_local_cluster_and_its_registry_are_meant():
    assert demo.read_wish({}) == ("", deploy.LOCAL_REGISTRY, "llm")
    assert demo.read_wish({"NAMESPACE": "try"}).namespace == "try"


def test_a_context_needs_a_registry():
    with pytest.raises(deploy.DeployError, match="needs REGISTRY="):
        demo.read_wish({"CONTEXT": "bank"})
    assert demo.read_wish({"CONTEXT": "bank", "REGISTRY": "r.example/llm"}) == ("bank", "r.example/llm", "llm")


def test_next_steps_fit_the_kind_of_cluster():
    local, other = (demo.describe_next(demo.Wish(context, "r", "n")) for context in ("", "bank"))
    assert "make cluster-down" in local and "--kubeconfig" in local and "--replicas=2" in local
    assert "cluster-down" not in other and "--context bank" in other and "--replicas=2" not in other
    assert "delete namespace" not in other, "the namespace may hold what is not ours"


def test_the_example_has_the_namespace_and_claim_that_the_demo_replaces():
    body = yaml.safe_load(demo.EXAMPLE.read_text())
    assert (body["metadata"]["name"], body["metadata"]["namespace"]) == (demo.NAME, demo.EXAMPLE_NAMESPACE)
    assert demo.EXAMPLE.read_text().count(f"namespace: {demo.EXAMPLE_NAMESPACE}") == 1
    assert body["spec"]["model"]["source"]["pvc"] == {"claimName": demo.CLAIM, "path": demo.MODEL.name}


def make_tool(path, name):
    path.mkdir(parents=True, exist_ok=True)
    tool = path / name
    tool.write_text('#!/bin/sh\necho "$KUBECACHEDIR" "$@"\n')
    tool.chmod(0o755)
    return tool


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A kubectl in the cache and another on PATH."""
    monkeypatch.setattr(deploy, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(deploy, "STATE", tmp_path / "state")
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("KUBECACHEDIR", raising=False)
    return make_tool(tmp_path / "cache" / "bin" / "current", "kubectl"), make_tool(tmp_path / "path", "kubectl")


def test_a_cluster_of_the_users_is_asked_with_the_users_tool_and_only_in_the_named_context(tools):
    assert deploy.Target("bank")._command("kubectl") == [str(tools[1]), "--context", "bank"]
    tools[1].unlink()
    assert deploy.Target("bank")._command("kubectl") == [str(tools[0]), "--context", "bank"]


def test_the_local_cluster_is_asked_with_its_own_tool_kubeconfig_and_cache(tools, tmp_path):
    kubeconfig = str(tmp_path / "state" / "kubeconfig")
    assert deploy.Target()._command("kubectl") == [str(tools[0]), "--kubeconfig", kubeconfig]
    said = subprocess.run(
        [*deploy.Target()._command("kubectl")], env=deploy.Target()._environment(), capture_output=True, text=True
    )
    assert said.stdout.startswith(str(tmp_path / "state"))


def test_helm_names_the_context_in_its_own_way(tools, tmp_path):
    make_tool(tmp_path / "path", "helm")
    assert deploy.Target("bank")._command("helm")[1:] == ["--kube-context", "bank"]


def test_a_missing_tool_is_named(tools):
    with pytest.raises(deploy.DeployError, match="helm is missing: run `make cluster-binaries`"):
        deploy.Target()._command("helm")


def test_watched_objects_come_one_by_one():
    text = "".join(json.dumps({"n": n, "inner": {"a": [1]}}, indent=4) + "\n" for n in (1, 2))
    assert [body["n"] for body in deploy.split_objects(text.splitlines(keepends=True))] == [1, 2]


def test_readiness_is_a_sentence():
    assert deploy.describe_readiness({}) == (False, "waiting for the operator")
    condition = {"type": "Ready", "status": "True", "reason": "Ready", "message": "1 of 1 replicas answer."}
    assert deploy.describe_readiness({"status": {"conditions": [condition]}}) == (True, "Ready: 1 of 1 replicas answer.")


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        (
            "Traceback\nPermissionError: [Errno 13] Permission denied: 'x.part'\ncommand terminated with exit code 1",
            "change the owner",
        ),
        ("OSError: [Errno 30] Read-only file system: 'x.part'", "The claim is read-only"),
        ("OSError: [Errno 28] No space left on device", "too small"),
        ("error: unable to upgrade connection", "unable to upgrade connection"),
        ("", "nothing was said"),
    ],
)
def test_a_failed_copy_says_what_to_do(said, advice):
    assert advice in model_copy.explain_copy(said)


def test_the_loader_may_run_under_restricted_and_under_a_quota():
    spec = model_copy.build_loader("llm", "models", "image")["spec"]
    container = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert container["resources"]["limits"] == container["resources"]["requests"]


class Claimed(deploy.Target):
    """A cluster whose claim is there; anything else asked of it fails."""

    def get(self, *arguments):
        assert arguments[:2] == ("pvc", "models")
        return {"metadata": {"annotations": {model_copy.DONE: "small"}}}

    def run(self, *arguments, **options):
        raise AssertionError(arguments)


def test_a_model_that_was_copied_is_not_copied_again(tmp_path):
    model_copy.copy_model(Claimed("bank"), "llm", "models", tmp_path / "small")


@pytest.mark.parametrize("script", [model_copy.LOOK, model_copy.UNPACK])
def test_what_runs_in_the_pod_is_python(script):
    compile(script, "pod", "exec")
