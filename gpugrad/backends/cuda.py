"""torch.backends.cuda: how CUDA multiplies matrices."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from gpugrad.backend import precision
from gpugrad.functions.attention import enabled as _attention

_SETTINGS = precision.matmul
_FP32 = ("none", "ieee", "tf32")


def is_built() -> bool:
    """True: gpugrad's CUDA code is always there. Whether there is a device says torch.cuda."""
    return True


class _Matmul:
    """torch.backends.cuda.matmul.

    allow_tf32: whether products of float32 may use TF32, and fp32_precision: the same as "tf32" or
    "ieee". allow_fp16_reduced_precision_reduction and allow_bf16_reduced_precision_reduction:
    whether cuBLAS may add the parts of a long sum in 16 bits; each part is summed in float32 in any
    case. allow_fp16_accumulation: False.
    """

    @property
    def allow_tf32(self) -> bool:
        return _SETTINGS.tf32

    @allow_tf32.setter
    def allow_tf32(self, on: bool) -> None:
        precision.allow_tf32(on)

    @property
    def fp32_precision(self) -> str:
        return "tf32" if _SETTINGS.tf32 else "ieee" if _SETTINGS.chosen else "none"

    @fp32_precision.setter
    def fp32_precision(self, value: str) -> None:
        if value not in _FP32:
            raise RuntimeError(f"Invalid precision: {value!r}; expected one of {_FP32}")
        precision.allow_tf32(value == "tf32")
        _SETTINGS.chosen = value != "none"

    @property
    def allow_fp16_reduced_precision_reduction(self) -> bool:
        return _SETTINGS.half_reduction

    @allow_fp16_reduced_precision_reduction.setter
    def allow_fp16_reduced_precision_reduction(self, on: Any) -> None:
        _SETTINGS.half_reduction = _reduction("allow_fp16_reduced_precision_reduction", on)

    @property
    def allow_bf16_reduced_precision_reduction(self) -> bool:
        return _SETTINGS.bfloat16_reduction

    @allow_bf16_reduced_precision_reduction.setter
    def allow_bf16_reduced_precision_reduction(self, on: Any) -> None:
        _SETTINGS.bfloat16_reduction = _reduction("allow_bf16_reduced_precision_reduction", on)

    @property
    def allow_fp16_accumulation(self) -> bool:
        return False

    @allow_fp16_accumulation.setter
    def allow_fp16_accumulation(self, on: bool) -> None:
        if on:
            raise NotImplementedError("allow_fp16_accumulation=True is not supported: float16 is "
                                      "always summed in float32")

    def __getattr__(self, name: str) -> Any:
        raise AttributeError("Unknown attribute " + name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(getattr(type(self), name, None), property):
            raise AttributeError("Unknown attribute " + name)
        object.__setattr__(self, name, value)


def _reduction(name: str, value: Any) -> bool:
    """A bool, or a sequence of one or two of which the first counts: splitting a sum stays allowed.
    """
    parts = value if isinstance(value, list | tuple) else [value]
    if isinstance(value, list | tuple) and not 1 <= len(parts) <= 2:
        raise TypeError(f"{name} expects one or two boolean arguments, not {len(parts)}")
    for part in parts:
        if not isinstance(part, bool):
            raise TypeError(f"{name} expects a bool or a tuple/list of bools, but got "
                            f"{type(value)!r}")
    return bool(parts[0])


matmul = _Matmul()


# Scaled dot product attention: the switches of PyTorch's backends, for which gpugrad has one text.
# With "math" and all others turned off, calls raise as PyTorch's do.


def enable_flash_sdp(enabled: bool) -> None:
    """Whether that backend may be taken."""
    _attention["flash"] = bool(enabled)


def flash_sdp_enabled() -> bool:
    """What enable_flash_sdp was given."""
    return _attention["flash"]


def enable_mem_efficient_sdp(enabled: bool) -> None:
    """Whether that backend may be taken."""
    _attention["mem_efficient"] = bool(enabled)


def mem_efficient_sdp_enabled() -> bool:
    """What enable_mem_efficient_sdp was given."""
    return _attention["mem_efficient"]


def enable_math_sdp(enabled: bool) -> None:
    """Whether that backend may be taken."""
    _attention["math"] = bool(enabled)


def math_sdp_enabled() -> bool:
    """What enable_math_sdp was given."""
    return _attention["math"]


def enable_cudnn_sdp(enabled: bool) -> None:
    """Whether that backend may be taken."""
    _attention["cudnn"] = bool(enabled)


def cudnn_sdp_enabled() -> bool:
    """What enable_cudnn_sdp was given."""
    return _attention["cudnn"]


@contextlib.contextmanager
def sdp_kernel(enable_flash: bool = True, enable_math: bool = True,
               enable_mem_efficient: bool = True, enable_cudnn: bool = True) -> Iterator[None]:
    """The switches inside the block; the older form of torch.nn.attention.sdpa_kernel."""
    before = dict(_attention)
    _attention.update(flash=enable_flash, math=enable_math, mem_efficient=enable_mem_efficient,
                      cudnn=enable_cudnn)
    try:
        yield
    finally:
        _attention.update(before)


def is_flash_attention_available() -> bool:
    """False: gpugrad's attention is its own."""
    return False


def can_use_flash_attention(params: Any, debug: bool = False) -> bool:
    """False: see is_flash_attention_available."""
    return False


can_use_efficient_attention = can_use_cudnn_attention = can_use_flash_attention


_preferred = {"linalg": "default", "blas": "cublas"}


def preferred_linalg_library(backend: str | None = None) -> str:
    """Remembered, without effect: CuPy's is used."""
    return _prefer("linalg", backend, ("default", "cusolver", "magma"))


def preferred_blas_library(backend: str | None = None) -> str:
    """Remembered, without effect: cuBLAS is used."""
    return _prefer("blas", backend, ("default", "cublas", "cublaslt", "hipblaslt", "ck"))


def _prefer(kind: str, wanted: str | None, known: tuple[str, ...]) -> str:
    if wanted is not None:
        if not isinstance(wanted, str) or wanted not in known:
            raise RuntimeError(f"Unknown input value {wanted!r}. Choose from: {', '.join(known)}.")
        _preferred[kind] = wanted
    return _preferred[kind]
