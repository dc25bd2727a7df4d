"""What the gateway does for whoever asks, on the cluster: keys from a Secret that change without a restart, and the chat page."""

import json
import urllib.request

import openai
import pytest

from e2e.world import World, until
from localmodel.api.keys import format_hash

OLD, NEW = "lm-e2e-the-key-of-before", "lm-e2e-the-key-of-after"


def secret(world: World, *keys: str) -> str:
    metadata = {"name": "api-keys", "namespace": world.namespace}
    hashes = "\n".join(format_hash(key) for key in keys)
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"team-a": hashes}})


def answers(world: World, name: str, key: str) -> bool:
    """Whether the key is good; anything but an answer or a 401 fails the test."""
    try:
        return "Paris" in world.ask(name, key=key)
    except openai.AuthenticationError:
        return False


@pytest.mark.usefixtures("local")
def test_keys_come_from_a_secret_and_change_without_a_restart(world: World, model) -> None:
    """On the local cluster: an API server in between keeps the Authorization header to itself."""
    model("locked", gateway={"auth": {"mode": "APIKey", "secretRef": {"name": "api-keys"}}})
    condition = world.wait_condition("locked", "GatewayReady", "False", "SecretNotFound")
    assert "api-keys" in condition["message"]
    world.kubectl("apply", "-f", "-", stdin=secret(world, OLD))
    world.wait_ready("locked")
    pod = world.pods("locked")[0]["metadata"]["name"]
    assert answers(world, "locked", OLD)
    assert not answers(world, "locked", NEW)
    world.kubectl("apply", "-f", "-", stdin=secret(world, NEW))
    until(lambda: answers(world, "locked", NEW), "the kubelet brings the new key to the gateway", 180, every=2)
    assert not answers(world, "locked", OLD)
    assert [p["metadata"]["name"] for p in world.pods("locked")] == [pod]
    assert {record["key"] for record in world.records(pod) if record["outcome"] == "ok"} == {"team-a"}
    logs = world.kubectl("logs", pod, "-c", "gateway")
    assert OLD not in logs and NEW not in logs


def test_chat_page_is_served(world: World, chat: str) -> None:
    with urllib.request.urlopen(f"{world.service_url(chat)}/", timeout=20) as page:
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert b"<title>" in page.read()
