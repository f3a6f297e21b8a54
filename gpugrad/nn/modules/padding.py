"""Padding layers: (n, c, ...) with more at both ends of the last dims; less for negative numbers.

padding is one number, or one before and one after each dim, the last dim first.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.nn import functional as F
from gpugrad.nn.modules.module import Module


class _PadNd(Module):
    """What padding shares: subclasses say how many dims, and in which mode of pad()."""

    __constants__ = ["padding"]
    dims: int
    mode: str

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = tuple(padding) if isinstance(padding, Iterable) else \
            (padding,) * (2 * self.dims)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPadNd(_PadNd):
    __constants__ = ["padding", "value"]
    mode = "constant"

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPadNd):
    """Fills with ``value`` along the last dim."""

    dims = 1


class ConstantPad2d(_ConstantPadNd):
    """Fills with ``value`` along the last two dims."""

    dims = 2


class ConstantPad3d(_ConstantPadNd):
    """Fills with ``value`` along the last three dims."""

    dims = 3


class _ZeroPad(_ConstantPadNd):
    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad1d(_ZeroPad, ConstantPad1d):
    """Fills with 0 along the last dim."""


class ZeroPad2d(_ZeroPad, ConstantPad2d):
    """Fills with 0 along the last two dims."""


class ZeroPad3d(_ZeroPad, ConstantPad3d):
    """Fills with 0 along the last three dims."""


class ReflectionPad1d(_PadNd):
    """Mirrors at both ends of the last dim; the edge itself isn't repeated."""

    dims, mode = 1, "reflect"


class ReflectionPad2d(_PadNd):
    """Mirrors at both ends of the last two dims; the edge itself isn't repeated."""

    dims, mode = 2, "reflect"


class ReflectionPad3d(_PadNd):
    """Mirrors at both ends of the last three dims; the edge itself isn't repeated."""

    dims, mode = 3, "reflect"


class ReplicationPad1d(_PadNd):
    """Repeats the edges of the last dim."""

    dims, mode = 1, "replicate"


class ReplicationPad2d(_PadNd):
    """Repeats the edges of the last two dims."""

    dims, mode = 2, "replicate"


class ReplicationPad3d(_PadNd):
    """Repeats the edges of the last three dims."""

    dims, mode = 3, "replicate"


class _CircularPadNd(_PadNd):
    mode = "circular"

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim not in (self.dims + 1, self.dims + 2):
            raise ValueError(f"expected {self.dims + 1}D or {self.dims + 2}D input "
                             f"(got {input.ndim}D input)")
        return super().forward(input)


class CircularPad1d(_CircularPadNd):
    """Goes on at the other end of the last dim."""

    dims = 1


class CircularPad2d(_CircularPadNd):
    """Goes on at the other end of the last two dims."""

    dims = 2


class CircularPad3d(_CircularPadNd):
    """Goes on at the other end of the last three dims."""

    dims = 3
