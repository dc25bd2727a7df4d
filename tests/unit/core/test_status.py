"""What is told to people: one cause, the right condition, words of whoever failed, and no write without a transition."""

from dataclasses import replace
from typing import Any

import pytest

from localmodel.api.constants import EXIT_BAD_LOG_KEY
from localmodel.api.engine import LoadErrorCode
from localmodel.api.load_progress import LoadProgress
from localmodel.api.localmodel import Invalid
from localmodel.api.status import LocalModelStatus
from localmodel.core.hints import hint
from localmodel.core.observe import Observed, Pod, Rival, report_signature
from localmodel.core.plan import plan
from localmodel.core.status import derive_invalid_status, derive_status
from localmodel.core.transitions import derive_events
from simulation.fake_gateway import ENGINE, build_report
from simulation.world import NOW, build_container, build_model, build_options, build_pod, observe_running

OPTIONS = build_options()
LATER = "2026-11-25T13:00:00Z"
NONE = LocalModelStatus()


def derive(model: Any, observed: Observed, previous: LocalModelStatus = NONE, now: str = NOW) -> LocalModelStatus:
    return derive_status(model, plan(model, OPTIONS, observed), observed, previous, now)


def conditions(status: LocalModelStatus) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, str(c.reason)) for c in status.conditions}


def message(status: LocalModelStatus, type_: str) -> str:
    return next(c.message for c in status.conditions if c.type == type_)


def test_ready() -> None:
    model = build_model(replicas=2)
    status = derive(model, observe_running(model, OPTIONS)[1])
    assert conditions(status) == {
        "Ready": ("True", "Ready"), "Accepted": ("True", "Accepted"), "Scheduled": ("True", "Scheduled"),
        "ModelLoaded": ("True", "Loaded"), "GatewayReady": ("True", "Answering"), "Progressing": ("False", "Complete"),
        "Paused": ("False", "NotPaused"),
    }  # fmt: skip
    assert (status.replicas, status.ready_replicas, status.last_failure) == (2, 2, None)


@pytest.mark.parametrize("breaking", ["pod not ready", "gateway silent", "gateway not ready", "never asked"])
def test_ready_needs_both_the_gateway_and_the_service(breaking: str) -> None:
    model = build_model()
    observed = observe_running(model, OPTIONS)[1]
    reports: dict[str, dict[str, Any]] = {
        "pod not ready": {"pods": (replace(observed.pods[0], ready=False),)},
        "gateway silent": {"gateways": {"p0": None}},
        "gateway not ready": {"gateways": {"p0": build_report("p0", ready=False, reason="NoEvidence")}},
        "never asked": {"gateways": {}},
    }
    assert conditions(derive(model, replace(observed, **reports[breaking])))["Ready"][0] == "False"


def _waiting(reason: str, said: str = "said") -> tuple[Any, ...]:
    return (build_container(waiting_reason=reason, waiting_message=said),)


POD_CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    (
        "unschedulable",
        {"scheduled": False, "unschedulable": "0/2 nodes"},
        "Scheduled",
        "Unschedulable",
        "0/2 nodes. Each replica",
    ),
    ("pull", {"containers": _waiting("ImagePullBackOff")}, "ModelLoaded", "ImagePullFailed", "triton: said"),
    ("no image", {"containers": _waiting("ErrImageNeverPull")}, "ModelLoaded", "ImagePullFailed", "said"),
    ("config", {"containers": _waiting("CreateContainerConfigError")}, "ModelLoaded", "ContainerCannotStart", "said"),
    (
        "oom",
        {"containers": (build_container(ended_reason="OOMKilled"),)},
        "ModelLoaded",
        "OutOfMemory",
        "may use 3892Mi; 3.8Gi were planned",
    ),
    (
        "crash",
        {"containers": (build_container(waiting_reason="CrashLoopBackOff", exit_code=3, ended_message="no lib"),)},
        "ModelLoaded",
        "CrashLoop",
        "exit code 3 again and again. It said: no lib",
    ),
    (
        "gateway",
        {"containers": (build_container("gateway", waiting_reason="ImagePullBackOff", waiting_message="said"),)},
        "GatewayReady",
        "ImagePullFailed",
        "gateway: said",
    ),
]


