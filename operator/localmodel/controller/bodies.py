"""How an object is kept in memory: without what nobody here reads, and packed, since a thousand models have thousands of them."""

import json
import zlib
from typing import Any

from localmodel.core.kinds import DEPLOYMENT, LOCAL_MODEL


def trim(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    kept = {name: value for name, value in body.items() if name != "status" or kind in (LOCAL_MODEL.name, DEPLOYMENT.name)}
    return {**kept, "metadata": metadata}


def pack(body: dict[str, Any]) -> bytes:
    return zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 1)


def unpack(packed: bytes) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(zlib.decompress(packed))
    return body
