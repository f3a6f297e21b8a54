"""Losses that say which vectors belong together: cosine, hinge, ranking, triplets."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd import casting
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions.choices import where
from gpugrad.functions.losses import reduced, reduction_of
from gpugrad.functions.pairs import pairwise_distance

COSINE_EPS = 1e-12                               # added to squares of lengths


@casting.function
def cosine_embedding_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0,
                          size_average: bool | None = None, reduce: bool | None = None,
                          reduction: str = "mean") -> Tensor:
    """1 - cos(input1, input2) where target is 1, max(0, cos - margin) where it is -1.

    Inputs are (n, d) with target (n,), or (d,) with target ().
    """
    reduction = reduction_of(reduction, size_average, reduce)
    if target.ndim > 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if input1.ndim != target.ndim + 1 or input2.ndim != target.ndim + 1:
        raise RuntimeError(f"{target.ndim}D target tensor expects {target.ndim + 1}D input tensors,"
                           f" but found inputs with sizes {list(input1.shape)} and "
                           f"{list(input2.shape)}.")
    dim = target.ndim
    product = (input1 * input2).sum(dim)
    length1 = (input1 * input1).sum(dim) + COSINE_EPS
    length2 = (input2 * input2).sum(dim) + COSINE_EPS
    cos = product / (length1 * length2).sqrt()
    zeros = cos.new_zeros(())
    near, far = 1 - cos, (cos - margin).clamp_min(0)
    return reduced(where(target == 1, near, zeros) + where(target == -1, far, zeros), reduction)


@casting.function
def hinge_embedding_loss(input: Tensor, target: Tensor, margin: float = 1.0,
                         size_average: bool | None = None, reduce: bool | None = None,
                         reduction: str = "mean") -> Tensor:
    """input where target is 1, max(0, margin - input) where it is -1; their sum elsewhere."""
    reduction = reduction_of(reduction, size_average, reduce)
    zeros = input.new_zeros(())
    far = (margin - input).clamp_min(0)
    return reduced(where(target != 1, far, zeros) + where(target != -1, input, zeros), reduction)


@casting.function
def margin_ranking_loss(input1: Tensor, input2: Tensor, target: Tensor, margin: float = 0,
                        size_average: bool | None = None, reduce: bool | None = None,
                        reduction: str = "mean") -> Tensor:
    """max(0, margin - target * (input1 - input2)): target 1 ranks input1 higher, -1 input2."""
    reduction = reduction_of(reduction, size_average, reduce)
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError("margin_ranking_loss : All input tensors should have same dimension but "
                           f"got sizes: input1: {input1.size()}, input2: {input2.size()}, target: "
                           f"{target.size()} ")
    return reduced((-target * (input1 - input2) + float(margin)).clamp_min(0), reduction)


# Triplets ----------------------------------------------------------------------------------------


def _check_triplet(margin: float, anchor: Tensor, positive: Tensor, negative: Tensor) -> None:
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError("The anchor, positive, and negative tensors are expected to have the "
                           f"same number of dimensions, but got: anchor {anchor.ndim}D, positive "
                           f"{positive.ndim}D, and negative {negative.ndim}D inputs")


def _triplet(distance: Callable[[Tensor, Tensor], Any], anchor: Tensor, positive: Tensor,
             negative: Tensor, margin: float, swap: bool, reduction: str) -> Tensor:
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = T.minimum(far, distance(positive, negative))
    return reduced((margin + near - far).clamp_min(0), reduction)


@casting.function
def triplet_margin_loss(anchor: Tensor, positive: Tensor, negative: Tensor, margin: float = 1.0,
                        p: float = 2, eps: float = 1e-6, swap: bool = False,
                        size_average: bool | None = None, reduce: bool | None = None,
                        reduction: str = "mean") -> Tensor:
    """max(0, margin + d(anchor, positive) - d(anchor, negative)) with d a p-norm of differences.

    swap: the distance of positive and negative counts where it is less than the anchor's.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    _check_triplet(margin, anchor, positive, negative)
    return _triplet(lambda a, b: pairwise_distance(a, b, p, eps), anchor, positive, negative,
                    margin, swap, reduction)


def triplet_margin_with_distance_loss(
        anchor: Tensor, positive: Tensor, negative: Tensor, *,
        distance_function: Callable[[Tensor, Tensor], Tensor] | None = None, margin: float = 1.0,
        swap: bool = False, reduction: str = "mean") -> Tensor:
    """triplet_margin_loss with any distance of two tensors; pairwise_distance by default."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    _check_triplet(margin, anchor, positive, negative)
    return _triplet(distance_function or pairwise_distance, anchor, positive, negative, margin,
                    swap, reduction)