@pytest.mark.parametrize(("pod", "type_", "reason", "text"), [case[1:] for case in POD_CASES], ids=[c[0] for c in POD_CASES])
def test_a_pod_that_cannot_run(pod: dict[str, Any], type_: str, reason: str, text: str) -> None:
    model = build_model(resources={"limits": {"memory": "3.8Gi"}})
    planned, observed = observe_running(model, OPTIONS, "Loading")
    broken = replace(observed, pods=(build_pod("p0", planned.revision, ready=False, **pod),), gateways={})
    status = derive(model, broken)
    assert conditions(status)[type_] == ("False", reason) == conditions(status)["Ready"]
    assert conditions(status)["Progressing"] == ("False", "Blocked")
    said = message(status, type_)
    assert text in said
    assert said.endswith(hint(reason)) and hint(reason)
    assert status.last_failure and (status.last_failure.reason, status.last_failure.hint) == (reason, hint(reason))


@pytest.mark.parametrize(
    ("named", "code", "reason"), [(True, EXIT_BAD_LOG_KEY, "LogKeyUnusable"), (True, 2, "CrashLoop"), (False, 3, "CrashLoop")]
)
def test_a_log_key_that_is_not_there_is_named_with_its_secret(named: bool, code: int, reason: str) -> None:
    model = build_model(gateway={"logging": {"chainKeyRef": {"name": "audit"}}} if named else {})
    planned, observed = observe_running(model, OPTIONS, "Loading")
    ended = build_container("gateway", waiting_reason="CrashLoopBackOff", exit_code=code, ended_message="no such file\n")
    pod = build_pod("p0", planned.revision, ready=False, containers=(ended,))
    status = derive(model, replace(observed, pods=(pod,), gateways={}))
    assert conditions(status)["GatewayReady"] == ("False", reason) == conditions(status)["Ready"]
    said = message(status, "GatewayReady")
    assert "no such file" in said and said.endswith(hint(reason)) and ("Secret audit" in said) == (reason == "LogKeyUnusable")


def test_how_far_a_load_is_stands_in_the_status() -> None:
    model = build_model()
    observed = observe_running(model, OPTIONS, "Loading")[1]
    report = build_report("p0", "Loading")
    progress = LoadProgress(read_bytes=3, total_bytes=9, seconds=1)
    told = report.model_copy(
        update={"message": "30 % are read.", "backend": report.backend.model_copy(update={"progress": progress})}
    )
    status = derive(model, replace(observed, gateways={"p0": told}))
    assert conditions(status)["ModelLoaded"] == ("False", "Loading") == conditions(status)["Ready"]
    assert message(status, "ModelLoaded") == message(status, "Ready") == "0 of 1 replicas have the model loaded. 30 % are read."
    assert message(status, "GatewayReady") == "0 of 1 gateways answer requests. 30 % are read."


@pytest.mark.parametrize("code", list(LoadErrorCode))
def test_a_load_failure_in_tritons_words(code: LoadErrorCode) -> None:
    model = build_model()
    said = f"load failed for model 'llm': [{code}] the file is short\n\nAt:\n  /repository/llm/1/model.py(10)\n"
    status = derive(model, observe_running(model, OPTIONS, "LoadFailed", said)[1])
    assert conditions(status)["ModelLoaded"] == ("False", code) == conditions(status)["Ready"]
    assert message(status, "ModelLoaded") == f"the file is short\n{hint(code)}" and hint(code)
    assert status.last_failure and status.last_failure.message == said


def test_a_load_failure_that_is_not_the_engines() -> None:
    model = build_model()
    status = derive(model, observe_running(model, OPTIONS, "LoadFailed", "Stub process is not healthy")[1])
    assert conditions(status)["ModelLoaded"] == ("False", "LoadFailed")
    assert "Stub process is not healthy" in message(status, "ModelLoaded")


