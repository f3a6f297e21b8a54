"""Which way a convolution goes on CUDA: by a rule on its shape and dtype, or by a trial of all.

The ways are modules, or the like, with functions ``takes``, ``forward``, ``grad_input`` and
``grad_weight``. Each gives the same numbers but for the order of its sums, none adds atomically.

depthwise: kernels for groups of one input channel. direct: kernels for few channels. implicit: on
tensor cores, for 16 bits and, where TF32 is allowed, float32. columns: a product of matrices, of
what im2col lays out, or of the images themselves under a kernel of 1 x 1; it takes everything.
cudnn: only where it is installed and has won a trial.
Images and weights are read in either memory format. As in PyTorch the result has its channels last
if x or w has, save in float64.
"""
from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gpugrad.backend.columns import out_hw
from gpugrad.backend.precision import convolution as settings
from gpugrad.backend.precision import products_of
from gpugrad.dtypes import HALF
from gpugrad.layouts import is_last
from gpugrad.ops import conv_cudnn, conv_direct, conv_implicit, conv_rows, conv_ways, depthwise
from gpugrad.ops.bias import add_bias

FLOAT, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
# Multiplications from which on tensor cores pay, and TF32 is worth its lost digits.
MANY = 1 << 24
TRIALS = 3                      # runs that are timed, after one that compiles


class Case(NamedTuple):
    """A convolution: all that its way may depend on.

    last: whether images have their channels last in memory.
    """
    x_shape: tuple[int, ...]
    w_shape: tuple[int, ...]
    y_shape: tuple[int, ...]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    dtype: Any
    last: bool

    @property
    def where(self) -> tuple[Any, ...]:
        """What conv_ways' functions take after shapes."""
        return self.stride, self.padding, self.dilation, self.groups


class Columns:
    """A product of matrices: conv_rows if channels come last, else conv_ways."""

    @staticmethod
    def takes(be: Any, kind: str, case: Case) -> bool:
        return True

    @staticmethod
    def forward(be: Any, x: Any, w: Any, bias: Any, case: Case) -> Any:
        if case.last:
            return conv_rows.forward(be, x, w, bias, case)
        out = conv_ways.forward_by_columns(be, x, w, None, *case.where)
        return out if bias is None else add_bias(be, out, bias)

    @staticmethod
    def grad_input(be: Any, g: Any, w: Any, case: Case) -> Any:
        if case.last:
            return conv_rows.grad_input(be, g, w, case)
        return conv_ways.grad_input_by_columns(be, g, w, case.x_shape, *case.where)

    @staticmethod
    def grad_weight(be: Any, g: Any, x: Any, case: Case) -> Any:
        # Image by image there is a product for each, to be summed: it may take more memory than the
        # images with their channels last.
        small = len(x) * math.prod(case.w_shape) <= x.size + g.size
        if case.last or (be.takes(case.dtype) and not (small or 0 in x.shape + g.shape)):
            return conv_rows.grad_weight(be, g, x, case)
        return conv_ways.grad_weight_by_columns(be, g, x, case.w_shape, *case.where)


class Implicit:
    """A product of matrices on tensor cores that makes its columns as it goes."""

    @staticmethod
    def takes(be: Any, kind: str, case: Case) -> bool:
        return conv_implicit.takes(be, case.dtype, case.x_shape, case.w_shape, *case.where)

    @staticmethod
    def forward(be: Any, x: Any, w: Any, bias: Any, case: Case) -> Any:
        return conv_implicit.forward(be, x, w, bias, *case.where)

    @staticmethod
    def grad_input(be: Any, g: Any, w: Any, case: Case) -> Any:
        return conv_implicit.grad_input(be, g, w, case.x_shape, *case.where)

    @staticmethod
    def grad_weight(be: Any, g: Any, x: Any, case: Case) -> Any:
        return conv_implicit.grad_weight(be, g, x, case.w_shape, *case.where)


WAYS: dict[str, Any] = {"depthwise": depthwise, "direct": conv_direct, "implicit": Implicit,
                        "columns": Columns, "cudnn": conv_cudnn}
forced: list[str] = [""]        # a way that all convolutions must go: for tests
_timed: dict[Any, str] = {}     # the fastest, by device, kind, case and setting


def forward(be: Any, x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
            groups: int) -> Any:
    """convolution on a GPU."""
    hw = out_hw(x.shape, w.shape[2:], stride, padding, dilation)
    at = Case(x.shape, w.shape, (len(x), len(w), *hw), stride, padding, dilation, groups, x.dtype,
              comes_last(be, x, w))
    return run(be, "forward", at, x, w, bias)


