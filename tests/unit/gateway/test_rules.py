"""Small rules: timers, probes, errors, ids, the token file, paths of /v2, the log."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gateway.fake_triton import STATUS
from localmodel.api.engine_status import EngineStatus
from localmodel.api.gateway import Timeouts
from localmodel.gateway import backend_state, errors, loop_lag
from localmodel.gateway.backend_state import BackendState
from localmodel.gateway.client_headers import ClientHeaders, parse_client_headers
from localmodel.gateway.ending import Ending
from localmodel.gateway.exchange import pick_request_id
from localmodel.gateway.loop_lag import LagGuard
from localmodel.gateway.open_inference import looks_like_v2, parse_generate, rebuild
from localmodel.gateway.timers import Deadlines
from localmodel.gateway.token_file import BadTokenFile, read_or_create


def test_each_timeout_is_capped_by_the_total() -> None:
    deadlines = Deadlines(Timeouts(queue_seconds=5, first_token_seconds=6, idle_seconds=7, total_seconds=10), 100.0)
    assert deadlines.queue(100)[:2] == (105, "queue_timeout")
    assert deadlines.first_token(101)[:2] == (107, "first_token_timeout")
    assert deadlines.idle(102)[:2] == (109, "idle_timeout")
    assert deadlines.idle(103)[:2] == (110, "total_timeout")
    assert deadlines.queue(109).error().code == "total_timeout"


def test_the_clients_own_limits_only_shorten() -> None:
    timeouts = Timeouts(queue_seconds=5, first_token_seconds=6, idle_seconds=7, total_seconds=10)
    short = Deadlines(timeouts, 100.0, ClientHeaders(deadline_seconds=4, read_seconds=2))
    for limit in (short.total, short.queue(100), short.first_token(100), short.idle(103)):
        assert limit[:3] == (104, "total_timeout", 4)
    assert "x-request-deadline-ms" in short.total.error().message and "4 seconds" in short.total.error().message
    assert short.idle(101)[:2] == (103, "idle_timeout") and "x-stainless-read-timeout" in short.idle(101).error().message
    long = Deadlines(timeouts, 100.0, ClientHeaders(deadline_seconds=11, read_seconds=8))
    assert long.total == (110, "total_timeout", 10, "") and long.idle(100) == (107, "idle_timeout", 7, "")
    assert "raise timeouts.total" in long.total.error().message


def test_client_headers() -> None:
    assert parse_client_headers({}) == ClientHeaders(None, None, again=False)
    given = {"x-request-deadline-ms": " 1500 ", "x-stainless-read-timeout": "600.5", "x-stainless-retry-count": "2"}
    assert parse_client_headers(given) == ClientHeaders(1.5, 600.5, again=True)
    for odd in ("", "0", "-1", "1.5", "1e3", "١", "9" * 13, "1, 2", "soon"):
        with pytest.raises(errors.ApiError, match="x-request-deadline-ms") as caught:
            parse_client_headers({"x-request-deadline-ms": odd})
        assert (caught.value.status, caught.value.param) == (400, "x-request-deadline-ms")
    for odd in ("", "0", "None", "-1", "inf", "nan", "x", "9" * 5000):
        notes = {"x-stainless-read-timeout": odd, "x-stainless-retry-count": odd[:9].replace("9", "x")}
        assert parse_client_headers(notes) == ClientHeaders()


@pytest.mark.parametrize(
    ("lags", "overloaded"),
    [
        ([], False),
        ([9.0, 9.0, 9.0], False),
        ([0.5, 0.5, 0.5, 0.5], True),
        ([9.0, 9.0, 9.0, 0.4, 9.0], False),
        ([9.0, 9.0, 9.0, 9.0, 0.3, 0.3], True),
        ([9.0] * 100 + [0.2], False),
    ],
)
def test_only_a_loop_that_stays_late_sheds(lags: list[float], overloaded: bool) -> None:
    guard = LagGuard()
    for lag in lags:
        guard.note(lag)
    assert guard.overloaded == overloaded


async def test_a_loop_that_sheds_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    times = iter([0.0, 9.0] * 5 + [9.0, 9.0])
    monkeypatch.setattr(loop_lag, "monotonic", lambda: next(times))
    monkeypatch.setattr(loop_lag, "_EVERY_SECONDS", 0.0)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await loop_lag.LoopLag().run()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_the_end_is_heard_by_whoever_listens_then_or_later() -> None:
    ending = Ending()
    heard: list[str] = []
    with ending.heard_by(lambda error: heard.append("gone")):
        pass
    with ending.heard_by(lambda error: heard.append(str(error.code))):
        ending.announce(errors.draining())
        with ending.heard_by(lambda error: heard.append("late")):
            pass
    assert heard == ["draining", "late"]


def state(name: str, **more: float) -> BackendState:
    return BackendState(state=name, since=0.0, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("backend", "now", "silent", "step_age", "dead"),
    [
        (state("Starting"), 1, 0, 0, True),
        (state("Starting", live_at=0.5), 1, 0, 0, False),
        (state("Loading", live_at=99), 100, 0, 0, False),
        (state("Loading", live_at=90), 100, 0, 0, True),
        (state("LoadFailed", live_at=99), 100, 0, 0, False),
        (state("Ready"), 100, 0.1, 0, False),
        (state("Ready"), 100, 6, 0, True),
        (state("Ready"), 100, 0.1, 29, False),
        (state("Ready"), 100, 0.1, 31, True),
        (state("Hung"), 100, 2, 0, False),
        (state("Hung"), 100, 6, 0, True),
        (state("Unreachable"), 100, 0.1, 0, True),
    ],
)
def test_liveness_of_the_backend(backend: BackendState, now: float, silent: float, step_age: float, dead: bool) -> None:
    assert bool(backend_state.why_dead(backend, now, silent, step_age, 30)) == dead


def test_what_is_gone_is_named_and_uses_nothing() -> None:
    backend = state("Ready")
    backend.engine = EngineStatus.model_validate(STATUS)
    assert backend.served is backend.engine
    backend.enter("Unreachable", 1, "Stub process 'llm' is not healthy")
    assert "Stub process 'llm' is not healthy" in backend_state.why_dead(backend, 1, 0, 0, 30)
    assert backend.served is None and backend.report(1).engine is None


def test_readiness_needs_evidence() -> None:
    backend = state("Ready")
    ask = {"stream_open": True, "draining": False, "problem": None, "circuit_open": False}

    def reason(**changes: object) -> str | None:
        why = backend_state.why_not_ready(backend, **{**ask, **changes})  # type: ignore[arg-type]
        return why and why[0]

    assert reason() == "NoEvidence"
    backend.witness(True, 1)
    assert reason() is None
    assert reason(circuit_open=True) == "CircuitOpen"
    assert reason(circuit_open=True, stream_open=False) == "BackendUnreachable"
    assert reason(stream_open=False) == "BackendUnreachable"
    assert reason(draining=True) == "Draining"
    assert reason(problem=("TokenizerMissing", "")) == "TokenizerMissing"
    for name, expected in (("Hung", "BackendHung"), ("Loading", "Loading"), ("LoadFailed", "LoadFailed")):
        backend.enter(name, 2)
        assert reason() == expected
    backend.enter("Ready", 3)
    backend.witness(False, 4)
    assert reason() == "NoEvidence"


def test_a_drain_waits_for_a_short_hang_only() -> None:
    assert not backend_state.ends_nothing(state("Hung"), 1.0, "")
    assert backend_state.ends_nothing(state("Hung"), 3.0, "")
    assert not backend_state.ends_nothing(state("Ready"), 100.0, "")
    assert backend_state.ends_nothing(state("Ready"), 100.0, "silent")
    assert backend_state.ends_nothing(state("Loading"), 1.0, "")


def test_only_our_capacity_asks_for_a_retry() -> None:
    retried = [errors.overloaded(1), errors.draining(), errors.not_ready("x"), errors.timed_out("queue_timeout", 1)]
    final = [errors.upstream("x"), errors.internal(), errors.body_timeout("body", 1), errors.timed_out("idle_timeout", 1),
             errors.bad_request("x"), errors.protocol("x")]  # fmt: skip
    assert {e.headers()["x-should-retry"] for e in retried} == {"true"}
    assert {e.headers()["x-should-retry"] for e in final} == {"false"}
    assert errors.overloaded(0.2).headers()["retry-after"] == "1" and errors.overloaded(2.5).headers()["retry-after-ms"] == "2500"
    assert json.loads(errors.unsupported("n", "No.").body()) == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "n", "code": "unsupported_parameter"}
    }


def test_request_ids() -> None:
    assert pick_request_id("a.b-c_1") == "a.b-c_1"
    for odd in (None, "", "a b", "a\nb", "x" * 129, "ä"):
        assert pick_request_id(odd).startswith("req_")


def test_the_token_file(tmp_path: Path) -> None:
    file = tmp_path / "run" / "token"
    with ThreadPoolExecutor(16) as pool:
        tokens = set(pool.map(lambda _: read_or_create(file), range(64)))
    (token,) = tokens
    assert len(token) == 64 and set(token) <= set("0123456789abcdef")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(file.parent) == ["token"]  # noqa: PTH208 - names only
    file.write_text("short")
    with pytest.raises(BadTokenFile):
        read_or_create(file)


@pytest.mark.parametrize(
    "target", ["/v2", "/v2/x", "//v2/x", "/V2/x", "/%76%32/x", "/%2576%2532", "http://h/v2/x", "/./v2/x", "/v2?x"]
)
def test_what_was_meant_for_v2(target: str) -> None:
    assert looks_like_v2(target)


@pytest.mark.parametrize("target", ["/", "/v1/models", "/v20", "/v1/v2/x", "*", "/health"])
def test_what_was_not(target: str) -> None:
    assert not looks_like_v2(target)


def test_rebuilding_sets_the_operation() -> None:
    inner = json.loads(
        json.loads(rebuild(parse_generate(b'{"REQUEST": "{\\"text\\": \\"a\\", \\"op\\": \\"cancel\\"}"}', stream=True)))[
            "REQUEST"
        ]
    )
    assert (inner["op"], inner["text"], inner["stream"]) == ("generate", "a", True)
    for body in (b"{}", b'{"REQUEST": 1}', b'{"REQUEST": "{}", "x": 1}', b'{"REQUEST": "{\\"token\\": \\"t\\"}"}', b"[]"):
        with pytest.raises(errors.ApiError):
            parse_generate(body, stream=False)
