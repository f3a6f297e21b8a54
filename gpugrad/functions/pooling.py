"""Pooling of sequences, images and volumes: maxima, means, norms; and maxima put back."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd import casting
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions.windows import (
    check_floating,
    not_implemented,
    numbers,
    pool_arguments,
)


def max_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The maximum of every window of (n, c, l); with return_indices also where it was."""
    args = pool_arguments("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _flat_pool(_max_pool, input, args, ceil_mode, return_indices)


def max_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The maximum of every window of (n, c, h, w); stride is kernel_size if it is None.

    With return_indices also where each maximum was, counted within its h x w plane.
    """
    args = pool_arguments("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode)
    return _batched(_max_pool, input, 4, *args, ceil_mode, return_indices)


def max_pool1d_with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
                            dilation: Any = 1, ceil_mode: bool = False,
                            return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """max_pool1d with return_indices, whatever that says."""
    return max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
                            dilation: Any = 1, ceil_mode: bool = False,
                            return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """max_pool2d with return_indices, whatever that says."""
    return max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _max_pool(x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
              return_indices: bool) -> Any:
    if x._a.dtype.kind in "bc":
        raise not_implemented("max_pool2d", x)
    entry = T.max_pool2d_with_indices if return_indices else T.max_pool2d
    out = entry(x, kernel=kernel, stride=stride, padding=padding, dilation=dilation,
                ceil_mode=ceil_mode)
    return out if return_indices else out[0]


def avg_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True) -> Tensor:
    """The mean of every window of (n, c, l)."""
    args = pool_arguments("avg_pool1d", 1, input, kernel_size, stride, padding, 1, ceil_mode)
    return _flat_pool(_avg_pool, input, args, ceil_mode, count_include_pad, None)


def avg_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True,
               divisor_override: int | None = None) -> Tensor:
    """The mean of every window of (n, c, h, w); stride is kernel_size if it is None.

    count_include_pad: padded zeros count; divisor_override: divide by this instead of the count.
    """
    if divisor_override == 0:
        raise RuntimeError("divisor must be not zero")
    args = pool_arguments("avg_pool2d", 2, input, kernel_size, stride, padding, 1, ceil_mode)
    return _batched(_avg_pool, input, 4, *args, ceil_mode, count_include_pad, divisor_override)


def _avg_pool(x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
              count_include_pad: bool, divisor_override: int | None) -> Tensor:
    if x._a.dtype.name == "int64":               # cut to whole numbers
        return _avg_pool(x.double(), kernel, stride, padding, dilation, ceil_mode,
                         count_include_pad, divisor_override).long()
    check_floating("avg_pool2d", x)
    return T.avg_pool2d(x, kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode,
                        count_include_pad=count_include_pad, divisor_override=divisor_override)


def _batched(fn: Callable[..., Any], x: Tensor, ndim: int, *args: Any) -> Any:
    """fn(x, *args), with a batch of one around a sample that has no batch dim."""
    if x.ndim == ndim:
        return fn(x, *args)
    out = fn(x.unsqueeze(0), *args)
    return tuple([t.squeeze(0) for t in out]) if isinstance(out, tuple) else out.squeeze(0)


def _flat_pool(fn: Callable[..., Any], x: Tensor, args: Any, *more: Any) -> Any:
    """Pooling of sequences as pooling of images of one row."""
    kernel, stride, padding, dilation = args
    out = _batched(fn, x.unsqueeze(-2), 4, (1, *kernel), (1, *stride), (0, *padding),
                   (1, *dilation), *more)
    return tuple([t.squeeze(-2) for t in out]) if isinstance(out, tuple) else out.squeeze(-2)


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """The means of output_size windows that cover (n, c, l)."""
    (size,) = _adaptive_size("adaptive_avg_pool1d", 1, input, output_size)
    return _batched(_adaptive_avg_pool, input.unsqueeze(-2), 4, (1, size)).squeeze(-2)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The means of windows that cover (n, c, h, w); output_size is one number or two, or None."""
    if output_size in (1, (1, 1), [1, 1]):
        return input.mean((-2, -1), keepdim=True)
    size = _adaptive_size("adaptive_avg_pool2d", 2, input, output_size)
    return _batched(_adaptive_avg_pool, input, 4, size)


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of output_size windows that cover (n, c, l); also where, with return_indices."""
    (size,) = _adaptive_size("adaptive_max_pool1d", 1, input, output_size)
    out = _batched(_adaptive_max_pool, input.unsqueeze(-2), 4, (1, size))
    values, at = [t.squeeze(-2) for t in out]
    return (values, at) if return_indices else values


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of windows that cover (n, c, h, w); output_size is one number or two, or None.

    With return_indices also where each maximum was, counted within its h x w plane.
    """
    size = _adaptive_size("adaptive_max_pool2d", 2, input, output_size)
    values, at = _batched(_adaptive_max_pool, input, 4, size)
    return (values, at) if return_indices else values


def adaptive_max_pool1d_with_indices(input: Tensor, output_size: Any,
                                     return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """adaptive_max_pool1d with return_indices, whatever that says."""
    return adaptive_max_pool1d(input, output_size, True)


def adaptive_max_pool2d_with_indices(input: Tensor, output_size: Any,
                                     return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """adaptive_max_pool2d with return_indices, whatever that says."""
    return adaptive_max_pool2d(input, output_size, True)


def _adaptive_max_pool(x: Tensor, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    check_floating("adaptive_max_pool2d", x)
    if 0 in x.shape[1:]:
        raise RuntimeError("adaptive_max_pool2d(): Expected input to have non-zero size for "
                           f"non-batch dimensions, but input has sizes {list(x.shape)} with "
                           f"dimension {x.shape.index(0, 1)} being empty")
    return T.adaptive_max_pool2d(x, output_size=size)


def _adaptive_avg_pool(x: Tensor, size: tuple[int, ...]) -> Tensor:
    check_floating("adaptive_avg_pool2d", x)
    return T.adaptive_avg_pool2d(x, output_size=size)


def _adaptive_size(op: str, n: int, x: Tensor, size: Any) -> tuple[int, ...]:
    if isinstance(size, tuple | list) and x.ndim <= len(size):
        raise ValueError(f"Input dimension should be at least {len(size) + 1}")
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"{op}(): Expected {n + 1}D or {n + 2}D tensor, but got {list(x.shape)}")
    wanted = (size,) * n if size is None or isinstance(size, int) else tuple(size)
    if len(wanted) != n:
        raise RuntimeError(f"{op}: output_size must be {n}")
    sizes: tuple[int, ...] = tuple([have if want is None else want
                                    for want, have in zip(wanted, x.shape[-n:])])
    if min(sizes) < 0:
        raise RuntimeError(f"{op}: elements of output_size must be greater than or equal to 0 but "
                           f"received {{{', '.join(map(str, sizes))}}}")
    return sizes


# Volumes -----------------------------------------------------------------------------------------


def max_pool3d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               dilation: Any = 1, ceil_mode: bool = False, return_indices: bool = False) -> Any:
    """The maximum of every window of (n, c, d, h, w); as max_pool2d."""
    args = pool_arguments("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode)
    out = _batched(_max_pool3d, input, 5, *args, ceil_mode)
    return out if return_indices else out[0]


def max_pool3d_with_indices(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
                            dilation: Any = 1, ceil_mode: bool = False,
                            return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """max_pool3d with return_indices, whatever that says."""
    return max_pool3d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _max_pool3d(x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any,
                ceil_mode: bool) -> Any:
    if x._a.dtype.kind in "bc":
        raise not_implemented("max_pool3d", x)
    return T.max_pool3d_with_indices(x, kernel=kernel, stride=stride, padding=padding,
                                     dilation=dilation, ceil_mode=ceil_mode)


def avg_pool3d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
               ceil_mode: bool = False, count_include_pad: bool = True,
               divisor_override: int | None = None) -> Tensor:
    """The mean of every window of (n, c, d, h, w); as avg_pool2d."""
    if divisor_override == 0:
        raise RuntimeError("divisor must be not zero")
    args = pool_arguments("avg_pool3d", 3, input, kernel_size, stride, padding, 1, ceil_mode)
    return _batched(_avg_pool3d, input, 5, *args, ceil_mode, count_include_pad, divisor_override)


def _avg_pool3d(x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
                count_include_pad: bool, divisor_override: int | None) -> Tensor:
    if x._a.dtype.name == "int64":
        return _avg_pool3d(x.double(), kernel, stride, padding, dilation, ceil_mode,
                           count_include_pad, divisor_override).long()
    check_floating("avg_pool3d", x)
    return T.avg_pool3d(x, kernel=kernel, stride=stride, padding=padding, ceil_mode=ceil_mode,
                        count_include_pad=count_include_pad, divisor_override=divisor_override)


@casting.function
def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """The means of windows that cover (n, c, d, h, w); as adaptive_avg_pool2d."""
    if output_size in (1, (1, 1, 1), [1, 1, 1]):
        return input.mean((-3, -2, -1), keepdim=True)
    size = _adaptive_size("adaptive_avg_pool3d", 3, input, output_size)
    check_floating("adaptive_avg_pool3d", input)
    return _batched(lambda x: T.adaptive_avg_pool3d(x, output_size=size), input, 5)


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of windows that cover (n, c, d, h, w); as adaptive_max_pool2d."""
    size = _adaptive_size("adaptive_max_pool3d", 3, input, output_size)
    check_floating("adaptive_max_pool3d", input)
    if 0 in input.shape[-4:]:
        raise RuntimeError("adaptive_max_pool3d(): Expected input to have non-zero size for "
                           f"non-batch dimensions, but input has sizes {list(input.shape)}")
    values, at = _batched(lambda x: T.adaptive_max_pool3d(x, output_size=size), input, 5)
    return (values, at) if return_indices else values


def adaptive_max_pool3d_with_indices(input: Tensor, output_size: Any,
                                     return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """adaptive_max_pool3d with return_indices, whatever that says."""
    return adaptive_max_pool3d(input, output_size, True)


# Norms -------------------------------------------------------------------------------------------


def lp_pool1d(input: Tensor, norm_type: float, kernel_size: int, stride: Any = None,
              ceil_mode: bool = False) -> Tensor:
    """The norm_type-th root of the sum of norm_type-th powers, of every window of (n, c, l)."""
    return _lp_pool(max_pool1d, avg_pool1d, 1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None,
              ceil_mode: bool = False) -> Tensor:
    """lp_pool1d for windows of (n, c, h, w)."""
    return _lp_pool(max_pool2d, avg_pool2d, 2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None,
              ceil_mode: bool = False) -> Tensor:
    """lp_pool1d for windows of (n, c, d, h, w)."""
    return _lp_pool(max_pool3d, avg_pool3d, 3, input, norm_type, kernel_size, stride, ceil_mode)


def _lp_pool(largest: Any, mean: Any, n: int, x: Tensor, p: float, kernel: Any, stride: Any,
             ceil_mode: bool) -> Tensor:
    if p == math.inf:
        return largest(x.abs(), kernel, stride, 0, 1, ceil_mode)
    if p == -math.inf:
        return -largest(-x.abs(), kernel, stride, 0, 1, ceil_mode)
    out = mean(x.pow(p), kernel, stride, 0, ceil_mode)
    count = math.prod(numbers("kernel_size", kernel, n))
    return (out.sign() * out.abs().relu()).mul(count).pow(1.0 / p)


# Back to where maxima were -----------------------------------------------------------------------


def max_unpool1d(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None,
                 padding: Any = 0, output_size: Any = None) -> Tensor:
    """max_pool1d's maxima back at their places, among zeros."""
    return _unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None,
                 padding: Any = 0, output_size: Any = None) -> Tensor:
    """max_pool2d's maxima back at their places, among zeros; output_size tells ambiguous sizes."""
    return _unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None,
                 padding: Any = 0, output_size: Any = None) -> Tensor:
    """max_pool3d's maxima back at their places, among zeros."""
    return _unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


def _unpool(name: str, n: int, x: Tensor, at: Tensor, kernel: Any, stride: Any, padding: Any,
            output_size: Any) -> Tensor:
    check_floating(name, x)
    kernel = numbers("kernel_size", kernel, n)
    stride = kernel if stride is None else numbers("stride", stride, n)
    padding = numbers("padding", padding, n)
    size = _unpool_size(x, kernel, stride, padding, output_size)
    if at.dtype.name != "int64":
        raise RuntimeError(f"elements in indices should be type int64 but got: {at.dtype}")
    if x.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"Input to {name} should be a {n + 1}d or {n + 2}d Tensor, but got "
                           f"{list(x.shape)}")
    if at.shape != x.shape:
        raise RuntimeError("Expected shape of indices to be same as that of the input tensor "
                           f"({list(x.shape)}) but got indices tensor with shape: "
                           f"{list(at.shape)}")
    total = math.prod(size)
    if at.is_cpu and at.numel():                 # elsewhere the check would wait for the device
        bad = at[(at < 0) | (at >= total)]
        if bad.numel():
            raise RuntimeError(f"Found an invalid max index: {bad[0].item()} (output volumes are "
                               f"of size {'x'.join(map(str, size))})")
    lead = tuple(x.shape[:-n])
    planes = (1,) * (2 - len(lead)) + lead + (math.prod(x.shape[-n:]),)
    out = T.max_unpool(x.reshape(planes), at.reshape(planes), size=total)
    return out.view(*lead, *size)


def _unpool_size(x: Tensor, kernel: Any, stride: Any, padding: Any, output_size: Any) -> Any:
    n = len(kernel)
    usual = [(i - 1) * s + k - 2 * p
             for i, s, k, p in zip(x.shape[-n:], stride, kernel, padding)]
    if output_size is None:
        return tuple(usual)
    wanted = tuple(output_size)
    if len(wanted) == n + 2:
        wanted = wanted[2:]
    if len(wanted) != n:
        raise ValueError(f"output_size should be a sequence containing {n} or {n + 2} elements, "
                         f"but it has a length of '{len(wanted)}'")
    for d in range(n):
        low, high = usual[d] - stride[d], usual[d] + stride[d]
        if not low < wanted[d] < high:
            raise ValueError(f'invalid output_size "{output_size}" (dim {d} must be between {low} '
                             f"and {high})")
    return wanted
