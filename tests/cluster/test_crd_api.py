"""The CRD in a real API server: accepted, and every rule refuses what it must, with its own words, and nothing else."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from crd_cases import CASES, REMOVE, Case, Fields, NameCase, minimal, with_fields
from localmodel.api.crd import build_crd
from localmodel.core.quantities import format_cpu, format_memory

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
DRY_RUN = ("apply", "--server-side", "--dry-run=server", "-f", "-")
APPLY = ("apply", "--server-side", "-f", "-")
NAMES = NameCase()
IMMUTABLE = ("model.source", "the kind of source can't be changed")


def _rules() -> Iterator[tuple[str, str]]:
    """Path and message of every rule in the generated CRD."""

    def walk(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
        yield from ((path, rule["message"]) for rule in schema.get("x-kubernetes-validations", []))
        for name, child in schema.get("properties", {}).items():
            yield from walk(child, f"{path}.{name}" if path else name)
        for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
            if key in schema:
                yield from walk(schema[key], path + mark)

    return walk(build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"], "")


def _ids(case: Case) -> str:
    return f"{case.path}: {case.message}"


def _list(bodies: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": bodies}


def test_every_rule_has_a_failing_case() -> None:
    covered = {(f"spec.{path}".rstrip("."), message) for path, message, *_ in (*CASES, IMMUTABLE)} | {("", NAMES.message)}
    uncovered = {
        (path, message) for path, message in _rules() if not any(path == p and message.startswith(m) for p, m in covered)
    }
    assert not uncovered, "write a case in tests/crd_cases.py"
    assert all(case.bad and case.good for case in CASES)


def test_established_with_its_names(apiserver) -> None:
    crd = apiserver.get("crd", "localmodels.localmodel.dev")
    conditions = {condition["type"]: condition["status"] for condition in crd["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    apiserver.kubectl("get", "lm", "-A")
    apiserver.kubectl("get", "ai", "-A")


def test_rules_let_pass_what_is_right(apiserver) -> None:
    bodies = [with_fields(fields, f"good-{n}-{i}") for n, case in enumerate(CASES) for i, fields in enumerate(case.good)]
    apiserver.kubectl(*DRY_RUN, stdin=_list(bodies))


@pytest.mark.parametrize("case", CASES, ids=_ids)
def test_rule_refuses_what_is_wrong(apiserver, case: Case) -> None:
    """All bad objects of a case go in one call; kubectl goes on after a refusal and prints one line for each."""
    bodies = [with_fields(fields, f"bad-{index}") for index, fields in enumerate(case.bad)]
    result = apiserver.run(*DRY_RUN, stdin=_list(bodies))
    assert "serverside-applied" not in result.stdout, f"accepted: {result.stdout}"
    answers = result.stderr.split('The LocalModel "bad-')[1:]
    for index, fields in enumerate(case.bad):
        answer = next((answer for answer in answers if answer.startswith(f'{index}"')), result.stderr)
        assert case.message in answer, f"{fields}: {answer}"
        assert "spec." + re.split(r"[\[{]", case.path)[0] in answer
        assert "rule evaluation error" not in answer, f"{fields}: {answer}"


@pytest.mark.parametrize("name", NAMES.good)
def test_good_name(apiserver, name: str) -> None:
    apiserver.kubectl(*DRY_RUN, stdin=minimal(name))


@pytest.mark.parametrize("name", NAMES.bad)
def test_bad_name(apiserver, name: str) -> None:
    answer = apiserver.run(*DRY_RUN, stdin=minimal(name)).stderr
    assert "metadata.name: Invalid value" in answer and NAMES.message in answer


def test_kind_of_source_is_immutable_but_its_content_is_not(apiserver) -> None:
    apiserver.kubectl(*APPLY, stdin=minimal("immutable"))
    moved = with_fields({"model.source.pvc.claimName": "other", "model.source.pvc.path": "b"}, "immutable")
    apiserver.kubectl(*APPLY, stdin=moved)
    other_kind = with_fields({"model.source.pvc": REMOVE, "model.source.hostPath": {"path": "/opt/models"}}, "immutable")
    answer = apiserver.run(*APPLY, stdin=other_kind).stderr
    assert f"spec.{IMMUTABLE[0]}" in answer and IMMUTABLE[1] in answer


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"contextWindow": 255}, "spec.contextWindow in body should be greater than or equal to 256"),
        ({"contextWindow": 1_048_577}, "spec.contextWindow in body should be less than or equal to 1048576"),
        ({"maxBatchSize": 0}, "spec.maxBatchSize in body should be greater than or equal to 1"),
        ({"maxBatchSize": 1025}, "spec.maxBatchSize in body should be less than or equal to 1024"),
        ({"gpu.count": 17}, "spec.gpu.count in body should be less than or equal to 16"),
        ({"replicas": -1}, "spec.replicas in body should be greater than or equal to 0"),
        ({"replicas": 65}, "spec.replicas in body should be less than or equal to 64"),
        ({"model.servedNames": ["a", "a"]}, "spec.model.servedNames: duplicate entries"),
        ({"model.servedNames": [str(n) for n in range(17)]}, "spec.model.servedNames: Too many: 17: must have at most 16 items"),
        ({"model.servedNames": ["a" * 257]}, "spec.model.servedNames[0]: Too long"),
        ({"model.version": "v" * 129}, "spec.model.version: Too long"),
        ({"model.task": "Poetry"}, 'supported values: "TextGeneration"'),
        ({"gateway.logging.mode": "full"}, 'supported values: "None", "Metadata", "Full"'),
        ({"resources.requests.cpu": 0.5}, "spec.resources.requests.cpu"),
        ({"placement.nodeSelector": {str(n): "" for n in range(17)}}, "spec.placement.nodeSelector: Too many: 17"),
        ({"model.source": REMOVE}, "spec.model.source: Required value"),
    ],
)
def test_limits_of_the_schema(apiserver, fields: Fields, answer: str) -> None:
    result = apiserver.run(*DRY_RUN, stdin=with_fields(fields))
    assert result.returncode != 0 and answer in result.stderr


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"contextwindow": 4096}, ".spec.contextwindow: field not declared in schema"),
        ({"gateway.timeouts.queueSeconds": 30}, ".spec.gateway.timeouts.queueSeconds: field not declared in schema"),
        ({"resources.limits.nvidia~com/gpu": 1}, "nvidia.com/gpu: field not declared in schema"),
        ({"model.source.s3": {}}, ".spec.model.source.s3: field not declared in schema"),
    ],
)
def test_unknown_field_is_refused_by_server_side_apply(apiserver, fields: Fields, answer: str) -> None:
    text = json.dumps(with_fields(fields)).replace("~", ".")
    result = apiserver.run(*DRY_RUN, stdin=text)
    assert result.returncode != 0 and answer in result.stderr


def test_unknown_field_is_refused_by_plain_apply_and_create(apiserver) -> None:
    """kubectl's default, --validate=strict, is decided by the server (fieldValidation=Strict)."""
    body = with_fields({"contextwindow": 4096})
    for verb in ("apply", "create"):
        result = apiserver.run(verb, "--dry-run=server", "-f", "-", stdin=body)
        assert 'strict decoding error: unknown field "spec.contextwindow"' in result.stderr