def test_the_old_version_serves_while_the_new_one_fails() -> None:
    model = build_model()
    _, observed = observe_running(model, OPTIONS, "LoadFailed", "[ModelFilesMissing] no config.json")
    old = build_pod("a-old", "older")
    both = replace(
        observed, pods=(old, *observed.pods), gateways={**observed.gateways, "a-old": build_report("a-old", version="1")}
    )
    status = derive(model, both)
    assert conditions(status)["Ready"] == ("True", "Ready") and status.version == "1"
    assert conditions(status)["ModelLoaded"] == ("False", "ModelFilesMissing")
    assert conditions(status)["Progressing"] == ("False", "Blocked")
    assert status.last_failure and status.last_failure.reason == "ModelFilesMissing"


@pytest.mark.parametrize(
    ("claim", "refusal", "reason"),
    [
        ("Missing", "", "VolumeClaimNotFound"),
        ("Found", 'pods "a" is forbidden: violates PodSecurity "restricted:latest": x', "PodSecurity"),
        ("Found", 'pods "a" is forbidden: exceeded quota: q', "QuotaExceeded"),
        ("Found", "admission webhook said no", "PodsRefused"),
        ("Found", "", "Pending"),
    ],
)
def test_no_pods(claim: Any, refusal: str, reason: str) -> None:
    model = build_model()
    observed = observe_running(model, OPTIONS)[1]
    key = ("Deployment", "chat")
    failure = [{"type": "ReplicaFailure", "status": "True", "message": refusal}] if refusal else []
    body = {**observed.children[key], "status": {"conditions": failure}}
    status = derive(model, replace(observed, pods=(), claim=claim, children={**observed.children, key: body}))
    assert conditions(status)["Scheduled"][1] == reason == conditions(status)["Ready"][1]
    assert refusal in message(status, "Scheduled")


def test_stopped_paused_refused() -> None:
    stopped = build_model(replicas=0)
    status = derive(stopped, observe_running(stopped, OPTIONS)[1])
    assert conditions(status)["Ready"] == ("False", "Stopped") == conditions(status)["Progressing"]
    paused = build_model(paused=True)
    assert conditions(derive(paused, Observed()))["Ready"] == ("False", "Paused")
    serving = derive(paused, observe_running(build_model(), OPTIONS)[1])
    assert conditions(serving)["Ready"][0] == "True" and conditions(serving)["Paused"] == ("True", "Paused")
    refused = derive(build_model(), Observed(refused="exceeded quota"))
    assert conditions(refused)["Accepted"] == ("False", "ChildRefused") and "exceeded quota" in message(refused, "Accepted")


def test_frozen_the_replicas_that_run_count_and_not_those_that_are_asked_for() -> None:
    """Paused, then edited: what serves goes on serving, and the status says so."""
    observed = observe_running(build_model(replicas=2), OPTIONS)[1]
    for frozen in (build_model(paused=True, replicas=0), build_model(paused=True, replicas=5)):
        status = derive(frozen, observed)
        assert conditions(status)["Ready"] == ("True", "Ready") and message(status, "Ready") == "2 of 2 replicas answer."
        assert conditions(status)["Scheduled"][0] == conditions(status)["ModelLoaded"][0] == "True"
    older = Rival("older", "u0", "2025-01-01T00:00:00Z", ("chat",))
    assert conditions(derive(build_model(replicas=0), replace(observed, rivals=(older,))))["Ready"] == ("True", "Ready")


def test_a_model_that_can_only_complete_says_so() -> None:
    model = build_model()
    observed = observe_running(model, OPTIONS)[1]
    mute = replace(observed, gateways={"p0": build_report("p0", chat_problem="No chat template.")})
    said = message(derive(model, mute), "Ready")
    assert said == "1 of 1 replicas answer. Chats are refused: No chat template."
    assert report_signature(mute.gateways["p0"]) != report_signature(observed.gateways["p0"])


