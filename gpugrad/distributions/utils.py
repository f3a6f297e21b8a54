"""What distributions share: broadcasting, odds and probabilities, triangles, lazy properties."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

from gpugrad._tensor import Size, Tensor
from gpugrad.autograd.grad_mode import enable_grad
from gpugrad.creation import arange, empty, tensor
from gpugrad.dtypes import finfo, get_default_dtype
from gpugrad.functions.activation import logsigmoid, sigmoid
from gpugrad.functions.shape import broadcast_tensors
from gpugrad.functions.softmax import softmax

__all__ = ["broadcast_all", "clamp_probs", "lazy_property", "logits_to_probs", "probs_to_logits",
           "tril_matrix_to_vec", "vec_to_tril_matrix"]

euler_constant = 0.57721566490153286060
Number = (bool, int, float)


def broadcast_all(*values: Any) -> Any:
    """Tensors and numbers as tensors of one shape; numbers in the dtype of the first tensor."""
    if not all(isinstance(v, (Tensor, *Number)) for v in values):
        raise ValueError("Input arguments must all be instances of Number, torch.Tensor or objects "
                         "implementing __torch_function__.")
    given = next((v for v in values if isinstance(v, Tensor)), None)
    options: dict[str, Any] = {"dtype": get_default_dtype()} if given is None else {
        "dtype": given.dtype, "device": given.device}
    return broadcast_tensors(*[v if isinstance(v, Tensor) else tensor(v, **options)
                               for v in values])


def _standard_normal(shape: Sequence[int], dtype: Any, device: Any) -> Tensor:
    """Normal numbers with mean 0 and standard deviation 1."""
    return empty(shape, dtype=dtype, device=device).normal_()


def _sum_rightmost(value: Tensor, dim: int) -> Tensor:
    """The sum over the last ``dim`` dims."""
    return value.reshape(value.shape[:-dim] + (-1,)).sum(-1) if dim else value


def logits_to_probs(logits: Tensor, is_binary: bool = False) -> Tensor:
    """Probabilities from log odds (binary), or from logarithms of weights along the last dim."""
    return sigmoid(logits) if is_binary else softmax(logits, -1)


def clamp_probs(probs: Tensor) -> Tensor:
    """Probabilities kept away from 0 and 1 by the dtype's eps."""
    eps = finfo(probs.dtype).eps
    return probs.clamp(min=eps, max=1 - eps)


def probs_to_logits(probs: Tensor, is_binary: bool = False) -> Tensor:
    """The log odds of probabilities (binary), or their logarithms."""
    p = clamp_probs(probs)
    return p.log() - (-p).log1p() if is_binary else p.log()


def _binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Minus the log of the probability of target, 1 or 0 or a probability itself."""
    return (1 - target) * logits - logsigmoid(logits)


class lazy_property:
    """A property that is computed at its first use, with gradients, and then an attribute."""

    def __init__(self, wrapped: Callable[[Any], Any]) -> None:
        self.wrapped = wrapped
        update_wrapper(self, wrapped)  # type: ignore[arg-type]

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        with enable_grad():
            value = self.wrapped(instance)
        setattr(instance, self.wrapped.__name__, value)
        return value


def _below_diagonal(n: int, diag: int, device: Any) -> Tensor:
    """(n, n), True up to the diag-th diagonal."""
    place = arange(n, device=device)
    return place < place.view(-1, 1) + (diag + 1)


def tril_matrix_to_vec(mat: Tensor, diag: int = 0) -> Tensor:
    """The elements of (..., n, n) on and below a diagonal, row by row: (..., how many)."""
    n = mat.shape[-1]
    if not -n <= diag < n:
        raise ValueError(f"diag ({diag}) provided is outside [{-n}, {n - 1}].")
    return mat[..., _below_diagonal(n, diag, mat.device)]


def vec_to_tril_matrix(vec: Tensor, diag: int = 0) -> Tensor:
    """Square matrices with these elements on and below a diagonal, row by row, and zeros above."""
    # n rows hold n (n + 1) / 2 elements, and diag shifts that
    odd = 1 + 2 * diag
    n = (-odd + (odd ** 2 + 8 * vec.shape[-1] + 4 * abs(diag) * (diag + 1)) ** 0.5) / 2
    if abs(round(n) - n) > finfo(vec.dtype).eps:
        raise ValueError(f"The size of last dimension is {vec.shape[-1]} which cannot be expressed "
                         "as the lower triangular part of a square D x D matrix.")
    rows = round(n)
    mat = vec.new_zeros(vec.shape[:-1] + Size((rows, rows)))
    mat[..., _below_diagonal(rows, diag, vec.device)] = vec
    return mat
