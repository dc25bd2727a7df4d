"""What the watches delivered, by model: the operator reads from here and never asks the API server for what it watches.

An older version of an object never replaces a newer one, wherever it came from: the answers to our own writes are put
here too, so that a slow watch does not make us write the same twice. Bodies are kept packed, pods as summaries.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from localmodel.api import constants
from localmodel.controller.bodies import pack, trim, unpack
from localmodel.core.kinds import CHILD_KINDS, LOCAL_MODEL, POD, VOLUME_CLAIM
from localmodel.core.observe import ChildKey, Pod, Rival, summarize_pod

Key = tuple[str, str]
"""Namespace and name of a LocalModel."""
ObjectKey = tuple[str, str, str]
"""Kind, namespace and name of any object."""
_CHILD_KINDS = {kind.name for kind in CHILD_KINDS}
_TOMBSTONES = 10_000


class Store:
    def __init__(self) -> None:
        self._versions: dict[ObjectKey, int] = {}
        self._tombstones: OrderedDict[ObjectKey, int] = OrderedDict()
        self._models: dict[Key, bytes] = {}
        self._rivals: dict[Key, Rival] = {}
        self._served: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._owners: dict[ObjectKey, Key] = {}
        """Of children and pods: the label may be changed, and then the object is another model's."""
        self._children: dict[Key, dict[ChildKey, bytes]] = defaultdict(dict)
        self._pods: dict[Key, dict[str, Pod]] = defaultdict(dict)
        self._claims: set[Key] = set()
        self._claim_users: dict[Key, set[str]] = defaultdict(set)
        self._claim_of: dict[Key, Key] = {}

    def put(self, kind: str, body: dict[str, Any]) -> set[Key]:
        """Keys of the models that have to be looked at; empty if this is nothing new."""
        metadata = body["metadata"]
        id_ = (kind, metadata.get("namespace", ""), metadata["name"])
        version = _version(metadata)
        if version <= self._versions.get(id_, -1) or version <= self._tombstones.get(id_, -1):
            return set()
        self._versions[id_] = version
        self._tombstones.pop(id_, None)
        return self._put(id_, body)

    def remove(self, kind: str, body: dict[str, Any]) -> set[Key]:
        """The object is gone. An event about an earlier object of that name removes nothing newer."""
        metadata = body["metadata"]
        id_ = (kind, metadata.get("namespace", ""), metadata["name"])
        version = _version(metadata)
        if version < self._versions.get(id_, -1):
            return set()
        self._versions.pop(id_, None)
        self._tombstones[id_] = version
        while len(self._tombstones) > _TOMBSTONES:
            self._tombstones.popitem(last=False)
        return self._remove(id_, body)

    def remove_unseen(self, kind: str, id_: Key, version: int) -> set[Key]:
        """An object whose deletion no watch reported: it was not in a list of `version`."""
        metadata = {"namespace": id_[0], "name": id_[1], "resourceVersion": str(version)}
        return self.remove(kind, {"metadata": metadata})

    def model(self, key: Key) -> dict[str, Any] | None:
        packed = self._models.get(key)
        return unpack(packed) if packed is not None else None

    def model_keys(self) -> list[Key]:
        return list(self._models)

    def children(self, key: Key) -> dict[ChildKey, dict[str, Any]]:
        return {id_: unpack(packed) for id_, packed in self._children.get(key, {}).items()}

    def pods(self, key: Key) -> tuple[Pod, ...]:
        return tuple(self._pods.get(key, {}).values())

    def pod(self, key: Key, name: str) -> Pod | None:
        return self._pods.get(key, {}).get(name)

    def all_pods(self) -> Iterator[tuple[Key, Pod]]:
        return ((key, pod) for key, pods in self._pods.items() for pod in pods.values())

    def has_claim(self, namespace: str, name: str) -> bool:
        return (namespace, name) in self._claims

    def rivals(self, key: Key, served_names: Iterable[str]) -> tuple[Rival, ...]:
        """Other models of the namespace that claim one of the names."""
        namespace, own = key
        names = {name for served in served_names for name in self._served.get((namespace, served), ())} - {own}
        return tuple(self._rivals[(namespace, name)] for name in sorted(names))

    def versions(self, kind: str) -> dict[Key, int]:
        """Namespace and name of every known object of a kind, with its version."""
        return {(namespace, name): v for (kind_, namespace, name), v in self._versions.items() if kind_ == kind}

    def _put(self, id_: ObjectKey, body: dict[str, Any]) -> set[Key]:
        kind, namespace, name = id_
        if kind == LOCAL_MODEL.name:
            return self._put_model((namespace, name), body)
        if kind == VOLUME_CLAIM.name:
            new = (namespace, name) not in self._claims
            self._claims.add((namespace, name))
            return self._users_of_claim(namespace, name) if new else set()
        key = _owner(body)
        former = self._owners.get(id_, key)
        touched = {key} if former == key else {key} | self._drop(id_, former)
        self._owners[id_] = key
        if kind == POD.name:
            pod = summarize_pod(body)
            if self._pods[key].get(name) == pod:
                return set()
            self._pods[key][name] = pod
        elif kind in _CHILD_KINDS:
            self._children[key][(kind, name)] = pack(trim(kind, body))
        return touched

    def _remove(self, id_: ObjectKey, body: dict[str, Any]) -> set[Key]:
        kind, namespace, name = id_
        if kind == LOCAL_MODEL.name:
            return self._remove_model((namespace, name))
        if kind == VOLUME_CLAIM.name:
            self._claims.discard((namespace, name))
            return self._users_of_claim(namespace, name)
        return self._drop(id_, self._owners.pop(id_, _owner(body)))

    def _drop(self, id_: ObjectKey, key: Key) -> set[Key]:
        kind, _, name = id_
        table: dict[Key, dict[Any, Any]] = self._pods if kind == POD.name else self._children
        table.get(key, {}).pop(name if kind == POD.name else (kind, name), None)
        if not table.get(key):
            table.pop(key, None)
        return {key}

    def _put_model(self, key: Key, body: dict[str, Any]) -> set[Key]:
        touched = self._forget_names(key)
        namespace, name = key
        metadata, model = body["metadata"], body.get("spec", {}).get("model", {})
        served = tuple(model.get("servedNames") or (name,))
        if "deletionTimestamp" not in metadata:
            self._rivals[key] = Rival(name, metadata.get("uid", ""), metadata.get("creationTimestamp", ""), served)
            for each in served:
                self._served[(namespace, each)].add(name)
        if claim := (model.get("source", {}).get("pvc") or {}).get("claimName"):
            self._claim_of[key] = (namespace, claim)
            self._claim_users[(namespace, claim)].add(name)
        self._models[key] = pack(trim(LOCAL_MODEL.name, body))
        return touched | {key} | self._sharers(namespace, served)

    def _remove_model(self, key: Key) -> set[Key]:
        self._models.pop(key, None)
        return self._forget_names(key) | {key}

    def _forget_names(self, key: Key) -> set[Key]:
        """Keys of those who may be waiting for a name of this model."""
        namespace, name = key
        rival = self._rivals.pop(key, None)
        if claim := self._claim_of.pop(key, None):
            self._claim_users[claim].discard(name)
        if rival is None:
            return set()
        for served in rival.served_names:
            self._served[(namespace, served)].discard(name)
            if not self._served[(namespace, served)]:
                del self._served[(namespace, served)]
        return self._sharers(namespace, rival.served_names)

    def _sharers(self, namespace: str, served_names: Iterable[str]) -> set[Key]:
        return {(namespace, name) for served in served_names for name in self._served.get((namespace, served), ())}

    def _users_of_claim(self, namespace: str, claim: str) -> set[Key]:
        return {(namespace, name) for name in self._claim_users.get((namespace, claim), ())}


def _owner(body: dict[str, Any]) -> Key:
    metadata = body["metadata"]
    return metadata.get("namespace", ""), (metadata.get("labels") or {}).get(constants.LABEL_MODEL, "")


def _version(metadata: dict[str, Any]) -> int:
    return int(metadata.get("resourceVersion") or 0)
