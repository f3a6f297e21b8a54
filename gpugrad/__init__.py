"""gpugrad: PyTorch's API on NumPy, and on CuPy with CUDA kernels of its own.

    import gpugrad as torch
"""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gpugrad import _blas_threads as _blas_threads  # before NumPy is imported
from gpugrad import autograd as autograd
from gpugrad import dtypes as _dtypes
from gpugrad import methods as _methods
from gpugrad import ops as ops
from gpugrad._printing import set_printoptions as set_printoptions
from gpugrad._tensor import Size as Size
from gpugrad._tensor import Tensor as Tensor
from gpugrad._tensor import is_tensor as is_tensor
from gpugrad.autograd.grad_mode import enable_grad as enable_grad
from gpugrad.autograd.grad_mode import inference_mode as inference_mode
from gpugrad.autograd.grad_mode import is_grad_enabled as is_grad_enabled
from gpugrad.autograd.grad_mode import is_inference_mode_enabled as is_inference_mode_enabled
from gpugrad.autograd.grad_mode import no_grad as no_grad
from gpugrad.autograd.grad_mode import set_grad_enabled as set_grad_enabled
from gpugrad.backend.precision import (
    get_float32_matmul_precision as get_float32_matmul_precision,
)
from gpugrad.backend.precision import (
    set_float32_matmul_precision as set_float32_matmul_precision,
)
from gpugrad.creation import arange as arange
from gpugrad.creation import as_tensor as as_tensor
from gpugrad.creation import asarray as asarray
from gpugrad.creation import empty as empty
from gpugrad.creation import empty_like as empty_like
from gpugrad.creation import empty_permuted as empty_permuted
from gpugrad.creation import empty_strided as empty_strided
from gpugrad.creation import eye as eye
from gpugrad.creation import from_file as from_file
from gpugrad.creation import from_numpy as from_numpy
from gpugrad.creation import frombuffer as frombuffer
from gpugrad.creation import full as full
from gpugrad.creation import full_like as full_like
from gpugrad.creation import linspace as linspace
from gpugrad.creation import logspace as logspace
from gpugrad.creation import ones as ones
from gpugrad.creation import ones_like as ones_like
from gpugrad.creation import range as range
from gpugrad.creation import scalar_tensor as scalar_tensor
from gpugrad.creation import tensor as tensor
from gpugrad.creation import tril_indices as tril_indices
from gpugrad.creation import triu_indices as triu_indices
from gpugrad.creation import zeros as zeros
from gpugrad.creation import zeros_like as zeros_like
from gpugrad.device import device as device
from gpugrad.device import get_default_device as get_default_device
from gpugrad.device import set_default_device as set_default_device
from gpugrad.dtypes import bfloat16 as bfloat16
from gpugrad.dtypes import bool as bool
from gpugrad.dtypes import cdouble as cdouble
from gpugrad.dtypes import cfloat as cfloat
from gpugrad.dtypes import complex64 as complex64
from gpugrad.dtypes import complex128 as complex128
from gpugrad.dtypes import double as double
from gpugrad.dtypes import dtype as dtype
from gpugrad.dtypes import finfo as finfo
from gpugrad.dtypes import float as float
from gpugrad.dtypes import float16 as float16
from gpugrad.dtypes import float32 as float32
from gpugrad.dtypes import float64 as float64
from gpugrad.dtypes import get_default_dtype as get_default_dtype
from gpugrad.dtypes import half as half
from gpugrad.dtypes import iinfo as iinfo
from gpugrad.dtypes import int as int
from gpugrad.dtypes import int8 as int8
from gpugrad.dtypes import int16 as int16
from gpugrad.dtypes import int32 as int32
from gpugrad.dtypes import int64 as int64
from gpugrad.dtypes import long as long
from gpugrad.dtypes import set_default_dtype as set_default_dtype
from gpugrad.dtypes import short as short
from gpugrad.dtypes import uint8 as uint8
from gpugrad.dtypes import uint16 as uint16
from gpugrad.dtypes import uint32 as uint32
from gpugrad.dtypes import uint64 as uint64
from gpugrad.layouts import channels_last as channels_last
from gpugrad.layouts import channels_last_3d as channels_last_3d
from gpugrad.layouts import contiguous_format as contiguous_format
from gpugrad.layouts import layout as layout
from gpugrad.layouts import memory_format as memory_format
from gpugrad.layouts import preserve_format as preserve_format
from gpugrad.layouts import strided as strided

__version__ = "0.1.0.dev0"

inf, nan, pi, e = _dtypes.INF, _dtypes.NAN, _dtypes.PI, _dtypes.E
newaxis = None