def test_least_yaml_gets_the_documented_defaults(apiserver) -> None:
    """examples/full.yaml is the document: every default that the server writes stands there, with this value."""
    apiserver.kubectl(*APPLY, stdin=(ROOT / "examples" / "minimal.yaml").read_text())
    least = yaml.safe_load((ROOT / "examples" / "minimal.yaml").read_text())
    full = yaml.safe_load((ROOT / "examples" / "full.yaml").read_text())["spec"]
    stored = apiserver.get("lm", least["metadata"]["name"], "-n", least["metadata"]["namespace"])["spec"]
    assert "memory" not in stored["gpu"], "a rule could not tell a default from what was written"

    def compare(written: Any, found: Any, path: str) -> None:
        if isinstance(found, dict):
            for key in found:
                compare(written[key], found[key], f"{path}.{key}")
        else:
            assert written == found, path

    compare({**full, "model": {**full["model"], "source": least["spec"]["model"]["source"]}}, stored, "spec")


def test_full_example_is_accepted(apiserver) -> None:
    apiserver.kubectl(*APPLY, stdin=(ROOT / "examples" / "full.yaml").read_text())


def _deployment(name: str, fields: Fields) -> dict[str, Any]:
    """What Kubernetes itself would get of these fields."""
    spec = with_fields(fields)["spec"]
    placement = {key: value for key, value in spec.get("placement", {}).items() if value}
    container: dict[str, Any] = {"name": "a", "image": spec.get("runtime", {}).get("image") or "a"}
    container["resources"] = spec.get("resources", {})
    if device := spec["gpu"].get("resourceName"):
        container["resources"] = {"limits": {device: 1}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container], **placement}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "llm"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template},
    }


