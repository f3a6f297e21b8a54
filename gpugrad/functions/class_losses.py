"""Losses of the scores of classes: likelihoods, cross entropy, margins, alignments (CTC)."""
from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd import casting
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.activation import logsigmoid
from gpugrad.functions.arguments import cast
from gpugrad.functions.losses import check_floating, constant, reduced, reduction_of
from gpugrad.functions.matmul import linear
from gpugrad.functions.softmax import floating, log_softmax

# Likelihoods and cross entropy -------------------------------------------------------------------


def nll_loss(input: Tensor, target: Tensor, weight: Tensor | None = None,
             size_average: bool | None = None, ignore_index: int = -100, reduce: bool | None = None,
             reduction: str = "mean") -> Tensor:
    """-input[target]: log-probabilities (n, c, ...) or (c,), target classes (n, ...) or ().

    weight: one for each class; the mean is over the weights of the targets.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    if input.ndim == 0:
        raise ValueError("Expected 1 or more dimensions (got 0)")
    if input.ndim == 1:
        return _one_sample(nll_loss, input, target, weight, ignore_index, reduction)
    _check_classes(input, target, weight)
    check_floating(input, "nll_loss")
    return T.nll_loss(input, target, weight, reduction=reduction, ignore_index=ignore_index)[0]


def _one_sample(loss_of: Callable[..., Tensor], input: Tensor, target: Tensor,
                weight: Tensor | None, ignore_index: int, reduction: str, **more: Any) -> Tensor:
    """The loss of scores (c,), which come without a batch dim, and of a target () or (1,)."""
    if target.ndim > 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if target.numel() != 1:
        raise ValueError("For 1D input, 1D target must have size 1, but got target size: "
                         f"{target.numel()}")
    loss = loss_of(input.unsqueeze(0), target.reshape(1), weight, ignore_index=ignore_index,
                   reduction=reduction, **more)
    return loss.squeeze(0) if reduction == "none" else loss


def _check_classes(input: Tensor, target: Tensor, weight: Tensor | None) -> None:
    """Raise unless scores (n, c, ...), classes (n, ...) and a weight (c,) fit together."""
    x, t = input._a.shape, target._a.shape
    if not t or x[0] != t[0]:
        raise ValueError(f"Expected input batch_size ({x[0]}) to match target batch_size "
                         f"({t[0] if t else 0}).")
    if len(x) == 2 and len(t) != 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if (x[0], *x[2:]) != t:
        if len(x) == 4:
            raise RuntimeError(f"size mismatch (got input: {list(x)} , target: {list(t)})"
                               if len(t) == 3 else "only batches of spatial targets supported (3D "
                               f"tensors) but got targets of dimension: {len(t)}")
        raise RuntimeError(f"Expected target size {[x[0], *x[2:]]}, got {list(t)}")
    if target.dtype.name not in ("int64", "uint8"):
        raise RuntimeError("expected target dtype to be Long or Byte, but got "
                           f"{type_name(target.dtype.np)}: convert it by target.long()")
    if weight is None:
        return
    constant(weight, "nll_loss_forward", "weight")
    if weight.shape != (x[1],):
        raise RuntimeError(f"weight tensor should be defined either for all {x[1]} classes or no "
                           f"classes but got weight tensor of shape: {list(weight.shape)}")
    if weight.dtype is not input.dtype:
        raise RuntimeError(f"expected scalar type {type_name(input._a.dtype)} but found "
                           f"{type_name(weight._a.dtype)}: the weight must have the input's dtype")


def cross_entropy(input: Tensor, target: Tensor, weight: Tensor | None = None,
                  size_average: bool | None = None, ignore_index: int = -100,
                  reduce: bool | None = None, reduction: str = "mean",
                  label_smoothing: float = 0.0) -> Tensor:
    """-log(softmax(input))[target]: input is scores (n, c, ...) or (c,).

    target is classes (n, ...) or (), or probabilities in the shape of input. label_smoothing: the
    share of the target that is spread evenly over the classes.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError("label_smoothing must be between 0.0 and 1.0. Got: "
                           f"{label_smoothing:g}")
    if input._a.shape == target._a.shape:
        return _cross_entropy_of_probabilities(input, target, weight, ignore_index, reduction,
                                               label_smoothing)
    if input.ndim == 1:
        return _one_sample(cross_entropy, input, target, weight, ignore_index, reduction,
                           label_smoothing=label_smoothing)
    _check_classes(input, target, weight)
    return T.cross_entropy(floating(input, None, "cross_entropy"), target, weight,
                           reduction=reduction, ignore_index=ignore_index,
                           label_smoothing=label_smoothing)[0]


