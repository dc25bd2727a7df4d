"""How models go: everything with them, nothing stuck."""

import time

import deploy
from e2e.world import World, until

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
    start = time.monotonic()
    world.kubectl("delete", "localmodel", "brief")
    until(lambda: not children(world, "brief"), "nothing is left of the model", 60)
    assert time.monotonic() - start < 30


def test_namespace_goes_while_the_operator_is_gone(world: World) -> None:
    deploy.create_namespace(world.target, "e2e-leaving")
    manifest = {**world.manifest("orphan"), "metadata": {"name": "orphan", "namespace": "e2e-leaving"}}
    world.target.apply(manifest)
    until(lambda: world.target.get("-n", "e2e-leaving", "deployment", "orphan"), "a child was made", 30)
    world.scale_operator(0)
    try:
        world.target.kubectl("delete", "namespace", "e2e-leaving", "--wait=false")
        until(lambda: not world.target.get("namespace", "e2e-leaving"), "the namespace is gone", 90)
    finally:
        world.scale_operator(2)


def test_uninstall_keeps_models_and_their_pods(world: World, chat: str) -> None:
    before = world.pods(chat)[0]["metadata"]["name"]
    world.target.run("helm", "uninstall", deploy.RELEASE, "-n", deploy.SYSTEM_NAMESPACE, "--wait")
    assert world.get("localmodel", chat)
    assert "Paris" in world.ask(chat)
    deploy.install_operator(world.target, "--set=replicas=2")
    world.wait_ready(chat)
    assert [pod["metadata"]["name"] for pod in world.pods(chat)] == [before]
