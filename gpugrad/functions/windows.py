"""Arguments of convolution and pooling: numbers per dim, and errors about what doesn't fit."""
from __future__ import annotations

import functools
from typing import Any

from gpugrad._state import state
from gpugrad._tensor import Tensor
from gpugrad.dtypes import FLOATING, type_name
from gpugrad.ops.pool_windows import pooled_size

Shape = tuple[int, ...]


def numbers(name: str, value: Any, n: int) -> Shape:
    """One number for all of the n dims, or one for each, as a tuple of n."""
    if type(value) is tuple and len(value) == n:
        return value
    if hasattr(value, "__index__"):
        return (value.__index__(),) * n
    if isinstance(value, tuple | list):
        if len(value) == n:
            return tuple(value)
        if len(value) == 1:
            return (value[0],) * n
        raise RuntimeError(f"expected {name} to be a single integer value or a list of {n} values "
                           f"to match the convolution dimensions, but got {name}={list(value)}")
    raise TypeError(f"{name} must be an int or a tuple of {n} ints, not {type(value).__name__}")


def not_implemented(name: str, x: Tensor) -> NotImplementedError:
    """The error for a dtype that an operation doesn't take."""
    return NotImplementedError(f"\"{name}\" not implemented for '{type_name(x._a.dtype)}': convert "
                               "the input, as in x.float()")


def check_floating(name: str, x: Tensor) -> None:
    if x._a.dtype.kind not in FLOATING:
        raise not_implemented(name, x)


# Convolution -------------------------------------------------------------------------------------

