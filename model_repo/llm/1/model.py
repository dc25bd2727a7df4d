"""The shim that Triton loads; the engine is localmodel.engine.triton.

Why it extends sys.path: Triton's stub runs Python isolated, so PYTHONPATH is ignored. In an image the packages lie where
that Python looks and LOCALMODEL_PYTHONPATH is not set; from a virtual environment it names the folders.
"""

import os
import sys

sys.path[:0] = [folder for folder in os.environ.get("LOCALMODEL_PYTHONPATH", "").split(os.pathsep) if folder]
if os.environ.pop("LOCALMODEL_CARDS_HIDDEN", ""):  # from tritonserver, which would take half a GiB of each
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)

from localmodel.engine.triton import TritonPythonModel  # noqa: E402

__all__ = ["TritonPythonModel"]
