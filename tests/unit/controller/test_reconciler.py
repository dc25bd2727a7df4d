"""One look at a model, against an API server in memory. What is planned and told is core's, and tested there."""

import datetime
import re
from typing import Any

import pytest

from localmodel.controller.cluster import Cluster
from localmodel.controller.connection import ApiError
from localmodel.controller.metrics import OperatorMetrics
from localmodel.controller.prober import Prober
from localmodel.controller.reconciler import Reconciler
from localmodel.controller.recorder import Recorder
from localmodel.controller.settings import ProberSettings
from localmodel.controller.store import Store
from localmodel.controller.workqueue import Failed
from localmodel.core.transitions import EventNote
from simulation.fake_connection import FakeConnection
from simulation.world import CPU, build_options

KEY = ("llm", "chat")
MOMENT = datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC)


class Notes(Recorder):
    """Of what would be posted."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, replica="r", wall_clock=lambda: MOMENT)
        self.noted: list[EventNote] = []

    def record(self, model: Any, note: EventNote) -> None:
        self.noted.append(note)


def build(connection: FakeConnection, store: Store) -> tuple[Reconciler, Notes]:
    cluster = Cluster(connection, may_write_for=lambda: 60, count_write=lambda *_: None, request_timeout_seconds=10)
    prober = Prober(store, ProberSettings(), on_change=lambda _: None, is_leader=lambda: True)
    notes = Notes(cluster)
    options = {"is_leader": lambda: True, "resync_seconds": 600.0, "wall_clock": lambda: MOMENT}
    return Reconciler(store, cluster, prober, notes, OperatorMetrics(), build_options(), **options), notes  # type: ignore[arg-type]


def put_model(store: Store, version: int = 1, **spec: Any) -> None:
    metadata = {"name": "chat", "namespace": "llm", "uid": "u1", "generation": 2, "resourceVersion": str(version)}
    store.put("LocalModel", {"kind": "LocalModel", "metadata": metadata, "spec": {**CPU, **spec}})


async def test_what_cannot_be_read_is_told_in_the_status_and_in_one_event_and_changes_nothing() -> None:
    connection, store = FakeConnection(), Store()
    reconciler, notes = build(connection, store)
    put_model(store, placement={"nodeSelector": {"no label!": "x"}})
    await reconciler.reconcile(KEY)
    [(method, path, body)] = connection.requests
    assert method == "PATCH" and path.split("?")[0].endswith("/localmodels/chat/status")
    assert {c["type"]: c["reason"] for c in body["status"]["conditions"]} == dict.fromkeys(("Ready", "Accepted"), "InvalidSpec")
    assert [(note.type, note.reason) for note in notes.noted] == [("Warning", "InvalidSpec")]
    assert "no label!" in notes.noted[0].message


class Refusing(FakeConnection):
    """Of one kind of child, in these words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__()
        self._refusal = ApiError(status, words)

    async def request(self, method: str, path: str, *args: Any, **options: Any) -> tuple[int, dict[str, Any]]:
        if method == "PATCH" and "/services/" in path:
            raise self._refusal
        return await super().request(method, path, *args, **options)


@pytest.mark.parametrize(
    ("status", "words", "told"),
    [
        (403, "services is forbidden: exceeded quota: q", True),
        (422, "Service is invalid: spec.ports", True),
        (500, 'Internal error occurred: failed calling webhook "policy.lan": connection refused', True),
        (500, "etcdserver: request timed out", False),
        (429, "too many requests", False),
        (0, "the API server does not answer", False),
        (403, "unable to create new content in namespace llm because it is being terminated", False),
    ],
)
async def test_a_refusal_that_somebody_has_to_do_something_about_is_told(status: int, words: str, *, told: bool) -> None:
    connection, store = Refusing(status, words), Store()
    reconciler, notes = build(connection, store)
    put_model(store)
    with pytest.raises(Failed, match=re.escape(words)):
        await reconciler.reconcile(KEY)
    statuses = [body["status"] for _, path, body in connection.requests if "/status?" in path]
    assert bool(statuses) == told
    if told:
        accepted = next(c for c in statuses[0]["conditions"] if c["type"] == "Accepted")
        assert accepted["reason"] == "ChildRefused" and words in accepted["message"]
        assert [note.reason for note in notes.noted] == ["ChildRefused"]
    assert not any("/deployments/" in path and method == "PATCH" for method, path, _ in connection.requests)


class Stubborn(FakeConnection):
    """Refuses a Service, or changes what was applied as a mutating webhook may, once `how` is set."""

    how = ""

    async def request(self, method: str, path: str, *args: Any, **options: Any) -> tuple[int, dict[str, Any]]:
        if self.how == "refuses" and "/services/" in path:
            raise ApiError(403, "not now")
        status, body = await super().request(method, path, *args, **options)
        if self.how == "changes" and "/services/" in path:
            body["spec"]["type"] = "NodePort"
        return status, body


@pytest.mark.parametrize("how", ["", "refuses", "changes"])
async def test_only_what_was_set_back_is_called_so(how: str) -> None:
    connection, store = Stubborn(), Store()
    reconciler, notes = build(connection, store)
    put_model(store)
    await reconciler.reconcile(KEY)
    service = store.children(KEY)[("Service", "chat")]
    put_model(store, 1000)
    metadata = {**service["metadata"], "resourceVersion": "1000"}
    store.put("Service", {**service, "metadata": metadata, "spec": {**service["spec"], "type": "NodePort"}})
    notes.noted.clear()
    connection.how = how
    if how == "refuses":
        with pytest.raises(Failed):
            await reconciler.reconcile(KEY)
    else:
        await reconciler.reconcile(KEY)
    assert ("DriftRepaired" in [note.reason for note in notes.noted]) == (how == "")
