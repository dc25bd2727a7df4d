"""What a failed step is called, and what a quiet engine gives back."""

import json
import os
import threading
import time

import pytest
import torch

from localmodel.api.channel import Sampling
from localmodel.api.engine import EngineConfig
from localmodel.api.engine_failure import EngineFailureCode, parse_engine_failure
from localmodel.api.events import EventBatch, encode_batch
from localmodel.engine.channel_service import ChannelService
from localmodel.engine.failures import explain_failure, explain_hang
from localmodel.engine.housekeeping import release_memory
from localmodel.engine.resident import resident_bytes
from localmodel.gateway.wire import read_batch

CUDA = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported"


def exhaust():
    torch.zeros(1 << 60)


def test_a_cpu_that_really_runs_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        exhaust()
    assert explain_failure(caught.value).code == EngineFailureCode.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "error, code, words",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "OutOfMemory", "Tried to allocate 2.00 GiB"),
        (MemoryError(), "OutOfMemory", "lower maxBatchSize"),
        (RuntimeError(CUDA), "DeviceFailed", "illegal memory access was encountered"),
        (RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx"), "DeviceFailed", "nvidia-smi"),
        (IndexError("list index out of range"), "EngineFailed", "IndexError: list index out of range"),
    ],
)
def test_each_cause_has_its_code_and_says_what_to_do(error, code, words):
    failure = parse_engine_failure(str(explain_failure(error)))
    assert failure is not None and failure.code == code
    assert words in failure.message and "\n" not in failure.message


def test_last_words_travel_with_the_last_batch():
    words = str(explain_hang(61.2))
    assert "61 s" in words
    for batch in (EventBatch(3, 0.0, False, ()), EventBatch(3, 0.0, False, (), words)):
        assert read_batch(json.dumps(encode_batch(batch))) == batch
    assert parse_engine_failure("the JSON schema is too complex to follow") is None


class Panic(BaseException):
    """As a library in Rust raises it."""


class PanickingService(ChannelService):
    def __init__(self, config, engine, tokenizer):
        self.log, self.ended = [], threading.Event()
        super().__init__(config, self.log.append, self.ended.set)
        self._engine = engine
        self._open(engine, tokenizer, str)

    def status(self):
        raise AssertionError

    def _work(self):
        self._engine.wait_for_work()
        raise Panic("of a mask")


def test_a_panic_ends_requests_and_process_at_once_and_not_when_a_step_counts_as_hung(world, byte_tokenizer, tmp_path):
    config = EngineConfig(model_path="x", channel_token_file=str(tmp_path / "token"))
    service = PanickingService(config, world.engine, byte_tokenizer)
    service.start()
    stream = world.stream()
    service.handle(json.dumps({"op": "generate", "text": "Hello", "stream": False}), stream)
    assert service.ended.wait(20)
    assert stream.answer["finish_reason"] == "error" and "Panic: of a mask" in stream.answer["error"]
    assert "Traceback" in service.log[0] and f"process {os.getpid()} ends" in service.log[-1]


def test_after_a_quiet_time_and_only_then_memory_is_given_back(world):
    engine, calls = world.engine, []
    woken = threading.Thread(target=lambda: calls.append(engine.wait_for_work(0.05, lambda: calls.append("quiet"))))
    woken.start()
    until = time.monotonic() + 60
    while not calls:
        assert time.monotonic() < until, "nobody gave it back"
        time.sleep(0.01)
    woken.join(0.3)
    assert calls == ["quiet"], "it still sleeps"
    engine.add_request("a", (1, 2), Sampling(temperature=0, max_tokens=1))
    woken.join(20)
    assert calls == ["quiet", True]
    assert engine.wait_for_work(20, lambda: calls.append("busy")) and calls == ["quiet", True]


def test_what_was_freed_leaves_the_process():
    """Many blocks, each too small for glibc to map by itself, under one that holds the heap's end."""
    pieces = [torch.ones(15_000) for _ in range(2000)]
    last = torch.ones(15_000)
    full = resident_bytes()
    del pieces
    release_memory(torch.device("cpu"))
    assert full - resident_bytes() > 60_000_000
    assert last.sum() == 15_000
