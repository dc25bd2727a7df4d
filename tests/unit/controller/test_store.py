"""What the store believes: never something older than it knew, never something that is gone."""

from typing import Any

import pytest

from localmodel.controller.store import Store
from localmodel.core.permissions import MODEL_PERMISSIONS, is_permitted

KEY = ("llm", "chat")


def body(kind: str, name: str, version: int, **changes: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "llm", "uid": f"{kind}-{name}", "resourceVersion": str(version)}
    labels = {} if kind in ("LocalModel", "PersistentVolumeClaim") else {"labels": {"localmodel.dev/name": "chat"}}
    return {"kind": kind, "metadata": {**metadata, **labels, "managedFields": [1]}, **changes}


def model(name: str, version: int, served: list[str] | None = None, claim: str = "models") -> dict[str, Any]:
    spec = {"model": {"source": {"pvc": {"claimName": claim}}, **({"servedNames": served} if served else {})}}
    return body("LocalModel", name, version, spec=spec)


def test_only_news_wakes_anybody() -> None:
    store = Store()
    assert store.put("Service", body("Service", "chat", 5)) == {KEY}
    assert store.put("Service", body("Service", "chat", 5)) == set(), "the answer to our own write came first"
    assert store.put("Service", body("Service", "chat", 4, spec="old")) == set()
    assert "spec" not in store.children(KEY)[("Service", "chat")]
    assert "managedFields" not in store.children(KEY)[("Service", "chat")]["metadata"]


def test_a_late_answer_does_not_bring_back_what_was_deleted() -> None:
    store = Store()
    store.put("Service", body("Service", "chat", 5))
    assert store.remove("Service", body("Service", "chat", 9)) == {KEY}
    assert store.put("Service", body("Service", "chat", 7)) == set() and store.children(KEY) == {}
    assert store.put("Service", body("Service", "chat", 10)) == {KEY}


def test_a_late_deletion_does_not_remove_the_successor() -> None:
    store = Store()
    store.put("Service", body("Service", "chat", 10))
    assert store.remove("Service", body("Service", "chat", 9)) == set()
    assert store.children(KEY)


def test_a_pod_that_changed_in_nothing_we_know_wakes_nobody() -> None:
    store = Store()
    assert store.put("Pod", body("Pod", "p", 1, status={"phase": "Running"})) == {KEY}
    assert store.put("Pod", body("Pod", "p", 2, status={"phase": "Running", "startTime": "x"})) == set()
    assert store.put("Pod", body("Pod", "p", 3, status={"phase": "Failed"})) == {KEY}
    store.remove("Pod", body("Pod", "p", 4))
    assert store.pods(KEY) == ()


@pytest.mark.parametrize("kind", ["Pod", "Service"])
def test_what_got_another_models_label_is_no_longer_the_firsts(kind: str) -> None:
    """As people do to take a pod out of a Service and look at it."""
    store, other = Store(), ("llm", "aside")
    store.put(kind, body(kind, "p", 1, status={"phase": "Running"}))
    moved = body(kind, "p", 2, status={"phase": "Running"})
    moved["metadata"]["labels"]["localmodel.dev/name"] = "aside"
    assert store.put(kind, moved) == {KEY, other}
    assert store.pods(KEY) == () and store.children(KEY) == {}
    assert store.pods(other) or store.children(other)
    moved["metadata"]["resourceVersion"] = "3"
    assert store.remove(kind, moved) == {other}
    assert not store.pods(other) and not store.children(other)


def test_who_shares_a_served_name_is_woken_when_it_comes_and_goes() -> None:
    store = Store()
    store.put("LocalModel", model("a", 1, ["gpt"]))
    assert store.put("LocalModel", model("b", 2, ["gpt", "x"])) == {("llm", "a"), ("llm", "b")}
    assert [r.name for r in store.rivals(("llm", "b"), ["gpt"])] == ["a"]
    assert store.put("LocalModel", model("a", 3, ["other"])) == {("llm", "a"), ("llm", "b")}
    assert store.rivals(("llm", "b"), ["gpt", "x"]) == ()
    store.put("LocalModel", model("c", 4, ["x"]))
    assert store.remove("LocalModel", model("c", 5)) == {("llm", "c"), ("llm", "b")}


def test_the_users_of_a_claim_are_woken() -> None:
    store = Store()
    store.put("LocalModel", model("a", 1))
    store.put("LocalModel", model("b", 2, claim="else"))
    assert store.put("PersistentVolumeClaim", body("PersistentVolumeClaim", "models", 3)) == {("llm", "a")}
    assert store.has_claim("llm", "models")
    store.put("LocalModel", model("a", 4, claim="else"))
    assert store.remove("PersistentVolumeClaim", body("PersistentVolumeClaim", "models", 5)) == set()
    assert not store.has_claim("llm", "models")


def test_a_missed_deletion_is_found_by_the_second_look() -> None:
    store = Store()
    store.put("LocalModel", model("chat", 1))
    store.put("Service", body("Service", "chat", 2))
    store.put("Pod", body("Pod", "p", 3))
    assert store.versions("Service") == {("llm", "chat"): 2}
    assert store.remove_unseen("Service", ("llm", "chat"), 9) == {KEY} and store.children(KEY) == {}
    assert store.remove_unseen("Pod", ("llm", "p"), 9) == {KEY} and store.pods(KEY) == ()
    assert store.remove_unseen("LocalModel", KEY, 9) == {KEY} and store.model(KEY) is None


def test_the_table_of_permissions() -> None:
    assert is_permitted("apps", "deployments", "patch") and not is_permitted("apps", "deployments", "delete")
    assert not any(p.resource in ("secrets", "nodes", "pods/exec") or "*" in (p.resource, *p.verbs) for p in MODEL_PERMISSIONS)
