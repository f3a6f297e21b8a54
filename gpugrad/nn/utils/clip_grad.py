"""Keeping gradients small: by their total norm, or element by element."""
from __future__ import annotations

import math
import types
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.grad_mode import no_grad
from gpugrad.autograd.rules import tensors as T
from gpugrad.creation import tensor
from gpugrad.functions.gradients import bump_all, sets
from gpugrad.functions.shape import stack
from gpugrad.ops import gradients

Tensors = Tensor | Iterable[Tensor]


@no_grad()
def get_total_norm(tensors: Tensors, norm_type: float = 2.0, error_if_nonfinite: bool = False,
                   foreach: bool | None = None) -> Tensor:
    """The p-norm of all elements of all tensors, as a 0-dim tensor on the device of the first one.

    With error_if_nonfinite, RuntimeError if it is NaN or infinite; this reads it from the device.
    ``foreach`` makes no difference.
    """
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    p = float(norm_type)
    if not tensors:
        return tensor(0.0)
    norms: list[Tensor] = []
    for be, dense, some in sets(tensors):
        arrays = [t._a for t in some] if dense else [be.copy(t._a) for t in some]
        found = gradients.total_norm(be, arrays, p)
        if found is not NotImplemented:
            norms.append(wrap(found, be))
        elif p == 2 and some[0]._a.dtype.kind == "f" and some[0].element_size() >= 4:
            norms.append(_euclidean(some))
        else:
            norms += [t.norm(p) for t in some]
    norms = [n.to(tensors[0].device) for n in norms]
    total = norms[0] if len(norms) == 1 and p > 0 else stack(norms).norm(p)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(f"The total norm of order {p} for gradients from `parameters` is "
                           "non-finite, so it cannot be clipped. To disable this error and scale "
                           "the gradients by the non-finite norm anyway, set "
                           "`error_if_nonfinite=False`")
    return total


def _euclidean(tensors: list[Tensor]) -> Tensor:
    """The root of the sum of all squares."""
    total: Any = 0
    for t in tensors:
        flat = t.reshape(-1)
        total = total + T.dot(flat, flat)
    return total.sqrt()


@no_grad()
def clip_grads_with_norm_(parameters: Tensors, max_norm: float, total_norm: Tensor,
                          foreach: bool | None = None) -> None:
    """Scale the gradients by max_norm / total_norm if that is below 1, without reading it."""
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    grads = [p.grad for p in parameters if p.grad is not None]
    limit = float(max_norm)
    scale = None
    for be, dense, some in sets(grads):
        if dense and total_norm._be is be and total_norm._a.ndim == 0 and \
                gradients.clip_norm(be, [g._a for g in some], total_norm._a, limit) is None:
            bump_all(some)
            continue
        if scale is None:
            scale = (limit / (total_norm + 1e-6)).clamp(max=1.0)
        with np.errstate(all="ignore"):         # a norm that is infinite spoils what is spoilt
            for g in some:
                g.mul_(scale.to(g.device))


@no_grad()
def clip_grad_norm_(parameters: Tensors, max_norm: float, norm_type: float = 2.0,
                    error_if_nonfinite: bool = False, foreach: bool | None = None) -> Tensor:
    """Scale all gradients together, in place, so that their total norm is max_norm at most.

    Returns the total norm that they had.
    """
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    else:
        generator = isinstance(parameters, types.GeneratorType)
        parameters = list(parameters)
        if generator and not parameters:
            warnings.warn("`parameters` is an empty generator, no gradient clipping will occur.",
                          stacklevel=3)
    grads = [p.grad for p in parameters if p.grad is not None]
    total = get_total_norm(grads, norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(parameters, max_norm, total, foreach)
    return total


def clip_grad_norm(parameters: Tensors, max_norm: float, norm_type: float = 2.0,
                   error_if_nonfinite: bool = False, foreach: bool | None = None) -> Tensor:
    """The old name of clip_grad_norm_."""
    warnings.warn("`torch.nn.utils.clip_grad_norm` is now deprecated in favor of "
                  "`torch.nn.utils.clip_grad_norm_`.", FutureWarning, stacklevel=2)
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


@no_grad()
def clip_grad_value_(parameters: Tensors, clip_value: float, foreach: bool | None = None) -> None:
    """Hold every element of the gradients between -clip_value and clip_value, in place."""
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    bound = float(clip_value)
    for be, dense, some in sets([p.grad for p in parameters if p.grad is not None]):
        if dense and gradients.clip_value(be, [g._a for g in some], bound) is None:
            bump_all(some)
            continue
        for g in some:
            g.clamp_(min=-bound, max=bound)
