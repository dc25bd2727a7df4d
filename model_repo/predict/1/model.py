"""The shim that Triton loads for the tensors of a Predict model; its configuration comes with the request to load it.

Why it extends sys.path: see the shim of llm, whose model.json this model reads too.
"""

import os
import sys

sys.path[:0] = [folder for folder in os.environ.get("LOCALMODEL_PYTHONPATH", "").split(os.pathsep) if folder]
if os.environ.pop("LOCALMODEL_CARDS_HIDDEN", ""):  # from tritonserver, which would take half a GiB of each
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)

from localmodel.engine.triton import PredictPythonModel as TritonPythonModel  # noqa: E402

__all__ = ["TritonPythonModel"]
