"""Ranks as real processes: the same tokens as one, a reason when one of them fails, and no process left over.

Most are forked from one that has imported torch; those that start as in production say so.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from engine_runs import make_prompts, run_greedy
from localmodel.api.engine import EngineConfig, parse_load_failure
from localmodel.api.engine_failure import parse_engine_failure
from localmodel.engine.errors import LoadError
from localmodel.engine.interpreter import find_interpreter
from localmodel.engine.loader import load_model
from localmodel.engine.rank_messages import Hello
from localmodel.engine.ranks import Ranks
from localmodel.engine.service import EngineService, build_engine
from preloaded_python import PreloadedPython

PATIENCE = 60.0


def wait_until(condition, what):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if result := condition():
            return result
        time.sleep(0.01)
    raise AssertionError(f"waited {PATIENCE} s in vain: {what}")


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def preloaded():
    python = PreloadedPython("localmodel.engine.rank")
    yield python
    python.close()


@pytest.fixture
def forked(preloaded, monkeypatch):
    """Ranks are."""
    monkeypatch.setattr("localmodel.engine.rank_process.subprocess.Popen", preloaded.popen)


class Instance:
    """A service, and whether it would have ended its process."""

    def __init__(self, config):
        self.ended = threading.Event()
        self.log = []
        self.service = EngineService(config, log=self.log.append, exit_process=self.ended.set)

    @property
    def pids(self):
        return [process.pid for process in self.service._ranks._processes]


@pytest.fixture
def start(engine_config, forked):
    """start(kind, ranks) -> Instance"""
    made = []

    def make(kind, ranks):
        made.append(Instance(engine_config(kind, cpu_ranks=ranks)))
        return made[-1]

    yield make
    for instance in made:
        pids = instance.pids
        instance.service.stop()
        assert not any(map(lives, pids))


@pytest.fixture
def stream():
    """What a client gets of a request that would run for long."""

    class Stream:
        def __init__(self):
            self.texts, self.closed = [], threading.Event()

        def send(self, text, *, final=False):
            self.texts.append(json.loads(text))
            if final:
                self.closed.set()

        def close(self):
            self.closed.set()

        def is_cancelled(self):
            return False

    return Stream()


def generate(instance, stream):
    sampling = {"temperature": 0, "max_tokens": 100, "ignore_eos": True}
    instance.service.handle(json.dumps({"op": "generate", "prompt": [1, 2, 3], "sampling": sampling}), stream)


def last_words(instance, stream):
    """The failure that the client hears of, once the process would have ended."""
    assert instance.ended.wait(PATIENCE)
    assert stream.closed.wait(PATIENCE)
    failure = parse_engine_failure(stream.texts[-1]["error"])
    assert failure is not None, stream.texts[-1]
    assert any(str(failure) in line for line in instance.log), "Triton's log has it too"
    return failure


def test_greedy_tokens_are_those_of_one_process_until_a_rank_is_killed(engine_config, start, stream):
    prompts = make_prompts(5, 1, 100)
    expected = run_greedy(build_engine(load_model(engine_config("llama"))), prompts)
    instance = start("llama", 2)
    assert run_greedy(instance.service.engine, prompts) == expected
    instance.service.start()
    slow(instance)
    generate(instance, stream)
    wait_until(lambda: stream.texts, "the first text")
    (victim,) = instance.pids
    os.kill(victim, signal.SIGKILL)
    failure = last_words(instance, stream)
    assert failure.code == "EngineFailed"
    assert f"rank 1 of 2 (process {victim}) was killed by SIGKILL" in failure.message
    assert not any(map(lives, instance.pids)), "nobody waits for it in a collective"


def slow(instance):
    """A step takes so long that a test is in the middle of an answer."""
    launch = instance.service.engine._launch

    def launch_slowly(works):
        time.sleep(0.05)
        return launch(works)

    instance.service.engine._launch = launch_slowly


def test_an_unload_ends_every_rank_in_peace(start):
    instance = start("llama", 2)
    instance.service.start()
    instance.service.stop()
    assert [process._process.returncode for process in instance.service._ranks._processes] == [0]
    assert not instance.ended.is_set()


def test_a_frozen_rank_is_named(start, stream, monkeypatch):
    monkeypatch.setattr("localmodel.engine.ranks.FROZEN_SECONDS", 6.0)
    instance = start("llama", 2)
    instance.service.start()
    generate(instance, stream)
    assert stream.closed.wait(PATIENCE), "a healthy one answers"
    stream.closed.clear()
    os.kill(instance.pids[0], signal.SIGSTOP)
    generate(instance, stream)
    failure = last_words(instance, stream)
    assert f"rank 1 of 2 (process {instance.pids[0]}) has given no sign of life for" in failure.message


def test_no_rank_outlives_the_first_one(engine_config, preloaded):
    """Which is killed, so that it can say nothing; the other is frozen, so that it can notice nothing, and was started as in
    production."""
    code = """
        import sys, time
        from localmodel.api.engine import EngineConfig
        from localmodel.engine.service import EngineService
        service = EngineService(EngineConfig.model_validate_json(sys.argv[1]), log=print, exit_process=lambda: None)
        print(*(process.pid for process in service._ranks._processes), flush=True)
        time.sleep(100)
    """
    config = engine_config("mistral", cpu_ranks=2).model_dump_json()
    reading, writing = os.pipe()
    first = preloaded.popen(["python", "-c", textwrap.dedent(code), config], stdout=writing)
    os.close(writing)
    with os.fdopen(reading) as said:
        try:
            pids = [int(pid) for pid in said.readline().split()]
            assert len(pids) == 1 and all(map(lives, pids))
            os.kill(pids[0], signal.SIGSTOP)
        finally:
            first.kill()
            first.wait()
    wait_until(lambda: not any(map(lives, pids)), "the ranks' end")


def failure_of_load(config):
    with pytest.raises(LoadError) as caught:
        EngineService(config, log=print, exit_process=lambda: None)
    return parse_load_failure(str(caught.value))


def test_a_count_that_does_not_fit_is_refused_before_a_process_is_started(engine_config, monkeypatch):
    monkeypatch.setattr("localmodel.engine.ranks.RankProcess", None)
    failure = failure_of_load(engine_config("llama", cpu_ranks=4))
    assert failure.code == "GpuCountUnsuitable" and failure.message.endswith("Counts that work: 1, 2.")


def test_a_rank_that_can_t_start_is_a_failed_load(engine_config, monkeypatch):
    monkeypatch.setattr("localmodel.engine.rank_process.MODULE", "localmodel.engine.no_such_module")
    failure = failure_of_load(engine_config("llama", cpu_ranks=2))
    assert failure.code == "DeviceUnavailable" and "ended with exit code 1 while it loaded" in failure.message


def test_what_one_rank_can_t_load_is_what_the_model_can_t_load(engine_config, forked, monkeypatch):
    def hello(config: EngineConfig, **more):
        return Hello(config=config.model_copy(update={"host_memory_bytes": 1000}), **more)

    monkeypatch.setattr("localmodel.engine.ranks.Hello", hello)
    failure = failure_of_load(engine_config("llama", cpu_ranks=2))
    assert failure.code == "OutOfMemory" and "rank 1 of 2" in failure.message and "the cap is 500 bytes" in failure.message


def test_who_waits_for_a_dead_rank_and_can_t_be_freed_ends(engine_config, monkeypatch):
    """On a card it may be so while it loads; here nobody says that it was freed."""
    monkeypatch.setattr("localmodel.engine.ranks.STUCK_SECONDS", 0.05)
    monkeypatch.setattr("localmodel.engine.rank_process.MODULE", "localmodel.engine.no_such_module")
    stuck = queue.SimpleQueue()
    ranks = Ranks(engine_config("llama", cpu_ranks=2), pytest.fail, stuck.put)
    ranks._met = True
    ranks.begin(load_model(engine_config("llama")).network_config)
    assert "ended with exit code 1" in str(stuck.get(timeout=PATIENCE))
    ranks.stop()


def test_where_python_is_no_program_its_program_is_found(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/tritonserver/backends/python/triton_python_backend_stub")
    version = subprocess.check_output([find_interpreter(), "-c", "import sys; print(sys.version)"], text=True)
    assert version.strip() == sys.version.strip()
