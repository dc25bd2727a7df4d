"""parse_localmodel: total over any JSON, and of one mind with the API server about values."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crd_cases import CASES, Fields, minimal, with_fields
from localmodel.api.localmodel import Invalid, LocalModel, parse_localmodel
from localmodel.api.spec import LocalModelSpec
from localmodel.api.status import LocalModelStatus

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
NAMES = sorted({field.alias or name for name, field in LocalModelSpec.model_fields.items()})
KEYS = st.sampled_from([*NAMES, "spec", "metadata", "status", "source", "pvc", "conditions", "cpu"]) | st.text(max_size=5)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=30)
DEEP: Any = {}
for _ in range(5000):
    DEEP = {"spec": DEEP, "l": [DEEP]}


def _paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [prefix, *(path for key, child in children for path in _paths(child, (*prefix, key)))]


FULL = with_fields(
    {
        "gpu": {"count": 1, "memory": "60%"},
        "resources": {"requests": {"cpu": 1}, "limits": {"memory": "8Gi"}},
        "placement": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "a"}]},
        "gateway": {"timeouts": {"queue": "1s"}, "concurrency": {"max": 1}, "logging": {"mode": "None"}},
        "security": {"allowFrom": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]},
    }
) | {"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "A", "lastTransitionTime": "x"}], "memory": {}}}


@given(JSON)
def test_never_raises(body: Any) -> None:
    assert isinstance(parse_localmodel(body), LocalModel | Invalid)


@given(st.sampled_from(_paths(FULL)[1:]), JSON)
def test_never_raises_on_a_real_object_with_one_broken_member(path: tuple[Any, ...], value: Any) -> None:
    def replace(node: Any, rest: tuple[Any, ...]) -> Any:
        if not rest:
            return value
        copy = list(node) if isinstance(node, list) else dict(node)
        copy[rest[0]] = replace(node[rest[0]], rest[1:])
        return copy

    parsed = parse_localmodel(replace(FULL, path))
    assert isinstance(parsed, LocalModel | Invalid)
    if isinstance(parsed, Invalid):
        assert parsed.errors and all(error.startswith("spec") for error in parsed.errors)


@pytest.mark.parametrize("body", [None, [], "x", 1, {}, {"metadata": None}, {"metadata": {"name": 1}}, {"spec": None}, DEEP])
def test_what_is_no_object_is_invalid(body: Any) -> None:
    assert isinstance(parse_localmodel(body), Invalid)


def test_a_whole_object() -> None:
    body = minimal()
    body["metadata"] |= {"uid": "u", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z"}
    model = parse_localmodel(body)
    assert isinstance(model, LocalModel)
    assert (model.namespace, model.name, model.uid, model.generation) == ("llm", "qwen-7b", "u", 3)
    assert model.spec.model.source.pvc and model.spec.model.source.pvc.claim_name == "models"
    assert not model.deleting and model.status == LocalModelStatus()


def test_deleting() -> None:
    body = minimal()
    body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert parse_localmodel(body).deleting is True  # type: ignore[union-attr]


def test_a_status_that_cannot_be_read_is_as_none() -> None:
    """An older or newer operator wrote it; it is derived anew."""
    model = parse_localmodel(minimal() | {"status": {"conditions": "broken"}})
    assert isinstance(model, LocalModel) and model.status == LocalModelStatus()


def test_errors_are_sentences_with_the_users_path() -> None:
    parsed = parse_localmodel(with_fields({"gateway.timeouts.queue": "1d", "gpu.count": 99}))
    assert isinstance(parsed, Invalid) and parsed.name == "qwen-7b"
    queue = "spec.gateway.timeouts.queue: write a duration of more than zero and at most 24h, such as 30s, 1m30s or 500ms"
    assert set(parsed.errors) == {queue, "spec.gpu.count: Input should be less than or equal to 16"}


def test_errors_fit_into_a_condition() -> None:
    parsed = parse_localmodel(with_fields({"model.servedNames": [1] * 100_000, "placement.nodeSelector": {"x" * 10_000_000: 1}}))
    assert isinstance(parsed, Invalid)
    assert 0 < len(parsed.errors) <= 10 and len("; ".join(parsed.errors)) < 8192


@pytest.mark.parametrize("key", ["", "a b", "/zone", "a/b/c", "-a", "A.com/zone", "a" * 64])
def test_keys_of_labels_are_checked_here_because_cel_cannot(key: str) -> None:
    parsed = parse_localmodel(with_fields({"placement.nodeSelector": {key: "x"}}))
    assert isinstance(parsed, Invalid) and "is not the key of a label" in parsed.errors[0]


@pytest.mark.parametrize("fields", [fields for case in CASES for fields in case.good], ids=str)
def test_what_the_server_accepts_is_parsed(fields: Fields) -> None:
    assert isinstance(parse_localmodel(with_fields(fields)), LocalModel)


JUDGED = [(fields, case.message) for case in CASES if case.parser_judges for fields in case.bad]


@pytest.mark.parametrize(("fields", "message"), JUDGED, ids=str)
def test_what_the_server_refuses_is_refused_here_in_the_same_words(fields: Fields, message: str) -> None:
    """`localmodel run` reads a document that no API server has seen."""
    parsed = parse_localmodel(with_fields(fields))
    assert isinstance(parsed, Invalid) and any(f": {message}" in error for error in parsed.errors), parsed
