"""All parameters as one vector, and back."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.functions.shape import cat


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The elements of all parameters in one row; differentiable."""
    params = list(parameters)
    _check_devices(params)
    return cat([p.view(-1) for p in params])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Make the parameters views of consecutive parts of ``vec``, which has an element for each."""
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec).__name__}")
    params = list(parameters)
    _check_devices(params)
    at = 0
    for p in params:
        n = p.numel()
        p.data = vec[at:at + n].view_as(p).data
        at += n


def _check_devices(params: list[Any]) -> None:
    if len({p.device for p in params}) > 1:
        raise TypeError("Found two parameters on different devices, this is currently not "
                        "supported.")
