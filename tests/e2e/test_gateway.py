"""What the gateway does for whoever asks, on the cluster: keys from a Secret that change without a restart, and the chat page."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import openai
import pytest

from e2e.world import EMBEDDING_MODEL, World, until
from localmodel.api.keys import format_hash

LOG_KEY = "0123456789abcdef0123456789abcdef"
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
    with urllib.request.urlopen(f"{world.service_url(chat)}/", timeout=60) as page:
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert b"<title>" in page.read()


def test_full_log_is_redacted_and_verifies(world: World, model, tmp_path: Path) -> None:
    """From `kubectl logs` to `localmodel verify-log`, as an auditor would; one changed letter is found.

    The key of its chain comes late: until then the status says what is missing, and nothing is logged that could not be checked.
    """
    model("audited", gateway={"logging": {"mode": "Full", "chainKeyRef": {"name": "log-key"}}})
    condition = world.wait_condition("audited", "GatewayReady", "False", "LogKeyUnusable")
    assert "Secret log-key" in condition["message"] and "kubectl create secret" in condition["message"]
    world.kubectl("create", "secret", "generic", "log-key", f"--from-literal=key={LOG_KEY}")
    world.wait_ready("audited")
    (tmp_path / "key").write_text(LOG_KEY)
    world.ask("audited", "Repeat: jane.doe@example.com and xylophonequartz")
    pod = world.pods("audited")[0]["metadata"]["name"]
    until(lambda: world.records(pod), "a record of the request")
    log = world.kubectl("logs", pod, "-c", "gateway")
    assert "xylophonequartz" in log and "jane.doe" not in log
    file = tmp_path / "gateway.log"
    file.write_text(log)
    assert verify(file, tmp_path / "key").returncode == 0, verify(file, tmp_path / "key").stdout
    assert verify(file).returncode != 0
    file.write_text(log.replace("xylophonequartz", "xylophonequarts", 1))
    assert verify(file, tmp_path / "key").returncode == 1


def verify(file: Path, key: Path | None = None) -> subprocess.CompletedProcess[str]:
    with_key = ["--key-file", str(key)] if key else []
    command = [sys.executable, "-m", "localmodel.cli", "verify-log", "--running", *with_key, str(file)]
    return subprocess.run(command, capture_output=True, text=True)


def test_embedding_model_answers_with_vectors(world: World, model) -> None:
    source = {"pvc": {"claimName": "models", "path": EMBEDDING_MODEL.name}}
    model("vectors", model={"source": source, "task": "Embedding"}, contextWindow=256)
    world.wait_ready("vectors")
    texts = ["The invoice is overdue.", "Payment has not arrived in time.", "The cat sleeps on the roof."]
    with world.client("vectors") as client:
        vectors = [each.embedding for each in client.embeddings.create(model="vectors", input=texts).data]
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model="vectors", messages=[{"role": "user", "content": "hi"}])
    assert len(vectors[0]) == 384
    near, far = (sum(a * b for a, b in zip(vectors[0], other, strict=True)) for other in vectors[1:])
    assert near > far + 0.2
    assert refused.value.code == "model_task_mismatch"


def test_network_of_tensors_is_served_and_named_in_the_status(world: World, model) -> None:
    source = {"pvc": {"claimName": "models", "path": "bags"}}
    model("bags", model={"source": source, "task": "Predict", "format": "TorchExport"}, maxBatchSize=8)
    world.wait_ready("bags")
    inputs = [
        {"name": "ids", "datatype": "INT64", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]},
        {"name": "scale", "datatype": "FP32", "shape": [2, 1], "data": [1.0, 2.0]},
    ]
    status, answer = infer(world, "bags", inputs)
    assert status == 200, answer
    outputs = {each["name"]: each for each in answer["outputs"]}
    assert outputs["classes"]["shape"] == [2, 3] and outputs["best"]["datatype"] == "INT64"
    status, refused = infer(world, "bags", inputs[:1])
    assert status == 400 and "scale" in refused["error"], refused


def infer(world: World, name: str, inputs: list[dict[str, object]]) -> tuple[int, dict[str, object]]:
    body = json.dumps({"inputs": inputs}).encode()
    request = urllib.request.Request(
        f"{world.service_url(name)}/v2/models/{name}/infer", body, {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
