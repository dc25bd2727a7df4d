"""The world of the e2e tests: the local cluster, the operator installed by Helm, models that are real or really broken.

The cluster must be up and the images pushed (`make test` does both). What a test makes is removed at the end, and
packets of model pods are recorded on both nodes for the whole session.
"""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import deploy
from e2e.world import World

MODEL = deploy.CACHE / "models" / "smollm2-135m-instruct"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def make_models(directory: Path) -> None:
    """`good`, and the same model truncated; `nothing` has no model in it."""
    for name in ("good", "truncated", "nothing"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    for file in MODEL.iterdir():
        for name in ("good", "truncated"):
            link = directory / name / file.name
            if not link.exists():
                link.hardlink_to(file)
    weights = directory / "truncated" / "model.safetensors"
    weights.unlink()
    weights.write_bytes((MODEL / "model.safetensors").read_bytes()[: 100 * 2**20])
    (directory / "nothing" / "README").write_text("not a model\n")


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    if not (MODEL / "model.safetensors").exists():
        pytest.fail("the real model is missing: run `make weights`")
    target = deploy.Target(images=deploy.push_images(deploy.LOCAL_REGISTRY))
    directory = deploy.STATE / "e2e-models"
    make_models(directory)
    namespace = f"e2e-{uuid.uuid4().hex[:6]}"
    world = World(target, namespace)
    world.start_packet_record()
    deploy.install_operator(target, "--set=replicas=2")
    deploy.create_namespace(target, namespace)
    deploy.create_claim(target, namespace, directory)
    try:
        yield world
    finally:
        # A namespace waits for half the grace of its running pods, which is minutes; a model's deletion does not.
        world.kubectl("delete", "localmodel", "--all", check=False)
        target.kubectl("delete", "namespace", namespace, "--wait=false", check=False)
        target.kubectl("delete", "pv", f"{namespace}-models", "--wait=false", check=False)
        world.stop_packet_record()


@pytest.fixture(scope="session")
def chat(world: World) -> str:
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