def _with_keys(state: str = "Ready", **report: Any) -> LocalModelStatus:
    model = build_model(gateway={"auth": {"mode": "APIKey", "secretRef": {"name": "chat-keys"}}})
    observed = observe_running(model, OPTIONS)[1]
    return derive(model, replace(observed, gateways={"p0": build_report("p0", state).model_copy(update=report)}))


def test_a_missing_secret_is_named() -> None:
    status = _with_keys(ready=False, reason="KeysMissing", message="There is no API key.")
    assert conditions(status)["GatewayReady"] == ("False", "SecretNotFound") == conditions(status)["Ready"]
    said = message(status, "GatewayReady")
    assert "Secret chat-keys does not exist in namespace llm" in said and "localmodel key create" in said
    assert status.last_failure and status.last_failure.reason == "SecretNotFound"
    loading = _with_keys(state="Loading", reason="KeysMissing")
    assert conditions(loading)["GatewayReady"] == ("False", "SecretNotFound"), "told while the model still loads"


def test_keys_that_can_not_be_used_are_told() -> None:
    status = _with_keys(ready=False, reason="KeysInvalid", message="The key 'a' is no hash.")
    assert conditions(status)["GatewayReady"] == ("False", "KeysInvalid") == conditions(status)["Ready"]
    assert "'a' is no hash" in message(status, "Ready")


def test_one_bad_key_stops_nobody_else() -> None:
    status = _with_keys(keys_problem="The key 'a' is no hash.")
    assert conditions(status)["Ready"] == ("True", "Ready") and conditions(status)["Progressing"] == ("False", "Complete")
    assert conditions(status)["GatewayReady"] == ("False", "KeysInvalid")
    assert message(status, "GatewayReady") == f"1 of 1 gateways answer requests. The key 'a' is no hash.\n{hint('KeysInvalid')}"
    assert conditions(_with_keys())["GatewayReady"] == ("True", "Answering")
    good, bad = build_report("p0"), build_report("p0", keys_problem="x")
    assert report_signature(good) != report_signature(bad), "a change wakes the operator"


def test_stopped_and_then_paused_says_what_starts_it() -> None:
    observed = observe_running(build_model(replicas=0), OPTIONS)[1]
    status = derive(build_model(paused=True, replicas=1), observed)
    assert conditions(status)["Ready"] == ("False", "Stopped") and "spec.paused" in message(status, "Ready")


def test_a_pod_deleted_while_paused_is_no_model_that_was_never_made() -> None:
    observed = replace(observe_running(build_model(), OPTIONS)[1], pods=(), gateways={})
    assert conditions(derive(build_model(paused=True), observed))["Ready"] == ("False", "Pending")


def test_more_answer_than_wanted_in_a_roll_out() -> None:
    model = build_model()
    _, observed = observe_running(model, OPTIONS)
    old, reports = build_pod("a-old", "older"), {**observed.gateways, "a-old": build_report("a-old")}
    status = derive(model, replace(observed, pods=(old, *observed.pods), gateways=reports))
    assert message(status, "Ready") == "2 replicas answer. A roll-out is in progress."


def _created(observed: Observed, when: str) -> Observed:
    return replace(observed, pods=tuple(replace(pod, created=when) for pod in observed.pods))


@pytest.mark.parametrize("state", ["Starting", "Loading", "Unreachable"])
def test_a_failure_stands_while_the_same_pod_tries_again(state: str) -> None:
    """No write, no Event: it changes when the load succeeds, the spec does, or another pod tries."""
    model = build_model()
    failed = derive(model, observe_running(model, OPTIONS, "LoadFailed", "[ModelFilesMissing] no config.json")[1])
    again = _created(observe_running(model, OPTIONS, state)[1], NOW)
    assert derive(model, again, failed, LATER) == failed
    assert conditions(derive(model, _created(again, LATER), failed))["ModelLoaded"][1] != "ModelFilesMissing"
    edited = failed.model_copy(
        update={"conditions": tuple(c.model_copy(update={"observed_generation": 2}) for c in failed.conditions)}
    )
    assert conditions(derive(model, again, edited))["ModelLoaded"][1] != "ModelFilesMissing"
    loaded = _created(observe_running(model, OPTIONS)[1], NOW)
    assert conditions(derive(model, loaded, failed))["ModelLoaded"] == ("True", "Loaded")


