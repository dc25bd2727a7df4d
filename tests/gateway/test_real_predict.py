"""Networks of tensors through the whole of it: gateway, the real Triton with its batcher, TorchScript and torch.export files."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import torch
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from gateway.conftest import ROOT, GatewayProcess, Start, eventually
from localmodel.cli.triton_runtime import triton_command
from ports import free_ports
from predict_models import BAGS_CONFIG, MLP_CONFIG, write_bags, write_mlp

pytestmark = pytest.mark.triton
PATIENCE = 120
BATCH = 8


class PredictServer:
    """tritonserver with the repository that an image has."""

    def __init__(self, directory: Path, model: Path, config: dict[str, Any]) -> None:
        self.port = free_ports(1)[0]
        self.model = model
        self.token = directory / "run" / "token"
        for name in ("llm", "predict"):
            place = directory / "repository" / name / "1"
            place.mkdir(parents=True)
            (place / "model.py").write_bytes((ROOT / "model_repo" / name / "1" / "model.py").read_bytes())
        llm = directory / "repository" / "llm"
        (llm / "config.pbtxt").write_bytes((ROOT / "model_repo" / "llm" / "config.pbtxt").read_bytes())
        settings = {"model_path": str(model), "channel_token_file": str(self.token), "max_batch_size": BATCH, "cpu_threads": 1}
        (llm / "1" / "model.json").write_text(json.dumps({**settings, **config}))
        self._command = triton_command(directory / "repository", directory, self.port)
        self.log = directory / "triton.log"
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            return subprocess.Popen(self._command.argv, env=self._command.env, stdout=log, stderr=log, start_new_session=True)

    def restart_if_ended(self) -> None:
        """As the kubelet would. Triton 2.51 aborts now and then when a process of its models is killed (lock_exception)."""
        if self.process.poll() is not None:
            self.process = self._start()

    def worker(self) -> int:
        """The process of the model `predict`."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid), "-f", "/predict/1/"], capture_output=True, text=True)
        return int(found.stdout.split()[0])

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


Serve = Callable[..., Any]


@pytest.fixture
async def serve(start: Start, tmp_path: Path) -> AsyncIterator[Serve]:
    """A gateway that is ready before a Triton with this model."""
    servers: list[PredictServer] = []

    async def begin(model: Path, config: dict[str, Any], *, ready: bool = True, **changes: Any) -> GatewayProcess:
        servers.append(PredictServer(tmp_path / "triton", model, config))
        server = servers[-1]
        gateway = await start(
            wait=False, task="Predict", triton_url=f"http://127.0.0.1:{server.port}", model_path=str(model), served_names=["net"],
            max_batch_size=BATCH, channel_token_file=str(server.token), concurrency={"max": 2 * BATCH}, page=False, **changes,
        )  # fmt: skip
        if ready:
            await eventually(lambda: is_ready(gateway), PATIENCE)
        return gateway

    begin.servers = servers  # type: ignore[attr-defined]
    yield begin
    for server in servers:
        server.end()


async def is_ready(gateway: GatewayProcess) -> bool:
    try:
        return await gateway.code("/readyz") == 200
    except aiohttp.ClientError:
        assert gateway.process.returncode is None, "the gateway ended"
        return False


async def engine(gateway: GatewayProcess) -> dict[str, Any]:
    return (await gateway.status())["backend"]["engine"] or {}


async def infer(gateway: GatewayProcess, *inputs: dict[str, Any], **more: Any) -> tuple[int, Any]:
    async with await gateway.post("/v2/models/net/infer", {"inputs": list(inputs), **more}) as reply:
        return reply.status, await reply.json()


def tensor(name: str, datatype: str, values: Any) -> dict[str, Any]:
    array = np.array(values)
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": array.tolist()}


