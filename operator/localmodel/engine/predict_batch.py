"""One step of a Predict model: requests that Triton put together, computed at once, and each given its own rows.

Why it exists: a value that one client sends (an index out of range) may break the whole step, and only that client is to hear
of it. Arrays in, arrays or exceptions out; it knows neither Triton nor files.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from localmodel.api.predict import Signature
from localmodel.engine.errors import SignatureMismatch
from localmodel.engine.predict_trial import Run, check_outputs

Arrays = list[NDArray[np.generic]]


class DeviceFailed(Exception):
    """The device computes nothing any more: the process has to end."""


def compute(run: Run, signature: Signature, device: torch.device, requests: Sequence[Arrays]) -> list[Arrays | Exception]:
    """For each request its outputs, in the signature's order, or why there are none."""
    if not signature.batched:
        return [_alone(run, signature, device, request) for request in requests]
    if len(requests) == 1:
        return [_alone(run, signature, device, requests[0])]
    try:
        inputs = [np.concatenate(arrays) for arrays in zip(*requests, strict=True)]
        outputs = _run(run, signature, device, inputs)
    except DeviceFailed as error:
        return [error] * len(requests)
    except Exception:  # somebody's rows are to blame: each is computed alone
        return [_alone(run, signature, device, request) for request in requests]
    ends = np.cumsum([len(request[0]) for request in requests])[:-1]
    return list(map(list, zip(*(np.split(output, ends) for output in outputs), strict=True)))


def _alone(run: Run, signature: Signature, device: torch.device, request: Arrays) -> Arrays | Exception:
    try:
        return _run(run, signature, device, request)
    except Exception as error:  # whatever a network of a user's raises
        return error


def _run(run: Run, signature: Signature, device: torch.device, inputs: Arrays) -> Arrays:
    try:
        with torch.inference_mode():
            outputs = run([torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device) for array in inputs])
            try:
                check_outputs(outputs, signature, rows=len(inputs[0]))
            except SignatureMismatch as error:
                raise ValueError(str(error)) from None
            return [output.detach().cpu().contiguous().numpy() for output in outputs]
    except RuntimeError as error:
        if device.type == "cuda" and not isinstance(error, torch.OutOfMemoryError) and "CUDA error" in str(error):
            raise DeviceFailed(str(error).partition("\n")[0]) from error
        raise
