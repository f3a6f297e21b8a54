"""Bags of rows of an embedding table: sums, means, maxima."""
from __future__ import annotations

import warnings
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.creation import arange
from gpugrad.dtypes import int64
from gpugrad.functions.indexing import embedding_renorm_


def embedding_bag(input: Tensor, weight: Tensor, offsets: Tensor | None = None,
                  max_norm: float | None = None, norm_type: float = 2,
                  scale_grad_by_freq: bool = False, mode: str = "mean", sparse: bool = False,
                  per_sample_weights: Tensor | None = None, include_last_offset: bool = False,
                  padding_idx: int | None = None) -> Tensor:
    """One row of weight's (n, d) for each bag of indices: their "sum", "mean" or "max".

    input is (bags, m), or (total,) with offsets, where each bag begins; include_last_offset: and
    where the last one ends. per_sample_weights, for "sum": a factor for each index. padding_idx
    counts for nothing. The bags' number must not depend on input, which is not read by the host.
    """
    if weight.dtype is int64 and input.is_floating_point():
        warnings.warn("Argument order of nn.functional.embedding_bag was changed. Usage "
                      "`embedding_bag(weight, input, ...)` is deprecated, and should now be "
                      "`embedding_bag(input, weight, ...)`.", stacklevel=2)
        weight, input = input, weight
    if per_sample_weights is not None and input.size() != per_sample_weights.size():
        raise ValueError(f"embedding_bag: If per_sample_weights ({per_sample_weights.shape}) is "
                         "not None, then it must have the same shape as the input "
                         f"({input.shape})")
    if weight.ndim != 2:
        raise ValueError("weight has to be a 2D Tensor, but got Tensor of dimension "
                         f"{weight.ndim}")
    if not weight.is_floating_point():
        raise RuntimeError("Expected tensor for argument #1 'weight' to have one of the following "
                           f"scalar types: Half, BFloat16, Float, Double; but got {weight.type()} "
                           "instead")
    _check_mode(mode, scale_grad_by_freq, sparse, per_sample_weights)
    bag, count = _bags(input, offsets, include_last_offset)
    indices = input.reshape(-1)
    if max_norm is not None:
        embedding_renorm_(weight, indices, max_norm, norm_type)
    if padding_idx is not None:
        n = weight.shape[0]
        if not -n <= padding_idx < n:
            raise RuntimeError(f"padding_idx must be within the number of embeddings, -{n} through "
                               f"{n - 1}, but got {padding_idx}")
        bag = bag.masked_fill(indices == padding_idx % n, count)
    try:
        return _reduced(weight, indices, bag, count, mode, per_sample_weights, scale_grad_by_freq)
    except IndexError:
        raise RuntimeError("embedding_bag: Expected idx >= 0 && idx < num_embeddings, but found an "
                           f"index outside 0 ... {weight.shape[0] - 1}") from None


def _reduced(weight: Tensor, indices: Tensor, bag: Tensor, count: int, mode: str,
             per_sample_weights: Tensor | None, scale_grad_by_freq: bool) -> Tensor:
    if mode == "max":
        return T.embedding_bag_max(weight, indices, bag, bags=count)[0]
    scales = per_sample_weights
    if scales is not None:
        if scales.dtype is not weight.dtype:
            raise RuntimeError(f"expected per_sample_weights of dtype {weight.dtype}, as weight, "
                               f"but got {scales.dtype}")
        scales = scales.reshape(-1)
    out = T.embedding_bag(weight, indices, bag, scales, bags=count,
                          scale_grad_by_freq=scale_grad_by_freq)
    return out / _sizes(bag, count, weight) if mode == "mean" else out


def _check_mode(mode: str, scale_grad_by_freq: bool, sparse: bool, scales: Any) -> None:
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("max mode does not support scaling the gradient by the frequency")
    if mode == "max" and sparse:
        raise ValueError("max mode does not support sparse weights")
    if scales is not None and mode != "sum":
        raise NotImplementedError("embedding_bag: per_sample_weights was not None. "
                                  "per_sample_weights is only supported for mode='sum' (got "
                                  f"mode='{mode}'). Please open a feature request on GitHub.")
    if sparse:
        raise NotImplementedError("embedding_bag: sparse gradients are not supported: use "
                                  "sparse=False")


def _bags(input: Tensor, offsets: Tensor | None, include_last: bool) -> tuple[Tensor, int]:
    """(the bag of each index, how many bags)"""
    if input.dtype.name not in ("int64", "int32"):
        raise RuntimeError("Expected tensor for argument #1 'indices' to have one of the following "
                           f"scalar types: Long, Int; but got {input.type()} instead")
    each = arange(input.numel(), device=input.device)
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError("if input is 2D, then offsets has to be None, as input is treated is "
                             "a mini-batch of fixed length sequences. However, found offsets of "
                             f"type {type(offsets)}")
        return each // max(1, input.shape[1]), input.shape[0]
    if input.ndim != 1:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension "
                         f"{input.ndim}")
    if offsets is None:
        raise ValueError("offsets has to be a 1D Tensor but got None")
    if offsets.dtype.name not in ("int64", "int32"):
        raise RuntimeError("Expected tensor for argument #1 'offsets' to have one of the following "
                           f"scalar types: Long, Int; but got {offsets.type()} instead")
    if offsets.ndim != 1:
        raise ValueError("offsets has to be a 1D Tensor")
    if include_last and offsets.shape[0] == 0:
        raise RuntimeError("include_last_offset: number of offsets should be at least 1")
    if offsets.is_cpu and offsets.numel():       # elsewhere the check would wait for the device
        if offsets[0].item() != 0:
            raise RuntimeError("offsets[0] has to be 0, i.e., the first sequence in the mini-batch "
                               f"has to start from position 0. However, got {offsets[0].item()}")
        if offsets[-1].item() > input.shape[0]:
            raise RuntimeError("offsets[-1] can not be greater than input's length "
                               f"{input.shape[0]} but got offsets[-1] of {offsets[-1].item()}")
    starts = offsets[:-1] if include_last else offsets
    if not starts.shape[0]:
        return each, 0
    bags = T.bag_of(each, starts)
    if include_last:                             # what comes after the end is in no bag
        bags = bags.masked_fill(each >= offsets[-1:], starts.shape[0])
    return bags, starts.shape[0]


def _sizes(bag: Tensor, count: int, like: Tensor) -> Tensor:
    """How many indices each bag has, at least 1: (count, 1)."""
    found = bag.new_zeros((count + 1,)).index_add(0, bag, bag.new_ones(bag.shape))
    return found[:count].clamp(min=1).unsqueeze(1).to(like.dtype)