# Imported when first used: a program that needs none of them starts faster.
_LAZY = ("nn", "optim", "amp", "utils", "cuda", "backends", "serialization", "special", "linalg",
         "fft", "func", "random", "storage", "cpu", "settings", "distributions",
         "_C", "__config__", "_dynamo", "_jit_internal", "accelerator", "ao", "compiler",
         "distributed", "fx", "hub", "jit", "library", "multiprocessing", "onnx", "overrides",
         "profiler", "quantization", "recording", "sparse", "testing", "types", "version",
         "vision")
# Names of this namespace that stand in such a module.
_ELSEWHERE = {name: module for module, names in {
    "_C": "PyTorchFileReader PyTorchFileWriter SymBool SymFloat SymInt",
    "dtypes":
        "chalf complex32 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu",
    "futures": "Future",
    "jit": "ScriptFunction ScriptModule",
    "amp": "autocast GradScaler",
    "amp.autocast_mode":
        "clear_autocast_cache get_autocast_cpu_dtype get_autocast_dtype get_autocast_gpu_dtype "
        "is_autocast_cache_enabled is_autocast_cpu_enabled is_autocast_enabled "
        "set_autocast_cache_enabled set_autocast_cpu_dtype set_autocast_cpu_enabled "
        "set_autocast_dtype set_autocast_enabled set_autocast_gpu_dtype",
    "autograd.anomaly_mode":
        "is_anomaly_check_nan_enabled is_anomaly_enabled set_anomaly_enabled",
    "assertions":
        "_assert _check _check_index _check_is_size _check_not_implemented _check_tensor_all "
        "_check_type _check_value _check_with",
    "compiler": "compile",
    "func": "vmap",
    "recording": "graph_step",
    "serialization": "load save",
    "storage": "TypedStorage UntypedStorage",
    "utils.summary": "summary",
}.items() for name in names.split()}

if TYPE_CHECKING:
    from gpugrad import amp as amp
    from gpugrad import backends as backends
    from gpugrad import cuda as cuda
    from gpugrad import distributions as distributions
    from gpugrad import fft as fft
    from gpugrad import func as func
    from gpugrad import linalg as linalg
    from gpugrad import nn as nn
    from gpugrad import optim as optim
    from gpugrad import serialization as serialization
    from gpugrad import special as special
    from gpugrad import utils as utils
    from gpugrad.amp import GradScaler as GradScaler
    from gpugrad.amp import autocast as autocast
    from gpugrad.func import vmap as vmap
    from gpugrad.random import Generator as Generator
    from gpugrad.random import default_generator as default_generator
    from gpugrad.random import get_rng_state as get_rng_state
    from gpugrad.random import initial_seed as initial_seed
    from gpugrad.random import manual_seed as manual_seed
    from gpugrad.random import seed as seed
    from gpugrad.random import set_rng_state as set_rng_state
    from gpugrad.recording import graph_step as graph_step
    from gpugrad.sampling import bernoulli as bernoulli
    from gpugrad.sampling import binomial as binomial
    from gpugrad.sampling import multinomial as multinomial
    from gpugrad.sampling import normal as normal
    from gpugrad.sampling import poisson as poisson
    from gpugrad.sampling import rand as rand
    from gpugrad.sampling import rand_like as rand_like
    from gpugrad.sampling import randint as randint
    from gpugrad.sampling import randint_like as randint_like
    from gpugrad.sampling import randn as randn
    from gpugrad.sampling import randn_like as randn_like
    from gpugrad.sampling import randperm as randperm
    from gpugrad.serialization import load as load
    from gpugrad.serialization import save as save
    from gpugrad.utils.summary import summary as summary

    def __getattr__(name: str) -> Any: ...
else:
    def __getattr__(name: str) -> Any:
        function = _methods.function(name)
        if function is not None:
            globals()[name] = function
            return function
        if name in _LAZY:
            return import_module("gpugrad." + name)
        if name.endswith("Tensor"):
            from gpugrad.tensor_types import CPU_TYPES
            if name in CPU_TYPES:
                return CPU_TYPES[name]
        if name.startswith("_foreach_"):
            from gpugrad.functions import foreach
            function = foreach.function(name)
            if function is not None:
                return function
        if name in _ELSEWHERE:
            return getattr(import_module("gpugrad." + _ELSEWHERE[name]), name)
        if name == "__all__":                    # for ``from gpugrad import *``
            return [word for word in __dir__() if not word.startswith("_")]
        raise AttributeError(f"module 'gpugrad' has no attribute '{name}'"
                             + _methods.why_not(name))

    def __dir__() -> list[str]:
        from gpugrad.tensor_types import CPU_TYPES
        return sorted({*globals(), *CPU_TYPES, *_methods.FUNCTIONS, *_methods.TORCH_ONLY, *_LAZY,
                       *_ELSEWHERE})
