"""Real weights over several processes inside the real Triton: the same answers, a reason when one dies, and none left over."""

import os
import signal
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from engine_runs import run_greedy
from localmodel.api.engine import EngineConfig, parse_load_failure
from localmodel.api.engine_failure import parse_engine_failure
from localmodel.engine.loader import load_model
from localmodel.engine.service import build_engine

pytestmark = pytest.mark.triton
TEXTS = ("The capital of France is", "Three colours of the rainbow are red,", "def add(a, b):")
TOKENS = 24


def living_children(pid):
    """Processes that `pid` started and that are no zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(entry.name))
    return found


def test_three_processes_answer_as_one_and_end_together(server_class, model_directory, tmp_path):
    tokenizer = Tokenizer.from_file(str(model_directory / "tokenizer.json"))
    one = EngineConfig(model_path=str(model_directory), dtype="float32", channel_token_file=str(tmp_path / "token"))
    expected = run_greedy(build_engine(load_model(one)), [tokenizer.encode(text).ids for text in TEXTS], TOKENS)
    server = server_class(tmp_path, model_directory, dtype="float32", cpu_ranks=3)
    try:
        server.add_model("two", cpu_ranks=2)
        failure = parse_load_failure(server.load("two")[1]["error"])
        assert failure.code == "GpuCountUnsuitable" and "Counts that work: 1, 3." in failure.message
        assert server.load() == (200, None)
        (stub,) = server.stub_pids()
        ranks = living_children(stub)
        assert len(ranks) == 2
        stream = server.events("a")
        for number, text in enumerate(TEXTS):
            assert server.submit("a", f"s{number}", text, max_tokens=TOKENS, ignore_eos=True)["accepted"]
        for number, tokens in enumerate(expected):
            stream.end(f"s{number}")
            assert stream.text(f"s{number}") == tokenizer.decode(tokens)
        assert server.submit("a", "long", TEXTS[0], max_tokens=900, ignore_eos=True)["accepted"]
        server.wait_until(lambda: stream.events("long"), "the first token")
        os.kill(ranks[0], signal.SIGKILL)
        end = stream.end("long")
        failure = parse_engine_failure(end.error)
        assert f"(process {ranks[0]}) was killed by SIGKILL" in failure.message
        assert parse_engine_failure(stream.batches[-1].failure) == failure, "the gateway hears it, whatever runs"
        server.wait_until(lambda: not Path(f"/proc/{stub}").exists() or not living_children(stub), "the end of all ranks")
        for pid in ranks:
            server.wait_until(lambda pid=pid: not Path(f"/proc/{pid}/cmdline").exists(), "the end of a rank")
        stream.cut()
        server.begin_again()
        assert server.status()["running"] == 0
    finally:
        server.stop()