def _network_policy(name: str, fields: Fields) -> dict[str, Any]:
    spec = {"podSelector": {}, "ingress": [{"from": fields["security.allowFrom"]}]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "llm"},
        "spec": spec,
    }


def test_what_the_rules_let_pass_kubernetes_lets_pass(apiserver) -> None:
    """A peer, toleration or quantity that only the API server of our children refuses would leave the operator stuck."""
    good = [fields for case in CASES for fields in case.good]
    policies = [_network_policy(f"p-{n}", fields) for n, fields in enumerate(good) if "security.allowFrom" in fields]
    pods = [
        _deployment(f"d-{n}", fields)
        for n, fields in enumerate(good)
        if any(path.startswith(("placement.", "resources.", "runtime.image", "gpu.resourceName")) for path in fields)
    ]
    assert len(policies) > 10 and len(pods) > 30
    result = apiserver.run("create", "--dry-run=server", "-f", "-", stdin=_list([*policies, *pods]))
    assert (result.returncode, result.stderr) == (0, ""), "neither an error nor a warning"


def test_amounts_come_back_as_we_write_them(apiserver) -> None:
    """At the borders, too: another spelling would look like somebody's change, and be repaired for ever."""
    cores = map(Decimal, ("0.0001", "1.5", "999", "1000", "1500", "2000000"))
    amounts = (1, 1536 << 20, 1 << 30, 1025 << 40, 1 << 50, 1 << 60)
    written = [{"cpu": format_cpu(c), "memory": format_memory(m)} for c, m in zip(cores, amounts, strict=True)]
    bodies = [_deployment(f"amounts-{n}", {"resources.limits": limits}) for n, limits in enumerate(written)]
    path = '{.spec.template.spec.containers[0].resources.limits}{"\\n"}'
    answer = apiserver.kubectl("create", "--dry-run=server", "-o", f"jsonpath={path}", "-f", "-", stdin=_list(bodies))
    assert [json.loads(line) for line in answer.splitlines()] == written


def test_rules_see_half_of_a_pair(apiserver) -> None:
    """A default must not make the half that a user writes illegal."""
    halves: list[Fields] = [
        {"gpu.count": 0},
        {"gpu.memory": "10%"},
        {"gateway.timeouts.total": "10s"},
        {"resources.limits.cpu": "1m"},
    ]
    apiserver.kubectl(*DRY_RUN, stdin=_list([with_fields(fields, f"half-{n}") for n, fields in enumerate(halves)]))


def test_explain_reads_like_a_manual(apiserver) -> None:
    assert "Tokens of prompt and answer together" in apiserver.kubectl("explain", "localmodel.spec")
    timeouts = apiserver.kubectl("explain", "lm.spec.gateway.timeouts")
    assert "at most 24h" in timeouts and "Default: 10m." in timeouts
    assert "What is true now and what to do about it" in apiserver.kubectl("explain", "localmodels.status")


def test_status_belongs_to_its_subresource(apiserver) -> None:
    apiserver.kubectl(*APPLY, stdin=minimal("owned"))
    forged = {**minimal("owned"), "status": {"version": "forged"}}
    apiserver.kubectl("replace", "-f", "-", stdin=forged)
    assert "status" not in apiserver.get("lm", "owned", "-n", "llm")
    status = {**minimal("owned"), "status": {"replicas": 1, "version": "1"}}
    del status["spec"]
    apiserver.kubectl(*APPLY, "--subresource=status", "--field-manager=localmodel-operator-status", stdin=status)
    assert apiserver.get("lm", "owned", "-n", "llm")["status"] == {"replicas": 1, "version": "1"}
    apiserver.kubectl(*APPLY, "--force-conflicts", stdin=with_fields({"replicas": 2}, "owned"))
    stored = apiserver.get("lm", "owned", "-n", "llm")
    assert stored["status"]["version"] == "1" and stored["metadata"]["generation"] == 2