def same_padding(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> list[tuple[int, int]]:
    """(before, after) for each dim, such that stride 1 keeps the size; an odd one goes after."""
    totals = [d * (k - 1) for k, d in zip(kernel, dilation)]
    return [(t // 2, t - t // 2) for t in totals]


def check_conv(n: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any,
               padding: Any, dilation: Any, groups: int) -> None:
    """Raise RuntimeError unless a batched input and a weight with n spatial dims fit together."""
    _check_types(input, weight, bias)
    _check_conv(n, input._a.shape, weight._a.shape, None if bias is None else bias._a.shape, stride,
                padding, dilation, groups)


def _check_types(input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    x = input._a
    for name, t in (("weight", weight), ("bias", bias)):
        if not isinstance(t, Tensor | None):
            raise TypeError(f"argument '{name}' must be Tensor, not {type(t).__name__}")
        if t is not None and (t._a.dtype != x.dtype or t._be is not input._be):
            if state.casting is not None:        # the op is going to convert them
                continue
            raise RuntimeError(f"Input type ({input.type()}) and {name} type ({t.type()}) should "
                               "be the same")


# A network asks with few sets of shapes, again and again.
@functools.lru_cache(maxsize=1024)
def _check_conv(n: int, x: Shape, w: Shape, bias: Shape | None, stride: Shape, padding: Shape,
                dilation: Shape, groups: int) -> None:
    _check_numbers(stride, padding, dilation, groups)
    if w[0] < groups:
        raise RuntimeError(f"Given groups={groups}, expected weight to be at least {groups} at "
                           f"dimension 0, but got weight of size {list(w)} instead")
    if w[0] % groups:
        raise RuntimeError(f"Given groups={groups}, expected weight to be divisible by {groups} at "
                           f"dimension 0, but got weight of size [{list(w)}] instead")
    if x[1] != w[1] * groups:
        raise RuntimeError(f"Given groups={groups}, weight of size {list(w)}, expected "
                           f"input{list(x)} to have {w[1] * groups} channels, but got {x[1]} "
                           "channels instead")
    if bias is not None and bias != (w[0],):
        raise RuntimeError(f"Given weight of size {list(w)}, expected bias to be 1-dimensional "
                           f"with {w[0]} elements, but got bias of size {list(bias)} instead")
    padded = [x[2 + i] + 2 * padding[i] for i in range(n)]
    reach = [dilation[i] * (w[2 + i] - 1) + 1 for i in range(n)]
    if any(k > s for k, s in zip(reach, padded)):
        raise RuntimeError(f"Calculated padded input size per channel: ({by(padded)}). Kernel "
                           f"size: ({by(reach)}). Kernel size can't be greater than actual input "
                           "size")


def _check_numbers(stride: Shape, padding: Shape, dilation: Shape, groups: int) -> None:
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    if min(stride) <= 0:
        raise RuntimeError("non-positive stride is not supported")
    if min(padding) < 0:
        raise RuntimeError("negative padding is not supported")
    if min(dilation) <= 0:
        raise RuntimeError(f"dilation should be greater than zero, but got {list(dilation)}")


def check_conv_transpose(n: int, input: Tensor, weight: Tensor, bias: Tensor | None, stride: Shape,
                         padding: Shape, output_padding: Shape, dilation: Shape,
                         groups: int) -> Shape:
    """check_conv for the transpose, whose weight is (c, out / groups, ...); the result's size."""
    _check_types(input, weight, bias)
    return _check_conv_transpose(n, input._a.shape, weight._a.shape,
                                 None if bias is None else bias._a.shape, stride, padding,
                                 output_padding, dilation, groups)


@functools.lru_cache(maxsize=1024)
def _check_conv_transpose(n: int, x: Shape, w: Shape, bias: Shape | None, stride: Shape,
                          padding: Shape, output_padding: Shape, dilation: Shape,
                          groups: int) -> Shape:
    _check_numbers(stride, padding, dilation, groups)
    if min(output_padding) < 0:
        raise RuntimeError("negative output_padding is not supported")
    if w[0] < groups or w[0] % groups:
        raise RuntimeError(f"Given groups={groups}, expected weight to be divisible by {groups} at "
                           f"dimension 0, but got weight of size [{list(w)}] instead")
    if x[1] != w[0]:
        raise RuntimeError(f"Given transposed=1, weight of size {list(w)}, expected "
                           f"input{list(x)} to have {w[0]} channels, but got {x[1]} channels "
                           "instead")
    if bias is not None and bias != (w[1] * groups,):
        raise RuntimeError(f"Given transposed=1, weight of size {list(w)}, expected bias to be "
                           f"1-dimensional with {w[1] * groups} elements, but got bias of size "
                           f"{list(bias)} instead")
    for p, s, d in zip(output_padding, stride, dilation):
        if p >= max(s, d):
            raise RuntimeError("output padding must be smaller than either stride or dilation, but "
                               f"got output_padding: {p} stride: {s} dilation: {d}")
        if p >= s:
            raise NotImplementedError(f"output_padding {p} is not supported for stride {s}, though "
                                      f"it is smaller than dilation {d}: pad the result")
    size = tuple([(i - 1) * s - 2 * p + d * (k - 1) + 1 + more for i, s, p, d, k, more in
                  zip(x[2:], stride, padding, dilation, w[2:], output_padding)])
    if min(size) <= 0 or 0 in x[1:]:
        raise RuntimeError(f"Given input size per channel: ({by(x[2:])}). Calculated output size "
                           f"per channel: ({by(size)}). Output size is too small")
    return size


def by(sizes: Any) -> str:
    """Sizes as error messages have them: 3 x 4."""
    return " x ".join(map(str, sizes))


# Pooling -----------------------------------------------------------------------------------------

_COUNTS = {1: "one int", 2: "two ints", 3: "three ints"}


def pool_numbers(op: str, name: str, value: Any, n: int) -> Shape:
    """As numbers(), with the text that pooling has."""
    if isinstance(value, tuple | list) and len(value) not in (1, n):
        omitted = "either be omitted," if name == "stride" else "either be"
        raise RuntimeError(f"{op}: {name} must {omitted} a single int, or a tuple of {_COUNTS[n]}")
    return numbers(name, value, n)


def pool_arguments(op: str, n: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any,
                   dilation: Any, ceil_mode: bool) -> tuple[Any, Any, Any, Any]:
    """Checked kernel, stride, padding and dilation, as tuples, for input with n spatial dims."""
    given = [tuple(v) if type(v) is list else v for v in (kernel_size, stride, padding, dilation)]
    return _pool_arguments(op, n, input._a.shape, *given, ceil_mode)


@functools.lru_cache(maxsize=1024)
def _pool_arguments(op: str, n: int, shape: Shape, kernel_size: Any, stride: Any, padding: Any,
                    dilation: Any, ceil_mode: bool) -> tuple[Shape, Shape, Shape, Shape]:
    kernel = pool_numbers(op, "kernel_size", kernel_size, n)
    stride = kernel if stride is None or stride == () else pool_numbers(op, "stride", stride, n)
    padding = pool_numbers(op, "padding", padding, n)
    dilation = pool_numbers(op, "dilation", dilation, n)
    if min(stride) == 0:
        raise RuntimeError("stride should not be zero")
    if min(kernel) <= 0:
        raise RuntimeError(f"{op}: kernel size should be greater than zero, but got {by(kernel)}")
    if min(stride) < 0:
        raise RuntimeError(f"{op}: stride should be greater than zero, but got {by(stride)}")
    if min(dilation) <= 0:
        raise RuntimeError(f"{op}: dilation should be greater than zero, but got {by(dilation)}")
    for k, p, d in zip(kernel, padding, dilation):
        if p < 0:
            raise RuntimeError(f"pad must be non-negative, but got pad: {p}")
        if p > (d * (k - 1) + 1) // 2:
            raise RuntimeError("pad should be at most half of effective kernel size, but got "
                               f"pad={p}, kernel_size={k} and dilation={d}")
    if len(shape) not in (n + 1, n + 2):
        raise RuntimeError(f"{op}: Expected {n + 1}D or {n + 2}D (batch mode) tensor, but got "
                           f"input of size: {list(shape)}")
    if 0 in shape[1:] or (len(shape) == n + 1 and 0 in shape):
        raise RuntimeError(f"Expected {n + 1}D or {n + 2}D (batch mode) tensor with optional 0 dim "
                           f"batch size for input, but got:{list(shape)}")
    out = [pooled_size(*sizes, ceil_mode)
           for sizes in zip(shape[-n:], kernel, stride, padding, dilation)]
    if min(out) < 1:
        c = shape[-n - 1]
        raise RuntimeError(f"Given input size: ({'x'.join(map(str, shape[-n - 1:]))}). Calculated "
                           f"output size: ({'x'.join(map(str, [c, *out]))}). Output size is too "
                           "small")
    return kernel, stride, padding, dilation