def _cross_entropy_of_probabilities(input: Tensor, target: Tensor, weight: Tensor | None,
                                    ignore_index: int, reduction: str, smoothing: float) -> Tensor:
    if not target.is_floating_point():
        raise RuntimeError("Expected floating point type for target with class probabilities, got "
                           f"{type_name(target.dtype.np)}")
    if ignore_index >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")
    dim = 0 if input.ndim == 1 else 1
    c = input.shape[dim]
    if weight is not None and weight.shape != (c,):
        raise RuntimeError(f"cross_entropy: weight tensor should be defined either for all {c} "
                           "classes or no classes but got weight tensor of shape: "
                           f"{list(weight.shape)}")
    if smoothing > 0:
        target = target * (1 - smoothing) + smoothing / c
    product = log_softmax(input, dim) * target
    if weight is not None:
        product = product * weight.view(-1, *[1] * (input.ndim - dim - 1))
    if reduction == "none":
        return -product.sum(dim)
    total = -product.sum()
    if reduction == "sum":
        return total
    n = input.numel() // c if c else math.prod((*input.shape[:dim], *input.shape[dim + 1:]))
    return total / n if n else total * math.nan


# Cross entropy of a linear layer -----------------------------------------------------------------

_POLICIES = ("accurate", "balanced", "compact", "auto")


