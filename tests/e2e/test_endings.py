"""How models go: everything with them, nothing stuck."""

import deploy
from e2e.world import MODELS, World, until

KINDS = "deployments,replicasets,pods,services,configmaps,serviceaccounts,poddisruptionbudgets,networkpolicies"


def children(world: World, name: str) -> list[str]:
    found = world.items(KINDS, "-l", f"localmodel.dev/name={name}")
    return [f"{child['kind']}/{child['metadata']['name']}" for child in found]


def test_deleted_model_is_gone_with_all_it_had(world: World, model) -> None:
    model("brief")
    world.wait_ready("brief")
    assert {child.split("/")[0] for child in children(world, "brief")} >= {
        "Deployment",
        "Pod",
        "Service",
        "ConfigMap",
        "NetworkPolicy",
    }
    world.kubectl("delete", "localmodel", "brief")
    until(lambda: not children(world, "brief"), "nothing is left of the model, which had minutes for its last answers")


def test_namespace_goes_while_the_operator_is_gone(world: World) -> None:
    """With a pod that serves. Kubernetes itself waits for half the pods' grace, which follows from timeouts.total."""
    target, namespace = world.target, f"{world.namespace}-leaving"
    deploy.create_namespace(target, namespace)
    world.make_claim(namespace, MODELS)
    manifest = world.manifest("orphan", gateway={"timeouts": {"total": "10s"}})
    target.apply({**manifest, "metadata": {"name": "orphan", "namespace": namespace}})
    target.kubectl("wait", "-n", namespace, "--for=condition=Ready", "localmodel/orphan", "--timeout=240s")
    world.scale_operator(0)
    try:
        target.kubectl("delete", "namespace", namespace, "--wait=false")
        until(lambda: not target.get("namespace", namespace), "the namespace is gone", 120)
    finally:
        world.scale_operator(2)
        world.drop_volume(namespace)


def test_uninstall_keeps_models_and_their_pods(world: World, chat: str) -> None:
    before = world.pods(chat)[0]["metadata"]["name"]
    world.target.run("helm", "uninstall", deploy.RELEASE, "-n", deploy.SYSTEM_NAMESPACE, "--wait")
    assert world.get("localmodel", chat)
    assert "Paris" in world.ask(chat)
    deploy.install_operator(world.target, "--set=replicas=2")
    world.wait_ready(chat)
    assert [pod["metadata"]["name"] for pod in world.pods(chat)] == [before]
