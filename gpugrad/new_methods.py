"""Tensor.new_zeros and its kin: new tensors with the dtype and device of another, unless others are
named."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.backend import get
from gpugrad.creation import copied, empty_strided
from gpugrad.factory import (
    check_options,
    dtype_of,
    finish_constant,
    number,
    scalar_of,
    shape_of,
    tuple_of,
)


def new_tensor(self: Tensor, data: Any, *, dtype: Any = None, device: Any = None,
               requires_grad: bool = False, layout: Any = None, pin_memory: bool = False) -> Tensor:
    """torch.tensor(data), with this tensor's dtype and device."""
    check_options("new_tensor", None, layout)
    be = self._be if device is None else get(device)
    d = dtype_of("new_tensor", dtype, self._a.dtype)
    return copied(data, d, be, requires_grad, pin_memory)


def _new(name: str, self: Tensor, shape: tuple[int, ...], value: Any, dtype: Any, device: Any,
         requires_grad: bool, layout: Any, pin_memory: bool) -> Tensor:
    if layout is not None:
        check_options(name, None, layout)
    be = self._be if device is None else get(device)
    d = dtype_of(name, dtype, self._a.dtype)
    a = be.empty(shape, d) if value is None else be.xp.full(shape, scalar_of(value, d), d)
    return finish_constant(a, be, requires_grad, pin_memory)


def new_zeros(self: Tensor, *sizes: Any, size: Any = None, dtype: Any = None, device: Any = None,
              requires_grad: bool = False, layout: Any = None, pin_memory: bool = False) -> Tensor:
    """Filled with 0, with this tensor's dtype and device."""
    return _new("new_zeros", self, shape_of("new_zeros", sizes, size), 0, dtype, device,
                requires_grad, layout, pin_memory)


def new_ones(self: Tensor, *sizes: Any, size: Any = None, dtype: Any = None, device: Any = None,
             requires_grad: bool = False, layout: Any = None, pin_memory: bool = False) -> Tensor:
    """Filled with 1, with this tensor's dtype and device."""
    return _new("new_ones", self, shape_of("new_ones", sizes, size), 1, dtype, device,
                requires_grad, layout, pin_memory)


def new_empty(self: Tensor, *sizes: Any, size: Any = None, dtype: Any = None, device: Any = None,
              requires_grad: bool = False, layout: Any = None, pin_memory: bool = False) -> Tensor:
    """Not initialised, with this tensor's dtype and device."""
    return _new("new_empty", self, shape_of("new_empty", sizes, size), None, dtype, device,
                requires_grad, layout, pin_memory)


def new_full(self: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None,
             requires_grad: bool = False, layout: Any = None, pin_memory: bool = False) -> Tensor:
    """Filled with fill_value, with this tensor's dtype and device."""
    return _new("new_full", self, tuple_of("new_full", size, 1),
                number("new_full", "fill_value", 2, fill_value), dtype, device, requires_grad,
                layout, pin_memory)


def new_empty_strided(self: Tensor, size: Any, stride: Any, *, dtype: Any = None,
                      device: Any = None, requires_grad: bool = False, layout: Any = None,
                      pin_memory: bool = False) -> Tensor:
    """Not initialised, with the given steps and this tensor's dtype and device."""
    return empty_strided(size, stride, dtype=self.dtype if dtype is None else dtype,
                         device=self.device if device is None else device, layout=layout,
                         requires_grad=requires_grad, pin_memory=pin_memory)