def test_conditions_merge_by_type(apiserver) -> None:
    """Two managers may each own a condition: the list is a map."""
    apiserver.kubectl(*APPLY, stdin=minimal("conditions"))

    def apply(manager: str, type_: str) -> None:
        condition = {"type": type_, "status": "True", "reason": "A", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        body = {**minimal("conditions"), "status": {"conditions": [condition]}}
        del body["spec"]
        apiserver.kubectl(*APPLY, "--subresource=status", f"--field-manager={manager}", stdin=body)

    apply("one", "Ready")
    apply("two", "Accepted")
    found = apiserver.get("lm", "conditions", "-n", "llm")["status"]["conditions"]
    assert {condition["type"] for condition in found} == {"Ready", "Accepted"}


def test_scale_subresource(apiserver) -> None:
    apiserver.kubectl(*APPLY, stdin=minimal("scaled"))
    apiserver.kubectl("scale", "lm/scaled", "-n", "llm", "--replicas=3")
    assert apiserver.get("lm", "scaled", "-n", "llm")["spec"]["replicas"] == 3
    refused = apiserver.run("scale", "lm/scaled", "-n", "llm", "--replicas=65")
    assert "should be less than or equal to 64" in refused.stderr
    status = {**minimal("scaled"), "status": {"replicas": 2, "selector": "localmodel.dev/name=scaled"}}
    del status["spec"]
    apiserver.kubectl(*APPLY, "--subresource=status", "--field-manager=s", stdin=status)
    scale = json.loads(apiserver.kubectl("get", "--raw", "/apis/localmodel.dev/v1alpha1/namespaces/llm/localmodels/scaled/scale"))
    assert scale["spec"] == {"replicas": 3}
    assert scale["status"] == {"replicas": 2, "selector": "localmodel.dev/name=scaled"}


def test_scaling_survives_the_next_apply(apiserver) -> None:
    """Server-side apply: who does not write replicas does not own them."""
    apiserver.kubectl(*APPLY, stdin=minimal("shared"))
    apiserver.kubectl("scale", "lm/shared", "-n", "llm", "--replicas=3")
    apiserver.kubectl(*APPLY, stdin=with_fields({"contextWindow": 8192}, "shared"))
    assert apiserver.get("lm", "shared", "-n", "llm")["spec"]["replicas"] == 3


def test_each_field_has_its_owner(apiserver) -> None:
    """Two teams may write one object; a default is nobody's, and taking another's field is a conflict."""
    apiserver.kubectl(*APPLY, "--field-manager=team", stdin=with_fields({"replicas": 1}, "two-owners"))
    apiserver.kubectl(*APPLY, "--field-manager=platform", stdin=with_fields({"contextWindow": 8192}, "two-owners"))
    conflict = apiserver.run(*APPLY, "--field-manager=platform", stdin=with_fields({"replicas": 2}, "two-owners"))
    assert 'conflict with "team": .spec.replicas' in conflict.stderr
    found = apiserver.get("lm", "two-owners", "-n", "llm")["spec"]
    assert (found["replicas"], found["contextWindow"]) == (1, 8192)


def test_columns(apiserver) -> None:
    apiserver.kubectl(*APPLY, stdin=minimal("shown"))
    ready = {
        "type": "Ready",
        "status": "False",
        "reason": "Loading",
        "message": "wait",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    change = {**ready, "type": "Progressing", "reason": "Blocked"}
    status = {
        "conditions": [change, ready],
        "version": "v1",
        "readyReplicas": 0,
        "memory": {"planned": "5.2Gi"},
        "endpoint": "http://a",
    }
    body = {**minimal("shown"), "status": status}
    del body["spec"]
    apiserver.kubectl(*APPLY, "--subresource=status", "--field-manager=s", stdin=body)
    head, row = (line.split() for line in apiserver.kubectl("get", "lm", "shown", "-n", "llm").splitlines())
    assert head == ["NAME", "READY", "REASON", "CHANGE", "VERSION", "SERVING", "REPLICAS", "MEMORY", "GPU", "AGE"]
    assert row[:-1] == ["shown", "False", "Loading", "Blocked", "v1", "0", "1", "5.2Gi", "1"]
    wide = apiserver.kubectl("get", "lm", "shown", "-n", "llm", "-o", "wide")
    assert "http://a" in wide and "wait" in wide