async def test_a_script_is_batched_by_triton_and_refuses_what_is_wrong(serve: Serve, tmp_path: Path) -> None:
    network = write_mlp(tmp_path / "mlp")
    gateway = await serve(tmp_path / "mlp", MLP_CONFIG, batch_delay_seconds=0.3)
    status = await gateway.status()
    assert status["backend"]["engine"]["signature"] == "x FP32 [-1, 4] -> y FP32 [-1, 3]"
    assert status["backend"]["engine"]["task"] == "Predict" and status["backend"]["engine"]["dtype"] == "float32"

    rows = np.random.default_rng(1).random((24, 4), dtype=np.float32)
    expected = network(torch.from_numpy(rows)).detach().numpy()
    before = await engine(gateway)
    answers = await asyncio.gather(*(infer(gateway, tensor("x", "FP32", rows[n : n + 1])) for n in range(24)))
    for number, (code, answer) in enumerate(answers):
        assert code == 200 and answer["model_name"] == "net", answer
        output = answer["outputs"][0]
        assert (output["name"], output["datatype"], output["shape"]) == ("y", "FP32", [1, 3])
        np.testing.assert_allclose(output["data"], expected[number], atol=1e-5)

    async def counted() -> dict[str, Any] | None:
        """The gateway asks the engine every two seconds."""
        said = await engine(gateway)
        return said if said["rows_total"] >= before["rows_total"] + 24 else None

    after = await eventually(counted)
    steps, computed = after["steps_total"] - before["steps_total"], after["rows_total"] - before["rows_total"]
    assert 24 <= computed <= 25 and steps <= 12, "Triton puts requests that wait into one execution"

    for wrong, words in (
        (tensor("x", "FP32", [[1.0, 2.0]]), "this model takes x FP32 [-1, 4]"),
        (tensor("x", "FP64", [[1.0] * 4]), "this model takes x FP32 [-1, 4]"),
        (tensor("z", "FP32", [[1.0] * 4]), "This model has x FP32 [-1, 4]"),
        (tensor("x", "FP32", [[1.0] * 4] * 9), "from 1 to 8"),
    ):
        code, answer = await infer(gateway, wrong)
        assert code == 400 and words in answer["error"], answer
    code, answer = await infer(gateway, tensor("x", "FP32", [[1.0] * 4]), id='a "model_name":"predict" b')
    assert code == 200 and answer["id"] == 'a "model_name":"predict" b' and answer["model_name"] == "net"

    async with await gateway.post(
        "/v1/chat/completions", {"model": "net", "messages": [{"role": "user", "content": "Hi"}]}
    ) as reply:
        error = (await reply.json())["error"]
        assert reply.status == 400 and error["code"] == "model_task_mismatch" and "/v2/models/net/infer" in error["message"]
    for path in ("/v1/completions", "/v1/embeddings"):
        async with await gateway.post(path, {"model": "net", "input": "a"}) as reply:
            assert reply.status == 400 and (await reply.json())["error"]["code"] == "model_task_mismatch"
    async with await gateway.post("/v2/models/net/generate", {"REQUEST": "{}"}) as reply:
        assert reply.status == 404
    await gateway.idle()
    await gateway.balanced()
    assert {record["endpoint"] for record in gateway.records} == {"v2", "chat", "completions", "embeddings"}


async def test_the_official_client_with_binary_tensors(serve: Serve, tmp_path: Path) -> None:
    network = write_bags(tmp_path / "bags")
    gateway = await serve(tmp_path / "bags", BAGS_CONFIG)
    ids, scale = np.array([[1, 2, 3], [4, 5, 9]]), np.array([[1.5], [2.5]], np.float32)

    def ask() -> None:
        client = InferenceServerClient(gateway.url.removeprefix("http://"))
        assert client.is_server_live() and client.is_model_ready("net")
        metadata = client.get_model_metadata("net")
        assert metadata["name"] == "net"
        assert [(t["name"], t["datatype"], t["shape"]) for t in metadata["inputs"]] == [
            ("ids", "INT64", [-1, -1]), ("scale", "FP32", [-1, 1])
        ]  # fmt: skip
        inputs = [InferInput("ids", [2, 3], "INT64"), InferInput("scale", [2, 1], "FP32")]
        for each, array in zip(inputs, (ids, scale), strict=True):
            each.set_data_from_numpy(array, binary_data=True)
        result = client.infer("net", inputs)
        with torch.inference_mode():
            expected = network(torch.from_numpy(ids), torch.from_numpy(scale))
        np.testing.assert_allclose(result.as_numpy("classes"), expected["classes"], atol=1e-5)
        assert result.as_numpy("best")[:, 0].tolist() == expected["best"].tolist(), "a batch of numbers is served as a column"
        assert result.get_response()["model_name"] == "net"
        one = client.infer("net", inputs, outputs=[InferRequestedOutput("best", binary_data=False)])
        assert [each["name"] for each in one.get_response()["outputs"]] == ["best"]
        inputs[0].set_data_from_numpy(np.array([[1, 2, 77], [1, 1, 1]]), binary_data=True)
        with pytest.raises(InferenceServerException, match="can't compute this input: index out of range") as refused:
            client.infer("net", inputs)
        assert refused.value.status() == "400"
        inputs[0] = InferInput("ids", [2, 3], "INT32")
        inputs[0].set_data_from_numpy(np.ones((2, 3), np.int32), binary_data=True)
        with pytest.raises(InferenceServerException, match=r"this model takes ids INT64 \[-1, -1\]"):
            client.infer("net", inputs)

    await asyncio.to_thread(ask)
    good, bad = ([tensor("ids", "INT64", [[n]]), tensor("scale", "FP32", [[1.0]])] for n in (1, 50))
    codes = [code for code, _ in await asyncio.gather(*(infer(gateway, *(bad if n == 3 else good)) for n in range(8)))]
    assert codes == [200, 200, 200, 400, 200, 200, 200, 200], "one bad row breaks one request"
    assert (await gateway.status())["ready"]
    await gateway.idle()
    await gateway.balanced()


