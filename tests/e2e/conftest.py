"""The world of the e2e tests: a cluster, the operator installed by Helm, models that are real or really broken.

The local cluster must be up (`make test` sees to it). With CONTEXT=name REGISTRY=host:port it is a cluster of the user's, and
tests that look behind the API are skipped. What a test makes is removed at the end.
"""

import dataclasses
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import deploy
import wish
from e2e.local import LocalCluster
from e2e.world import EMBEDDING_MODEL, MODEL, MODELS, World
from predict_models import write_bags

RESOURCE = "localmodels.localmodel.dev"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def make_models(directory: Path) -> None:
    """`good`, and the same model truncated; `nothing` has no model in it; an embedding model; `bags` of tensors."""
    shutil.rmtree(directory, ignore_errors=True)
    for name, source in (("good", MODEL), ("truncated", MODEL), (EMBEDDING_MODEL.name, EMBEDDING_MODEL)):
        shutil.copytree(source, directory / name, copy_function=os.link)
    write_bags(directory / "bags")
    (directory / "nothing").mkdir()
    weights = directory / "truncated" / "model.safetensors"
    weights.unlink()
    weights.write_bytes((MODEL / "model.safetensors").read_bytes()[: 100 * 2**20])
    (directory / "nothing" / "README").write_text("not a model\n")


def prepare_target() -> deploy.Target:
    """The local cluster, or the one that CONTEXT names: there, the operator must not be in use, because it will be removed."""
    chosen = wish.read_wish(os.environ)
    target = deploy.Target(chosen.context, chosen.registry)
    if not target.local:
        installed = target.run("helm", "status", deploy.RELEASE, "-n", deploy.SYSTEM_NAMESPACE, check=False)
        if not installed.returncode:
            where = f"{deploy.SYSTEM_NAMESPACE}/{deploy.RELEASE} in {chosen.context}"
            why = "these tests upgrade, stop and uninstall it"
            pytest.exit(f"The operator is installed as {where}: {why}. Name a cluster without it, or see docs/install.md.", 1)
    return dataclasses.replace(target, images=deploy.push_images(chosen.registry))


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    for model in (MODEL, EMBEDDING_MODEL):
        if not (model / "model.safetensors").exists():
            pytest.fail(f"{model.name} is missing: `make test ONLY=e2e` makes it")
    target = prepare_target()
    make_models(MODELS)
    namespace = f"e2e-{uuid.uuid4().hex[:6]}"
    world = World(target, namespace)
    made = [object for object in (("crd", RESOURCE), ("namespace", deploy.SYSTEM_NAMESPACE)) if not target.get(*object)]
    deploy.install_operator(target, "--set=replicas=2")
    deploy.create_namespace(target, namespace)
    try:
        world.make_claim(namespace, MODELS)
        yield world
    finally:
        # A namespace waits for half the grace of its running pods, which is minutes; a model's deletion does not.
        world.kubectl("delete", "localmodel", "--all", check=False)
        target.kubectl("delete", "namespace", namespace, "--wait=false", check=False)
        world.drop_volume(namespace)
        world.close()
        if not target.local:
            target.run("helm", "uninstall", deploy.RELEASE, "-n", deploy.SYSTEM_NAMESPACE, "--wait", check=False)
            for kind, name in made:
                target.kubectl("delete", kind, name, "--wait=false", check=False)


@pytest.fixture(scope="session")
def packets(world: World) -> Iterator[LocalCluster | None]:
    """Packets of pods are recorded for the whole session, wherever that can be done."""
    if not world.target.local:
        yield None
        return
    cluster = LocalCluster(world.namespace)
    cluster.start_packet_record()
    yield cluster
    cluster.stop_packet_record()


@pytest.fixture
def local(packets: LocalCluster | None) -> LocalCluster:
    if packets is None:
        pytest.skip("looks at processes, packets or the audit log, which only the local cluster shows")
    return packets


@pytest.fixture(scope="session")
def chat(world: World, packets: LocalCluster | None) -> str:
    """A model that serves; tests that break it leave it serving."""
    world.apply(world.manifest("chat"))
    world.wait_ready("chat")
    return "chat"


@pytest.fixture
def model(world: World, request: pytest.FixtureRequest) -> Iterator[Callable[..., dict[str, Any]]]:
    """Applies a model of its own for one test and deletes it afterwards."""
    names: list[str] = []

    def apply(name: str, **spec: Any) -> dict[str, Any]:
        names.append(name)
        return world.apply(world.manifest(name, **spec))

    yield apply
    for name in names:
        world.kubectl("delete", "localmodel", name, "--ignore-not-found", "--wait=false")