def test_a_model_that_served_and_was_killed_has_no_old_failure() -> None:
    model = build_model()
    good = derive(model, observe_running(model, OPTIONS)[1])
    status = derive(model, _created(observe_running(model, OPTIONS, "Loading")[1], NOW), good)
    assert conditions(status)["Ready"] == ("False", "Loading") and status.last_failure is None


def test_an_image_is_missing_in_the_same_words_at_every_try() -> None:
    model = build_model()
    planned, observed = observe_running(model, OPTIONS, "Starting")
    said = "rpc error: code = NotFound desc = nothing:1: not found"
    waits = {"ErrImagePull": said, "ImagePullBackOff": f'Back-off pulling image "nothing:1": ErrImagePull: {said}'}
    tries = [
        derive(
            model, replace(observed, pods=(build_pod("p0", planned.revision, ready=False, containers=_waiting(reason, text)),))
        )
        for reason, text in waits.items()
    ]
    assert tries[0] == tries[1] and said in message(tries[0], "ModelLoaded")


def test_the_gateway_does_not_contradict_the_cause() -> None:
    """A gateway that waits for a model that never comes sees consequences, such as a tokenizer that is missing too."""
    model = build_model()
    _, observed = observe_running(model, OPTIONS, "LoadFailed", "[ModelFilesMissing] no such directory")
    report = observed.gateways["p0"].model_copy(update={"reason": "TokenizerMissing", "message": "Export it."})  # type: ignore[union-attr]
    status = derive(model, replace(observed, gateways={"p0": report}))
    assert message(status, "GatewayReady") == "0 of 1 gateways answer requests. The model is not loaded."
    loading = replace(observed, gateways={"p0": build_report("p0", "Loading", reason="TokenizerMissing")})
    assert conditions(derive(model, loading))["GatewayReady"] == ("False", "Loading")


def test_a_model_that_loads_but_has_no_tokenizer_is_a_failure() -> None:
    model = build_model()
    observed = observe_running(model, OPTIONS)[1]
    report = build_report("p0", ready=False, reason="TokenizerMissing")
    status = derive(model, replace(observed, gateways={"p0": report}))
    assert conditions(status)["GatewayReady"] == ("False", "TokenizerMissing") == conditions(status)["Ready"]
    assert status.last_failure and status.last_failure.reason == "TokenizerMissing"


@pytest.mark.parametrize(("limit", "reason"), [("120Mi", "OutOfMemory"), ("64Gi", "LoadFailed")])
def test_a_process_that_died_while_loading(limit: str, reason: str) -> None:
    model = build_model(resources={"requests": {"memory": "100Mi"}, "limits": {"memory": limit}})
    said = "load failed for model 'llm': Internal: Stub process 'llm_0_0' is not healthy.;\n"
    status = derive(model, observe_running(model, OPTIONS, "LoadFailed", said)[1])
    assert conditions(status)["ModelLoaded"] == ("False", reason)
    assert status.last_failure and status.last_failure.message.startswith("load failed")


def test_the_time_moves_only_with_the_status() -> None:
    model = build_model()
    loading = derive(model, observe_running(model, OPTIONS, "Loading")[1])
    again = derive(model, observe_running(model, OPTIONS, "Loading")[1], loading, LATER)
    assert again == loading
    failed = derive(model, observe_running(model, OPTIONS, "LoadFailed", "x")[1], loading, LATER)
    ready = next(c for c in failed.conditions if c.type == "Ready")
    assert ready.reason == "LoadFailed" and ready.last_transition_time == NOW
    good = derive(model, observe_running(model, OPTIONS)[1], failed, LATER)
    assert next(c for c in good.conditions if c.type == "Ready").last_transition_time == LATER


