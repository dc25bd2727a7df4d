"""Does a live object still say what we applied? Decides whether a write is needed, so that a steady cluster sees none.

Two questions: was the last thing applied what we want now (a hash in an annotation; it also catches fields that are no
longer wanted), and does every field we want still have our value (whoever changed it). What others added is theirs.
"""

import hashlib
import json
from typing import Any

from localmodel.api.constants import ANNOTATION_APPLIED_HASH

_LIST_KEYS = ("mountPath", "topologyKey", "uid", "name")
"""What identifies an item in the keyed lists of our children; the first one present counts."""

_WHOLE = (".selector", ".podSelector", ".matchLabels", ".nodeSelector")
"""Where one key more changes what is selected: a Service with an addition to its selector reaches no pod."""

_ABSENT_WHEN_FALSE = ".spec.paused"
"""Of a Deployment; the API server does not write it out."""


def digest(document: object, length: int = 16) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def stamp(desired: dict[str, Any]) -> dict[str, Any]:
    """A copy that carries the hash of itself."""
    metadata = desired["metadata"]
    annotations = {**metadata.get("annotations", {}), ANNOTATION_APPLIED_HASH: digest(desired)}
    return {**desired, "metadata": {**metadata, "annotations": annotations}}


def find_drift(desired: dict[str, Any], live: dict[str, Any] | None) -> str | None:
    """None if nothing is to be written; else why: `absent`, `changed` (by us), or the path of what somebody else changed."""
    if live is None:
        return "absent"
    wanted = desired["metadata"]["annotations"][ANNOTATION_APPLIED_HASH]
    if live.get("metadata", {}).get("annotations", {}).get(ANNOTATION_APPLIED_HASH) != wanted:
        return "changed"
    return _difference(desired, live, "")


def _difference(desired: Any, live: Any, path: str, *, whole: bool = False) -> str | None:
    """`whole`: nobody else may have added anything, here or below."""
    if isinstance(desired, dict):
        if not isinstance(live, dict):
            return path if desired or live is not None else None
        whole = whole or path.endswith(_WHOLE)
        if whole and set(live) - set(desired):
            return path
        pairs = ((each, live.get(key), f"{path}.{key}") for key, each in desired.items())
        return next((d for pair in pairs if (d := _difference(*pair, whole=whole))), None)
    if isinstance(desired, list):
        return _list_difference(desired, live, path)
    if desired in ("", None) and live in ("", None):
        return None
    if path == _ABSENT_WHEN_FALSE:
        live = bool(live)
    return None if desired == live and type(desired) is type(live) else path


def _list_difference(desired: list[Any], live: Any, path: str) -> str | None:
    if not isinstance(live, list):
        return path if desired or live is not None else None
    key = _key_of(desired)
    if key is None:
        if len(desired) != len(live):
            return path
        pairs = ((each, live[i], f"{path}[{i}]") for i, each in enumerate(desired))
        return next((d for pair in pairs if (d := _difference(*pair, whole=True))), None)
    present = {each.get(key): each for each in live if isinstance(each, dict)}
    return next((d for each in desired if (d := _difference(each, present.get(each[key]), f"{path}[{each[key]}]"))), None)


def _key_of(items: list[Any]) -> str | None:
    if not items or not all(isinstance(each, dict) for each in items):
        return None
    return next((key for key in _LIST_KEYS if all(key in each for each in items)), None)
