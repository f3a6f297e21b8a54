"""torch.utils.cpp_extension: C++ extensions of PyTorch can't be built or loaded; it says so."""
from __future__ import annotations

from gpugrad.absent import functions

CUDA_HOME: str | None = None
ROCM_HOME: str | None = None


globals().update(functions(
    "torch.utils.cpp_extension",
    "BuildExtension CppExtension CUDAExtension include_paths load load_inline",
    "extensions are made for PyTorch's binaries. Write the operation in Python with "
    "autograd.Function, on CUDA with CuPy's RawKernel"))


def is_ninja_available() -> bool:
    """False: nothing is built."""
    return False