@pytest.mark.parametrize("victim", ["worker", "Triton"])
async def test_requests_are_sent_again_when_what_computes_them_has_died(serve: Serve, tmp_path: Path, victim: str) -> None:
    write_mlp(tmp_path / "mlp")
    timeouts = {"queue_seconds": PATIENCE, "first_token_seconds": PATIENCE}
    gateway = await serve(tmp_path / "mlp", MLP_CONFIG, timeouts=timeouts, retries={"attempts": 5, "budget_percent": 100})
    server = serve.servers[0]  # type: ignore[attr-defined]
    one = tensor("x", "FP32", [[1.0] * 4])
    first = await infer(gateway, one)
    worker = server.worker()
    os.kill(worker, signal.SIGSTOP)
    under_way = [asyncio.create_task(infer(gateway, one)) for _ in range(3)]
    await eventually(lambda: slots_in_use(gateway, 3))
    if victim == "worker":
        os.kill(worker, signal.SIGKILL)
    else:
        os.killpg(server.process.pid, signal.SIGKILL)  # all of the container, as when its first process ends
    answers = asyncio.gather(*under_way)
    while not answers.done():
        server.restart_if_ended()
        await asyncio.sleep(0.2)
    for code, answer in [*answers.result(), await infer(gateway, one)]:
        assert code == 200, answer
        np.testing.assert_allclose(answer["outputs"][0]["data"], first[1]["outputs"][0]["data"], atol=1e-5)
    assert server.worker() != worker
    assert (await gateway.status())["ready"]
    await gateway.idle()


async def slots_in_use(gateway: GatewayProcess, count: int) -> bool:
    return (await gateway.status())["slots_in_use"] == count


async def test_a_worker_that_hangs_is_told_and_no_probe_calls_it_well(serve: Serve, tmp_path: Path) -> None:
    write_mlp(tmp_path / "mlp")
    gateway = await serve(tmp_path / "mlp", MLP_CONFIG, step_timeout_seconds=2.0)
    worker = serve.servers[0].worker()  # type: ignore[attr-defined]
    os.kill(worker, signal.SIGSTOP)
    try:
        await eventually(lambda: unwell(gateway), PATIENCE)
    finally:
        os.kill(worker, signal.SIGCONT)
    await eventually(lambda: is_ready(gateway), PATIENCE)


async def unwell(gateway: GatewayProcess) -> bool:
    return await gateway.code("/livez/backend") != 200 and (await gateway.status())["reason"] == "BackendHung"


@pytest.mark.parametrize("what", ["no tensors", "wrong tensors"])
async def test_a_load_that_fails_says_what_to_write(serve: Serve, tmp_path: Path, what: str) -> None:
    """One is found by the process that reads the file, the other by the one that computes it."""
    write_mlp(tmp_path / "mlp")
    tensors = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 5]}], "outputs": MLP_CONFIG["tensors"]["outputs"]}
    config = {**MLP_CONFIG, "tensors": None if what == "no tensors" else tensors}
    gateway = await serve(tmp_path / "mlp", config, ready=False)

    async def failed() -> str:
        try:
            backend = (await gateway.status())["backend"]
        except aiohttp.ClientError:
            return ""
        return backend["message"] if backend["state"] == "LoadFailed" else ""

    message = await eventually(failed, PATIENCE)
    assert ("[SignatureMissing]" if what == "no tensors" else "[SignatureMismatch]") in message
    assert ("Its forward takes x." if what == "no tensors" else "can't compute x FP32 [1, 5]") in message
