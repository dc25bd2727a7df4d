"""A model that checks torch against numpy in the interpreter that Triton's stub starts, and echoes its input.

With a torch for cards it also compiles what a first start there compiles, which needs no card: a kernel, and a C module against
Python's headers and CUDA's, as the kernel's launcher is.
"""

import numpy as np
import safetensors.torch  # noqa: F401
import tokenizers  # noqa: F401
import torch
import torch.nn.functional as F
import triton_python_backend_utils as pb_utils

from localmodel.engine import cpu_kernels


def check_torch() -> None:
    numbers = np.random.default_rng(0)
    query, key, value = (numbers.standard_normal((5, 64), dtype=np.float32) for _ in range(3))
    scores = np.exp(query @ key.T / 8)
    expected = scores / scores.sum(axis=1, keepdims=True) @ value
    tensors = [torch.from_numpy(array) for array in (query, key, value)]
    np.testing.assert_allclose(F.scaled_dot_product_attention(*tensors).numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose((tensors[0] @ tensors[1].T).numpy(), query @ key.T, rtol=1e-4, atol=1e-5)
    half = F.linear(tensors[0].bfloat16(), tensors[1].bfloat16()).float().numpy()
    np.testing.assert_allclose(half, query @ key.T, rtol=0.05, atol=0.2)
    assert torch.equal(F.embedding(torch.tensor([3, 1]), tensors[2]), tensors[2][[3, 1]])
    assert cpu_kernels.built()
    if torch.version.cuda is None:
        assert not torch.cuda.is_available()
    else:
        check_compilers()


LAUNCHER = """
#include <Python.h>
#include <cuda.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "probe_launcher", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_probe_launcher(void) { return PyModule_Create(&module); }
"""


def check_compilers() -> None:
    from probe_kernel import double
    from triton.backends.compiler import GPUTarget
    from triton.backends.nvidia.driver import include_dirs
    from triton.compiler import ASTSource
    from triton.runtime.build import compile_module_from_src

    from triton import compile

    made = compile(ASTSource(double, {"numbers": "*fp32"}), target=GPUTarget("cuda", 90, 32))
    assert made.asm["cubin"].startswith(b"\x7fELF")
    assert compile_module_from_src(LAUNCHER, "probe_launcher", include_dirs=include_dirs).__name__ == "probe_launcher"


class TritonPythonModel:
    def initialize(self, _arguments: dict[str, str]) -> None:
        check_torch()

    def execute(self, requests: list) -> list:
        texts = [pb_utils.get_input_tensor_by_name(request, "text").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("text", text)]) for text in texts]
