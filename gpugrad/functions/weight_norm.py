"""A weight as a length and a direction: norm_except_dim, and the product that puts it together."""
from __future__ import annotations

from gpugrad._tensor import Tensor


def norm_except_dim(v: Tensor, pow: int = 2, dim: int = 0) -> Tensor:
    """The norm over all dims but ``dim``, which keep the size 1; of everything for dim=-1."""
    if dim == -1:
        return v.norm(pow)
    if not -v.ndim <= dim < v.ndim:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-v.ndim}, "
                         f"{v.ndim - 1}], but got {dim})")
    dim %= v.ndim
    rows = v.transpose(0, dim).reshape(v.shape[dim], -1)
    return rows.norm(pow, 1).view([-1 if d == dim else 1 for d in range(v.ndim)])


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """v, with the norm over all dims but ``dim`` made g."""
    return v * (g / norm_except_dim(v, 2, dim))
