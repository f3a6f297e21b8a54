"""``out=``: a result written into a tensor that the caller has."""
from __future__ import annotations

import warnings
from typing import Any

from gpugrad import dtypes
from gpugrad._state import listening, state
from gpugrad._tensor import Tensor, bump, check_memory

# Functions whose ``out`` must have the result's dtype; those with several results are so, too.
EXACT = frozenset(
    "abs absolute addmm all amax amin aminmax any argmax argmin bitwise_not bucketize ceil complex "
    "conj_physical cross cummax cummin diag dot float_power floor frac frexp heaviside histc inner "
    "isin isneginf isposinf kthvalue log_softmax logcumsumexp matmul median mm mode msort "
    "multinomial nan_to_num nanmedian nanquantile neg nonzero norm polar quantile round "
    "searchsorted sgn sign signbit softmax sort take_along_dim topk tril triu trunc".split())


def into(out: Any, result: Any, name: str) -> Any:
    """Write the result of function ``name``, a Tensor or a tuple of them, into ``out``.

    As in PyTorch: no gradients; ``out`` is resized, with a warning unless it is empty; its dtype
    stays, and must be one that the result's may become (float may not become an integer).
    """
    if isinstance(result, tuple):
        if not isinstance(out, tuple | list) or len(out) != len(result):
            raise TypeError(f"{name}(): argument 'out' must be tuple of {len(result)} Tensors, not "
                            f"{type(out).__name__}")
        for o, r in zip(out, result):
            _check_exact(o, r, name)
        return type(result)([into(o, r, name) for o, r in zip(out, result)])
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    if state.recording and (result.requires_grad or out.requires_grad):
        raise RuntimeError(f"{name}(): functions with out=... arguments don't support automatic "
                           "differentiation, but one of the arguments requires grad.")
    if out._be is not result._be:
        raise RuntimeError(f"Expected out tensor to have device {result.device}, but got "
                           f"{out.device} instead")
    if name in EXACT:
        _check_exact(out, result, name)
    if not dtypes.can_cast(result.dtype, out.dtype):
        raise RuntimeError(f"result type {dtypes.type_name(result._a.dtype)} can't be cast to the "
                           f"desired output type {dtypes.type_name(out._a.dtype)}")
    if out._a.shape != result._a.shape:
        resize(out, result._a.shape)
    check_memory(out)
    bump(out)
    out._a[...] = result._a
    if listening[0] is not None:
        listening[0].wrote(out._a, result._a)
    return out


def _check_exact(out: Any, result: Tensor, name: str) -> None:
    if isinstance(out, Tensor) and out.dtype is not result.dtype:
        raise RuntimeError(f"{name}(): Expected out tensor to have dtype {result.dtype.name}, but "
                           f"got {out.dtype.name} instead")


def resize(out: Tensor, shape: tuple[int, ...]) -> None:
    """Give ``out`` another shape, and new memory for it."""
    if out.numel():
        warnings.warn("An output with one or more elements was resized since it had shape "
                      f"{list(out._a.shape)}, which does not match the required output shape "
                      f"{list(shape)}: pass one of that shape, or an empty one.", stacklevel=4)
    out._a = out._be.empty(shape, out._a.dtype)
