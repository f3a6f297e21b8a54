"""Automatic mixed precision: which ops compute in which dtype while autocast is on.

The lists are PyTorch's, by the names of the ops here. An op that is in one of them asks, at its
entry, whether its thread has autocast on, and is then called again with its tensors converted; the
conversions are ops of the graph. Ops in no list take what they get.
"""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from gpugrad import dtypes
from gpugrad._state import count_off, off, state
from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors

# Products: in the low precision.
_PRODUCTS = frozenset("addbmm addmm baddbmm bmm mm convolution convolution_nd conv_transpose "
                      "attention lstm_layer linear_cross_entropy".split())
LOWER = {"cuda": _PRODUCTS | frozenset("addmv addr mv gru_layer rnn_layer prelu_kernel".split()),
         "cpu": _PRODUCTS | {"prelu_kernel"}}

# What needs range or many summands: in float32.
_LOSSES = ("mse_loss nll_loss nll_loss_rows nll_loss_images cross_entropy cross_entropy_rows "
           "cross_entropy_images smoothed_cross_entropy huber_loss smooth_l1_loss soft_margin_loss "
           "multi_margin_loss multilabel_margin_loss binary_cross_entropy_with_logits cdist prod "
           "prod_all")
FLOAT = {
    "cuda": frozenset((
        _LOSSES + " acos asin cosh cumprod cumsum erfinv exp expm1 group_norm layer_norm log log10 "
        "log1p log2 log_softmax pow pow_number reciprocal rpow_number rsqrt sinh softmax softplus "
        "sum sum_all tan vector_norm").split()),
    "cpu": frozenset((
        _LOSSES + " adaptive_avg_pool3d adaptive_max_pool3d avg_pool3d max_pool3d_with_indices "
        "max_unpool binary_cross_entropy ctc_loss sample polar trace cholesky eig eigh geqrf inv "
        "pinv qr svd slogdet det lu_factor solve solve_triangular matrix_exp fft_c2c fft_c2r "
        "fft_r2c pad_to").split())}

# Several operands that must agree: in the widest of their dtypes.
WIDEST = {
    "cuda": frozenset("addcdiv addcmul atan2 cross dot index_put scatter_add sample stack "
                      "vdot".split()) | {"cat"},
    "cpu": frozenset("cat index_copy stack".split())}

LISTED = frozenset().union(*LOWER.values(), *FLOAT.values(), *WIDEST.values())

# Functions of several ops, or that look at dtypes before their op does: in float32.
_COMPOSITES = ("l1_loss kl_div hinge_embedding_loss poisson_nll_loss margin_ranking_loss "
               "triplet_margin_loss cosine_embedding_loss soft_margin_loss")
FUNCTIONS = {
    "cuda": frozenset((_COMPOSITES + " cosine_similarity normalize norm dist pdist "
                       "renorm").split()),
    "cpu": frozenset((
        _COMPOSITES + " adaptive_avg_pool3d ctc_loss quantile nanquantile stft polar inverse "
        "pinverse cholesky cholesky_inverse cholesky_solve lu_solve orgqr ormqr qr svd eigh eig "
        "eigvals eigvalsh inv inv_ex pinv svdvals lstsq solve matrix_rank cond lu_factor lu "
        "tensorinv tensorsolve fft ifft fft2 ifft2 fftn ifftn rfft irfft rfft2 irfft2 rfftn irfftn "
        "hfft ihfft").split())}


class Casting:
    """What autocast does in one thread: the low dtype by kind of device, and the weights converted
    so far (None: they are not kept)."""

    __slots__ = ("cache", "lower")

    def __init__(self, lower: dict[str, Any], cache: dict[int, Any] | None) -> None:
        self.lower, self.cache = lower, cache

    def cast(self, x: Any, dtype: Any) -> Any:
        """A floating tensor in another dtype; a weight is converted once."""
        if not isinstance(x, Tensor):
            return x
        a = x._a
        if a.dtype == dtype or a.dtype not in dtypes.FLOATS or a.dtype.itemsize == 8:
            return x
        if self.cache is None or not (x.is_leaf and x.requires_grad) or x._view is not None:
            return tensors.to(x, dtype=dtype)
        kept = self.cache.get(id(x))
        if kept is None or kept[1]._a.dtype != dtype or kept[2] != x._ver[0] or \
                (kept[1]._edge is None) == state.recording:
            kept = self.cache[id(x)] = x, tensors.to(x, dtype=dtype), x._ver[0]
        return kept[1]

    def converted(self, name: str, ins: tuple[Any, ...]) -> tuple[Any, ...]:
        """The operands of op ``name`` as it wants them."""
        first = next((x for x in ins if isinstance(x, Tensor)), None)
        if first is None:
            return ins
        kind = first._be.device.type
        lower = self.lower.get(kind)
        if lower is None:
            return ins
        if name in LOWER[kind]:
            return tuple([self.cast(x, lower) for x in ins])
        if name in FLOAT[kind]:
            return tuple([self.cast(x, dtypes.float32.np) for x in ins])
        if name in WIDEST[kind]:
            found = {x._a.dtype for x in ins if isinstance(x, Tensor)
                     and x._a.dtype in dtypes.FLOATS}
            if len(found) > 1:
                widest = dtypes.float32.np if len({d.itemsize for d in found}) == 1 else \
                    max(found, key=lambda d: d.itemsize)
                return tuple([self.cast(x, widest) for x in ins])
        return ins


def call(name: str, entry: Any, ins: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """An entry of a listed op while autocast is on."""
    casting = state.casting
    state.casting = None                         # for the conversions, and the op itself
    try:
        return entry(*casting.converted(name, ins), **kw)
    finally:
        state.casting = casting


def function(fn: Callable[..., Any]) -> Callable[..., Any]:
    """fn as autocast wants it: itself unless its name is in FUNCTIONS."""
    name = getattr(fn, "__name__", "")
    kinds = [kind for kind, names in FUNCTIONS.items() if name in names]
    if not kinds:
        return fn

    @functools.wraps(fn)
    def run(*args: Any, **kw: Any) -> Any:
        casting = state.casting if off[0] else None
        if casting is None:
            return fn(*args, **kw)
        first = next((x for x in (*args, *kw.values()) if isinstance(x, Tensor)), None)
        if first is None or first._be.device.type not in kinds or \
                first._be.device.type not in casting.lower:
            return fn(*args, **kw)
        state.casting = None
        try:
            dtype = dtypes.float32.np
            return fn(*[casting.cast(x, dtype) for x in args],
                      **{name: casting.cast(x, dtype) for name, x in kw.items()})
        finally:
            state.casting = casting
    return run


def lowered(*xs: Any) -> tuple[Any, ...]:
    """Operands of a product in the low precision, if autocast is on for their device."""
    casting = state.casting
    if casting is None:
        return xs
    state.casting = None
    try:
        result: tuple[Any, ...] = casting.converted("mm", xs)
        return result
    finally:
        state.casting = casting


def put(casting: Casting | None) -> Casting | None:
    """Set this thread's casting; returns what it was."""
    before = state.casting
    if (before is None) != (casting is None):
        count_off(1 if casting is not None else -1)
    state.casting = casting
    return before
