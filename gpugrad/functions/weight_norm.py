"""A weight as a length and a direction: norm_except_dim, and the product that puts it together."""
from __future__ import annotations

from gpugrad._tensor import Tensor
from gpugrad.functions.arguments import dim_of


def norm_except_dim(v: Tensor, pow: int = 2, dim: int = 0) -> Tensor:
    """The norm over all dims but ``dim``, which keep the size 1; of everything for dim=-1."""
    if dim == -1:
        return v.norm(pow)
    if not v.ndim:
        raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
    dim = dim_of(dim, v.ndim)
    if dim in (0, v.ndim - 1):
        n = v.shape[dim]
        rows = v.reshape(-1, n).transpose(0, 1) if dim else v.reshape(n, -1)
        return rows.norm(pow, 1).view([-1 if d == dim else 1 for d in range(v.ndim)])
    return norm_except_dim(v.transpose(0, dim), pow, 0).transpose(0, dim)


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """v, with the norm over all dims but ``dim`` made g."""
    norm = norm_except_dim(v, 2, dim)
    if dim in (0, v.ndim - 1):
        g = g.view(norm.shape)
    return v * (g / norm)
