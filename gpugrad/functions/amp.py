"""What gradient scalers are made of: unscaling with a flag on the device, updating the scale."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from gpugrad._tensor import Tensor, bump
from gpugrad.autograd.entry import different_devices
from gpugrad.dtypes import type_name
from gpugrad.ops import gradients

_UNSCALE = "_amp_foreach_non_finite_check_and_unscale_"


def _amp_foreach_non_finite_check_and_unscale_(self: Iterable[Tensor], found_inf: Tensor,
                                               inv_scale: Tensor) -> None:
    """Multiply all tensors by inv_scale, in place; found_inf becomes 1 if one was not finite."""
    tensors = list(self)
    for name, t in (("inv_scale", inv_scale), ("found_inf", found_inf)):
        _check_number(name, t, np.float32)
    sets: dict[Any, list[Any]] = {}
    for t in tensors:
        if not t.is_floating_point():
            raise NotImplementedError(f'"{_UNSCALE}" not implemented for '
                                      f"'{type_name(t._a.dtype)}': the tensors must be floating")
        if t._be is not found_inf._be or t._be is not inv_scale._be:
            different_devices([t, found_inf, inv_scale], _UNSCALE)
        sets.setdefault((t._be, t._a.dtype, t._be.is_dense(t._a)), []).append(t)
        bump(t)
    if tensors:
        bump(found_inf)
    for (be, *_), some in sets.items():
        gradients.unscale(be, [t._a for t in some], found_inf._a, inv_scale._a)


def _amp_update_scale_(self: Tensor, growth_tracker: Tensor, found_inf: Tensor,
                       scale_growth_factor: float, scale_backoff_factor: float,
                       growth_interval: int) -> Tensor:
    """Shrink the scale if found_inf isn't 0; let it grow after growth_interval steps without."""
    for name, t, dtype in (("growth_tracker", growth_tracker, np.int32),
                           ("current_scale", self, np.float32),
                           ("found_inf", found_inf, np.float32)):
        _check_number(name, t, dtype)
        if t._be is not self._be:
            different_devices([self, t], "_amp_update_scale_")
    bump(self)
    bump(growth_tracker)
    gradients.update_scale(self._be, self._a, growth_tracker._a, found_inf._a, scale_growth_factor,
                           scale_backoff_factor, growth_interval)
    return self


def _check_number(name: str, t: Tensor, dtype: Any) -> None:
    if t._a.size != 1:
        raise RuntimeError(f"{name} must be a 1-element tensor.")
    if t._a.dtype != dtype:
        raise RuntimeError(f"{name} must be {'an int' if dtype is np.int32 else 'a float'} tensor.")
