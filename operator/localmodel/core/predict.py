"""Triton's side of a Predict model: the configuration of its model `predict`, whose tensors are known only when the file is read.

So it is not a file of the revision like config.pbtxt: the engine tells the signature, and the gateway gives this with its
request to load. Pure.
"""

from typing import Any

from localmodel.api.constants import TRITON_PREDICT_NAME
from localmodel.api.predict import Signature, TensorSpec


def build_predict_config(signature: Signature, max_batch_size: int, delay_seconds: float) -> dict[str, Any]:
    """Triton's ModelConfig in its JSON form. Only a batched signature is batched by Triton."""
    config: dict[str, Any] = {
        "name": TRITON_PREDICT_NAME,
        "backend": "python",
        "max_batch_size": max_batch_size if signature.batched else 0,
        "input": [_build_tensor(each, batched=signature.batched) for each in signature.inputs],
        "output": [_build_tensor(each, batched=signature.batched) for each in signature.outputs],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
    }
    if signature.batched:
        config["dynamic_batching"] = {"max_queue_delay_microseconds": round(delay_seconds * 1_000_000)}
    return config


def _build_tensor(tensor: TensorSpec, *, batched: bool) -> dict[str, Any]:
    """Triton leaves the batch out of `dims`, which may not be empty."""
    entry: dict[str, Any] = {"name": tensor.name, "data_type": f"TYPE_{tensor.datatype}"}
    dims = list(tensor.shape[1:] if batched else tensor.shape)
    return {**entry, "dims": dims} if dims else {**entry, "dims": [1], "reshape": {"shape": []}}
