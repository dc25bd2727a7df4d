"""What `/v1/models` answers. Pure."""

import json
from typing import Any


def _model(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "localmodel"}


def model_document(name: str, created: int) -> bytes:
    return json.dumps(_model(name, created)).encode()


def models_document(names: tuple[str, ...], created: int) -> bytes:
    return json.dumps({"object": "list", "data": [_model(name, created) for name in names]}).encode()