def grad_input(be: Any, g: Any, w: Any, x_shape: Any, stride: Any, padding: Any, dilation: Any,
               groups: int) -> Any:
    """conv_grad_input on a GPU."""
    at = Case(x_shape, w.shape, g.shape, stride, padding, dilation, groups, g.dtype,
              comes_last(be, g, w))
    return run(be, "grad_input", at, g, w)


def grad_weight(be: Any, g: Any, x: Any, w_shape: Any, stride: Any, padding: Any, dilation: Any,
                groups: int) -> Any:
    """conv_grad_weight on a GPU."""
    at = Case(x.shape, w_shape, g.shape, stride, padding, dilation, groups, g.dtype,
              comes_last(be, x, g))
    return run(be, "grad_weight", at, g, x)


def comes_last(be: Any, a: Any, b: Any) -> bool:
    """Is the result to have its channels last?"""
    return bool(a.dtype != DOUBLE and a.size and be.takes(a.dtype) and (is_last(a) or is_last(b)))


def run(be: Any, kind: str, case: Case, *arrays: Any) -> Any:
    """One of the three, by its way."""
    name, tf32 = decided(be, kind, case, settings.allow_tf32, be.kernels.on)
    if settings.benchmark:
        name = tried(be, kind, case, tf32, arrays, name)
    way = WAYS[forced[0] or name]
    if forced[0] and not way.takes(be, kind, case):
        raise ValueError(f"no {kind} of {case} by {forced[0]}")
    return products_of(tf32, getattr(way, kind), be, *arrays, case)


@functools.lru_cache(4096)
def decided(be: Any, kind: str, case: Case, allowed: bool, kernels: bool) -> tuple[str, bool]:
    """The way by the rule, and whether its products are made in TF32, if that is allowed.

    kernels: whether there are any, which is what ways' ``takes`` depends on.
    """
    tf32 = bool(allowed and case.dtype == FLOAT and multiplications(case) >= MANY)
    return by_rule(be, kind, case, tf32), tf32


def multiplications(case: Case) -> int:
    """How many it takes in all."""
    return math.prod(case.y_shape) * math.prod(case.w_shape[1:])


def tried(be: Any, kind: str, case: Case, tf32: bool, arrays: Any, first: str) -> str:
    """The fastest way, tried out once; ``first`` while that can't be."""
    key = be.id, kind, case, tf32, settings.enabled
    found = _timed.get(key)
    if found is not None or be.capturing or 0 in case.x_shape + case.w_shape + case.y_shape:
        return found or first
    _timed[key] = fastest(be, kind, case, tf32, arrays, first)
    return _timed[key]


def by_rule(be: Any, kind: str, case: Case, tf32: bool) -> str:
    """The way that ought to be the fastest for such a shape."""
    if depthwise.takes(be, kind, case):
        return "depthwise"
    if 0 in case.x_shape + case.w_shape + case.y_shape:
        return "columns"
    few = conv_direct.takes(be, kind, case) and conv_direct.pays(kind, case)
    cores = (tf32 or (case.dtype in HALF and multiplications(case) >= MANY)) \
        and Implicit.takes(be, kind, case)
    if few and (not cores or case.w_shape[0] // case.groups <= 16):
        return "direct"
    plain = conv_ways.is_plain(case.w_shape, case.stride, case.padding)
    return "implicit" if cores and not plain else "columns"


def fastest(be: Any, kind: str, case: Case, tf32: bool, arrays: Any, first: str) -> str:
    """The way that takes the least time on the device, ``first`` if several do."""
    names = [first, *[n for n, way in WAYS.items() if n != first and way.takes(be, kind, case)]]
    limit = settings.benchmark_limit or 0
    if limit > 0:
        names = names[:limit]
    if len(names) == 1:
        return first
    event, times, result = be.cupy.cuda.Event, [], None
    for name in names:
        way = getattr(WAYS[name], kind)
        if name == "cudnn" and not products_of(tf32, conv_cudnn.proven, be, way, arrays, case,
                                               result):
            continue
        result = products_of(tf32, way, be, *arrays, case)
        start, end = event(), event()
        start.record()
        for _ in range(TRIALS):
            products_of(tf32, way, be, *arrays, case)
        end.record()
        end.synchronize()
        times.append((be.cupy.cuda.get_elapsed_time(start, end), name))
    return min(times, key=lambda time: time[0])[1]


@contextlib.contextmanager
def only(name: str) -> Iterator[None]:
    """Convolutions inside the block go this way, or raise ValueError."""
    before, forced[0] = forced[0], name
    try:
        yield
    finally:
        forced[0] = before
