"""Loading that fails, and a server that lives on: the words of the engine reach the caller of the load."""

import os
import signal
import time

import pytest

from localmodel.api.engine import parse_load_failure

pytestmark = pytest.mark.triton


def test_the_engine_s_words_are_in_the_answer_to_the_load(start_server, model_directory, tmp_path):
    server = start_server()
    truncated = tmp_path / "truncated"
    truncated.mkdir()
    for file in model_directory.iterdir():
        (truncated / file.name).symlink_to(file)
    (truncated / "model.safetensors").unlink()
    (truncated / "model.safetensors").write_bytes((model_directory / "model.safetensors").read_bytes()[:1_000_000])
    cases = {
        "missing": ({"model_path": str(tmp_path / "nothing")}, "ModelFilesMissing", f"{tmp_path / 'nothing'} does not exist"),
        "corrupt": ({"model_path": str(truncated)}, "ModelFilesCorrupt", "model.safetensors (1000000 bytes) is truncated"),
        "context": ({"context_window": 9000}, "ContextWindowTooLarge", "limit 8192"),
        "memory": ({"host_memory_bytes": 300_000_000}, "OutOfMemory", "the cap is 300000000 bytes"),
        "settings": ({"contxt": 1}, "InvalidEngineConfig", "contxt"),
    }
    for name, (changes, code, words) in cases.items():
        server.add_model(name, **changes)
        status, answer = server.load(name)
        assert status == 400
        found = parse_load_failure(answer["error"])
        assert found is not None, answer
        assert (found.code, words in found.message) == (code, True), answer
        assert "At:" not in found.message
        assert found.message in server.state(name)["reason"]
    assert server.load()[0] == 200
    assert server.status()["running"] == 0


def test_a_killed_engine_falls_silent_and_loads_again(start_server):
    server = start_server()
    assert server.load()[0] == 200
    stream = server.events("a")
    (stub,) = server.stub_pids()
    os.kill(stub, signal.SIGKILL)
    server.wait_until(lambda: is_silent(stream), "a second without a heartbeat")
    assert "not healthy" in str(server.ask("status"))
    stream.cut()
    server.begin_again()
    assert server.events("a", after=stream.last).batches[0].number == 0
    assert server.status()["running"] == 0


def is_silent(stream):
    beats = len(stream.batches)
    time.sleep(1)
    return len(stream.batches) == beats


def test_an_unload_waits_for_the_open_event_stream(start_server):
    """Triton calls finalize only when no request is open: a gateway that wants an unload must end its stream first."""
    server = start_server()
    assert server.load()[0] == 200
    stream = server.events("a")
    assert server.submit("a", "s", "Once upon a time", max_tokens=20, ignore_eos=True)["accepted"]
    assert server.unload()[0] == 200
    assert stream.end("s").usage.completion_tokens == 20
    beats = len(stream.batches)
    server.wait_until(lambda: len(stream.batches) > beats, "a heartbeat while unloading")
    assert server.state()["state"] == "UNLOADING"
    stream.cut()
    server.wait_until(lambda: server.state()["state"] == "UNAVAILABLE", "the end of the unload")
    assert server.load()[0] == 200