@pytest.mark.parametrize(("factor", "changes"), [(1.05, False), (0.95, False), (1.2, True)])
def test_measured_memory_does_not_flap(factor: float, changes: bool) -> None:
    model = build_model()
    observed = observe_running(model, OPTIONS)[1]
    first = derive(model, observed)
    report = observed.gateways["p0"]
    assert report
    engine = {**ENGINE, "memory_bytes": int(ENGINE["memory_bytes"] * factor)}
    moved = report.model_copy(update={"backend": report.backend.model_copy(update={"engine": engine})})
    assert (derive(model, replace(observed, gateways={"p0": moved}), first, LATER) != first) == changes


def test_the_last_failure_stays_until_ready() -> None:
    model = build_model()
    failed = derive(model, observe_running(model, OPTIONS, "LoadFailed", "[OutOfMemory] 9 > 8")[1])
    loading = derive(model, observe_running(model, OPTIONS, "Loading")[1], failed)
    assert loading.last_failure == failed.last_failure and conditions(loading)["Ready"] == ("False", "Loading")
    assert derive(model, observe_running(model, OPTIONS)[1], loading).last_failure is None


@pytest.mark.parametrize(("said", "reason"), [("NoEvidence", "NoEvidence"), ("", "Starting"), ("no word!", "Starting")])
def test_any_gateways_reason_makes_a_valid_status(said: str, reason: str) -> None:
    model = build_model()
    _, observed = observe_running(model, OPTIONS, "Loading")
    status = derive(model, replace(observed, gateways={"p0": build_report("p0", "Loading", reason=said)}))
    assert conditions(status)["GatewayReady"] == ("False", reason)


def test_progress_of_a_roll_out() -> None:
    model = build_model(replicas=2)
    _, observed = observe_running(model, OPTIONS)
    old: Pod = build_pod("a-old", "older")
    gateways = {"a-old": build_report("a-old"), "p0": build_report("p0")}
    rolling = replace(observed, pods=(old, observed.pods[0]), gateways=gateways)
    assert conditions(derive(model, rolling))["Progressing"] == ("True", "RollingOut")
    leaving = replace(observed, pods=(replace(old, deleting=True), *observed.pods))
    assert conditions(derive(model, leaving))["Progressing"] == ("False", "Complete")


def test_long_messages_are_cut() -> None:
    model = build_model()
    status = derive(model, observe_running(model, OPTIONS, "LoadFailed", "x" * 100_000)[1])
    assert len(message(status, "ModelLoaded")) <= 2048 and status.last_failure and len(status.last_failure.message) <= 8192


def test_events_on_transitions_only_and_one_per_reason() -> None:
    model = build_model()
    loading = derive(model, observe_running(model, OPTIONS, "Loading")[1])
    failed = derive(model, observe_running(model, OPTIONS, "LoadFailed", "[ModelFilesCorrupt] short")[1], loading)
    assert derive_events(failed, failed) == ()
    assert [(note.type, note.reason) for note in derive_events(loading, failed)] == [
        ("Warning", "ModelFilesCorrupt"),
    ]
    good = derive(model, observe_running(model, OPTIONS)[1], failed)
    assert {note.type for note in derive_events(failed, good)} == {"Normal"}
    assert "Ready" in [note.reason for note in derive_events(failed, good)]


def test_an_unreadable_spec_keeps_the_rest_of_the_status() -> None:
    model = build_model()
    good = derive(model, observe_running(model, OPTIONS)[1])
    status = derive_invalid_status(Invalid("chat", "llm", "u1", 4, ("spec.replicas: too many",)), good, LATER)
    assert conditions(status)["Accepted"] == ("False", "InvalidSpec") and "too many" in message(status, "Accepted")
    assert conditions(status)["ModelLoaded"] == ("True", "Loaded") and status.observed_generation == 4
    assert derive_invalid_status(Invalid("chat", "llm", "u1", 4, ("spec.replicas: too many",)), status, LATER) == status