@dataclasses.dataclass(slots=True, frozen=True)
class LinearCrossEntropyOptions:
    """How linear_cross_entropy goes about a large number of classes: by chunks of the batch.

    batch_chunk_size: samples at a time; None: found by chunking_method, "aspect_ratio" or
    "aspect_ratio:2" ..., which makes a chunk's scores about as large as the input, or that part of
    it. acc_dtype: what the weight's gradient is summed in; None: float32 for 16 bits, else the
    input's. acc_policy and allow_retain_graph are PyTorch's choices between memory and time: here
    backward makes a chunk's scores again, so that every graph can be kept and none costs memory.
    """

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: Any = None

    def __post_init__(self) -> None:
        if self.acc_policy not in _POLICIES:
            raise ValueError(f"invalid acc_policy: {self.acc_policy!r}")
        if self.chunking_method not in (None, "auto"):
            name, colon, factor = str(self.chunking_method).partition(":")
            if name != "aspect_ratio" or (colon and not (factor.isdigit() and int(factor) > 0)):
                raise ValueError(f"invalid chunking_method: {self.chunking_method!r}")
        size = self.batch_chunk_size
        if size is not None and not (isinstance(size, int) and size > 0):
            raise ValueError(f"batch_chunk_size must be positive int or None, got {size!r}")
        if self.acc_dtype is not None and self.acc_dtype not in (
                dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64):
            raise ValueError("acc_dtype must be one of {None, torch.float16, torch.bfloat16, "
                             f"torch.float32, torch.float64}}, got {self.acc_dtype!r}. Pass "
                             "acc_dtype=None to let the op pick automatically.")

    def chunk(self, n: int, features: int, classes: int) -> int:
        """How many of n samples to take at a time."""
        method = self.chunking_method
        if self.batch_chunk_size is not None:
            size = min(self.batch_chunk_size, n)
            if method in (None, "auto"):
                return max(1, size)
        elif method is None:
            return max(1, n)
        factor = int(str(method).partition(":")[2] or 1) if method != "auto" else 1
        wanted = -(-n // -(-classes // features))
        found = min((1 << (wanted - 1).bit_length()) // factor, n)
        if self.batch_chunk_size is not None and found != self.batch_chunk_size:
            raise ValueError(f"batch_chunk_size (={self.batch_chunk_size}) and chunking_method "
                             f"('{method}') give different chunk sizes ({self.batch_chunk_size} vs "
                             f"{found}); pass only one.")
        return max(1, found)


def linear_cross_entropy(input: Tensor, linear_weight: Tensor, target: Tensor, *,
                         linear_bias: Tensor | None = None, weight: Tensor | None = None,
                         reduction: str = "mean", ignore_index: int | None = None,
                         label_smoothing: float = 0.0,
                         options: LinearCrossEntropyOptions | None = None) -> Tensor:
    """cross_entropy of linear(input, linear_weight, linear_bias).

    input is (n, features) or (features,), linear_weight (classes, ..., features), linear_bias
    (classes, ...), target classes (n, ...) or probabilities (n, classes, ...). With options, for
    class targets and no label smoothing, the scores (n, classes) never exist all at once.
    """
    if input.ndim not in (1, 2):
        raise RuntimeError(f"expected input with dimensionality 1 or 2, got {input.ndim}")
    if linear_weight.ndim < 2:
        raise RuntimeError("expected linear_weight with dimensionality at least 2, got "
                           f"{linear_weight.ndim}")
    features, (classes, *out) = input.shape[-1], linear_weight.shape[:-1]
    if features != linear_weight.shape[-1]:
        raise RuntimeError("expected equal input and linear_weight last dimensions (in_features), "
                           f"got {features} and {linear_weight.shape[-1]}, respectively")
    if linear_bias is not None and tuple(linear_bias.shape) != (classes, *out):
        raise RuntimeError(f"expected linear_bias shape {(classes, *out)}, got "
                           f"{tuple(linear_bias.shape)}")
    if out and input.ndim == 1:
        raise RuntimeError("K-dimensional loss defined by linear_weight shape "
                           f"{tuple(linear_weight.shape)} requires batched input, (N, {features}), "
                           f"got unbatched input with shape {tuple(input.shape)}")
    shape = (*input.shape[:-1], classes, *out)
    if tuple(target.shape) == shape and ignore_index is not None:
        raise RuntimeError("ignore_index cannot be specified when target contains probabilities")
    ignored = -100 if ignore_index is None else ignore_index
    if options is not None:
        if reduction in ("mean", "sum", "none") and label_smoothing == 0 and not out \
                and target.dtype is dtypes.int64:
            return _by_chunks(input, linear_weight, target, linear_bias, weight, reduction, ignored,
                              options)
        bias_shape = None if linear_bias is None else tuple(linear_bias.shape)
        warnings.warn("linear_cross_entropy: ``options`` ignored; chunked path needs reduction in "
                      "{'mean','sum','none'}, label_smoothing == 0, target.dtype == int64, "
                      f"out_features == (). Got reduction={reduction!r}, "
                      f"label_smoothing={label_smoothing}, target.dtype={target.dtype}, "
                      f"out_features={tuple(out)}, tracing=False, linear_bias.shape={bias_shape}.",
                      stacklevel=2)
    if out:
        linear_weight = linear_weight.reshape(-1, features)
        linear_bias = None if linear_bias is None else linear_bias.reshape(-1)
    scores = linear(input, linear_weight, linear_bias).reshape(shape)
    return cross_entropy(scores, target, weight=weight, reduction=reduction, ignore_index=ignored,
                         label_smoothing=label_smoothing)


def _by_chunks(input: Tensor, linear_weight: Tensor, target: Tensor, bias: Tensor | None,
               weight: Tensor | None, reduction: str, ignore_index: int,
               options: LinearCrossEntropyOptions) -> Tensor:
    single = input.ndim == 1
    if single:
        input, target = input.unsqueeze(0), target.reshape(1)
    n, features = input.shape
    classes = linear_weight.shape[0]
    if target.ndim != 1 or target.shape[0] != n:
        raise ValueError(f"Expected input batch_size ({n}) to match target batch_size "
                         f"({target.shape[0] if target.ndim else 0}).")
    if weight is not None and tuple(weight.shape) != (classes,):
        raise RuntimeError(f"weight tensor should be defined either for all {classes} classes or "
                           f"no classes but got weight tensor of shape: {list(weight.shape)}")
    check_floating(input, "linear_cross_entropy")
    summing = dtypes.wide(input._a.dtype) if options.acc_dtype is None else options.acc_dtype.np
    loss = T.linear_cross_entropy(
        input, linear_weight, target, bias, weight, reduction=reduction, ignore_index=ignore_index,
        chunk=options.chunk(n, features, classes), summing=summing)[0]
    return loss.squeeze(0) if single and reduction == "none" else loss


# Margins -----------------------------------------------------------------------------------------


def _rows(input: Tensor) -> Tensor:
    """Scores (n, c), (c,) or () as rows."""
    shape = input._a.shape
    if len(shape) > 2 or (shape and shape[-1] == 0):
        raise RuntimeError("Expected non-empty vector or matrix with optional 0-dim batch size, "
                           f"but got: {list(shape)}")
    return input if len(shape) == 2 else input.reshape(1, -1)


def _long(target: Tensor) -> None:
    if target.dtype is not dtypes.int64:
        raise RuntimeError(f"expected scalar type Long but found {type_name(target._a.dtype)}: "
                           "convert the target by target.long()")


def multi_margin_loss(input: Tensor, target: Tensor, p: int = 1, margin: float = 1.0,
                      weight: Tensor | None = None, size_average: bool | None = None,
                      reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """The mean over classes of max(0, margin - input[target] + input) ** p but for the target's.

    input is (n, c) or (c,), target (n,) or (), p 1 or 2; weight: a factor for each target class.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.ndim != 1:
        raise ValueError("weight must be one-dimensional")
    constant(weight, "multi_margin_loss", "weight")
    x = _rows(input)
    n, c = x._a.shape
    if target.numel() != n or target.ndim > 1:
        raise RuntimeError("multi_margin_loss: target tensor should be 1-D with size equal to the "
                           f"number of input samples (batch size). Expected target size [{n}], but "
                           f"got {list(target.shape)}. Input has shape {list(input.shape)}.")
    if weight is not None and weight.numel() != c:
        raise RuntimeError(f"inconsistent weight size, expected {c} but got {list(weight.shape)}")
    check_floating(input, "multi_margin_loss")
    _long(target)
    if weight is not None and weight.dtype is not input.dtype:
        raise RuntimeError(f"expected scalar type {type_name(input._a.dtype)} but found "
                           f"{type_name(weight._a.dtype)}: the weight must have the input's dtype")
    if target._be.checks_classes and ((target._a < 0) | (target._a >= c)).any():
        raise RuntimeError(f"target out of range: multi_margin_loss takes classes 0 .. {c - 1}")
    loss = T.multi_margin_loss(x, target.reshape(-1), weight, reduction=reduction, p=p,
                               margin=margin)
    return loss.squeeze(0) if reduction == "none" and target.ndim == 0 else loss


def multilabel_margin_loss(input: Tensor, target: Tensor, size_average: bool | None = None,
                           reduce: bool | None = None, reduction: str = "mean") -> Tensor:
    """The sum over targets i and other classes k of max(0, 1 - input[i] + input[k]), over classes.

    input and target are (n, c) or (c,); a row's targets end at the first -1.
    """
    reduction = reduction_of(reduction, size_average, reduce)
    x = _rows(input)
    if target._a.shape != input._a.shape:
        raise RuntimeError(f"inconsistent target size: {list(target.shape)} for input of size: "
                           f"{list(input.shape)}")
    check_floating(input, "multilabel_margin_loss")
    _long(target)
    if target._be.checks_classes and \
            ((target._a < -1) | (target._a >= x._a.shape[1])).any():
        raise RuntimeError("argument #2 'target' is out of range: multilabel_margin_loss takes "
                           f"classes 0 .. {x._a.shape[1] - 1}, and -1 behind them")
    loss = T.multilabel_margin_loss(x, target.reshape(x.shape), reduction=reduction)[0]
    return loss.squeeze(0) if reduction == "none" and input.ndim < 2 else loss


def multilabel_soft_margin_loss(input: Tensor, target: Tensor, weight: Tensor | None = None,
                                size_average: bool | None = None, reduce: bool | None = None,
                                reduction: str = "mean") -> Tensor:
    """The mean over classes, the last dim, of binary cross entropies of logits.

    target is of input's shape, 1 for classes that hold and else 0; weight: a factor for each class.
    """
    if size_average is not None or reduce is not None:
        reduction = reduction_of(reduction, size_average, reduce)
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    if weight is not None:
        loss = loss * weight
    dim = input.ndim - 1
    loss = loss.sum(dim=dim) / input.size(dim)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not valid")
    return reduced(loss, reduction)


# Alignments --------------------------------------------------------------------------------------


@casting.function
def ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any,
             blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> Tensor:
    """-log of the probability of label sequences of which it isn't known when each label comes.

    log_probs: (t, n, c), the result of log_softmax over the classes; or (t, c) for one sequence.
    targets: labels (n, s), or those of all sequences one after another. Lengths: how many times and
    labels each sequence has, as tuples or as integer tensors. blank: the class for no label.
    reduction "mean" divides each loss by its number of labels first, and takes the mean over n.
    zero_infinity: losses and gradients of sequences that are too short for their labels are 0.

    Lengths in a CUDA tensor are not read by the host, unless targets are one after another: then it
    has to wait for them. Lengths as tuples or in CPU tensors are checked, and cost no wait.
    """
    reduction = reduction_of(reduction)
    if isinstance(input_lengths, Tensor) != isinstance(target_lengths, Tensor):
        raise TypeError("ctc_loss(): input_lengths and target_lengths must both be tensors, or "
                        f"both tuples of ints, not {type(input_lengths).__name__} and "
                        f"{type(target_lengths).__name__}")
    single = log_probs.ndim == 2
    if single:
        log_probs = log_probs.unsqueeze(1)
        if targets.ndim == 1:
            targets = targets.unsqueeze(0)
    be, shape = log_probs._be, log_probs._a.shape
    if len(shape) != 3:
        raise RuntimeError(f"Expected 3-dimensional tensor, but got {len(shape)}-dimensional "
                           "tensor for argument #1 'log_probs' (while checking arguments for "
                           "ctc_loss)")
    if log_probs.numel() == 0:
        raise RuntimeError("log_probs tensor must not be empty")
    t, n, c = shape
    if log_probs._a.dtype not in (np.float32, np.float64):
        raise NotImplementedError("\"ctc_loss\" not implemented for "
                                  f"'{type_name(log_probs._a.dtype)}': take log_softmax in float32,"
                                  " as in x.log_softmax(-1, dtype=torch.float32)")
    inputs = _lengths(input_lengths, "input_lengths", n)
    labels = _lengths(target_lengths, "target_lengths", n)
    if not 0 <= blank < c:
        raise RuntimeError(f"blank must be in label range: 0 .. {c - 1}, not {blank}")
    _in_range(inputs, "input_lengths", t)
    _in_range(labels, "target_lengths", None)
    padded = _padded(targets, labels, n, be)
    if be.checks_classes:
        _check_labels(padded, labels, c)
    losses = T.ctc_loss(log_probs, padded, *[_on(v, be) for v in (inputs, labels)], blank=blank,
                        zero_infinity=zero_infinity)[0]
    if zero_infinity:
        losses = T.where(losses == math.inf, losses.new_zeros(()), losses)
    if single:
        losses = losses.squeeze(0)
    if reduction == "mean":
        counts = wrap(be.xp.maximum(_on(labels, be)._a, 1), be)
        counts = cast(counts, losses._a.dtype)
        return (losses / (counts.squeeze(0) if single else counts)).mean()
    return reduced(losses, reduction)


def _lengths(lengths: Any, name: str, n: int) -> Any:
    """Lengths as an array of int64: NumPy's if the host has them, else a tensor."""
    if isinstance(lengths, Tensor):
        if lengths._a.dtype.kind not in "iu":
            raise RuntimeError(f"{name} must be integral")
        lengths = lengths.detach().reshape(-1).long()
        count = lengths.shape[0]
        lengths = lengths if lengths._be.index else lengths._a
    else:
        lengths = np.array([int(v) for v in lengths], np.int64)
        count = len(lengths)
    if count != n:
        raise RuntimeError(f"{name} must be of size batch_size: {n}, not {count}")
    return lengths


def _in_range(lengths: Any, name: str, most: int | None) -> None:
    if isinstance(lengths, Tensor):
        return
    tail = "(while checking arguments for ctc_loss)"
    for v in lengths.tolist():
        if v < 0:
            raise RuntimeError(f"Expected {name} to have value at least 0, but got value {v} "
                               f"{tail}")
        if most is not None and v > most:
            raise RuntimeError(f"Expected {name} to have value at most {most}, but got value {v} "
                               f"{tail}")


def _padded(targets: Tensor, lengths: Any, n: int, be: Any) -> Tensor:
    """Targets as (n, s) of int64 on log_probs' device."""
    tail = "for argument #2 'targets' (while checking arguments for ctc_loss)"
    if targets.ndim not in (1, 2):
        raise RuntimeError(f"Expected 1 to 2 dimensions, but got {targets.ndim}-dimensional tensor "
                           f"{tail}")
    if targets.ndim == 2:
        if targets.shape[0] != n:
            raise RuntimeError(f"Expected tensor to have size {n} at dimension 0, but got size "
                               f"{targets.shape[0]} {tail}")
        if not isinstance(lengths, Tensor) and targets.shape[1] < (most := int(lengths.max())):
            raise RuntimeError(f"Expected tensor to have size at least {most} at dimension 1, but "
                               f"got size {targets.shape[1]} {tail}")
        return _on(targets.detach().long(), be)
    if isinstance(lengths, Tensor):
        lengths = lengths._be.to_host(lengths._a)
    total, most = int(lengths.sum()), int(lengths.max())
    if targets.shape[0] != total:
        raise RuntimeError(f"Expected tensor to have size {total} at dimension 0, but got size "
                           f"{targets.shape[0]} {tail}")
    if not total:
        return wrap(be.xp.zeros((n, 0), np.int64), be)
    first = np.cumsum(lengths) - lengths
    places = np.minimum(first[:, None] + np.arange(most), total - 1)
    flat = _on(targets.detach().long(), be)
    return wrap(flat._a[be.from_host(places)], be)


def _on(v: Any, be: Any) -> Tensor:
    """Integers, a tensor's or NumPy's, as a tensor of a backend."""
    if not isinstance(v, Tensor):
        return wrap(be.from_host(v), be)
    return v if v._be is be else wrap(be.from_device(v._a, v._be), be)


def _check_labels(targets: Tensor, lengths: Any, c: int) -> None:
    a = targets._a
    used = np.arange(a.shape[1]) < np.asarray(lengths).reshape(-1, 1)
    wrong = used & ((a < 0) | (a >= c))
    if wrong.any():
        raise IndexError(f"ctc_loss: target {int(a[wrong][0])} is out of bounds: labels are 0 .. "
                         f"{c - 1}")
