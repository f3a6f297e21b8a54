"""Padding: a number, the mirrored or repeated edge, or the other side."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.functions.shape import cat
from gpugrad.layouts import is_last


def pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """Numbers before and after the last dim, the dim before it, and so on; negative ones cut away.

    mode "constant" fills with ``value`` (0), "reflect" mirrors at the edge, "replicate" repeats the
    edge, "circular" goes on at the other side.
    """
    sizes = _pad_sizes(pad)
    ndim = input.ndim
    if len(sizes) > 2 * ndim:
        raise RuntimeError("Padding length should be less than or equal to two times the input "
                           f"dimension but got padding length {len(sizes)} and input of dimension "
                           f"{ndim}")
    sides = [(ndim - 1 - i, sizes[2 * i], sizes[2 * i + 1]) for i in range(len(sizes) // 2)]
    if mode == "constant":
        return _pad_constant(input, sides, 0.0 if value is None else value)
    if mode not in _PADDERS:
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if value is not None and value != 0:
        raise RuntimeError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if not 1 <= len(sides) <= 3 or ndim - len(sides) not in (1, 2):
        raise NotImplementedError(f"Padding size {len(sizes)} is not supported for {ndim}D input "
                                  "tensor.")
    if is_last(input._a):                       # as (n, ..., c), which every step keeps
        x = _around(input.movedim(1, -1), [(d - 1, *by) for d, *by in sides], mode)
        return x.movedim(-1, 1)
    return _around(input, sides, mode)


def _around(input: Tensor, sides: Any, mode: str) -> Tensor:
    x = _cut(input, sides)
    for dim, before, after in reversed(sides):
        before, after = max(before, 0), max(after, 0)
        if before or after:
            x = _PADDERS[mode](x, dim, before, after)
    return x


def _pad_sizes(pad: Any) -> list[int]:
    for i, n in enumerate(pad):
        if not hasattr(n, "__index__"):
            raise TypeError("pad(): argument 'pad' (position 2) must be tuple of ints, but found "
                            f"element of type {type(n).__name__} at pos {i}")
    if len(pad) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    return [n.__index__() for n in pad]


def _cut(x: Tensor, sides: list[tuple[int, int, int]]) -> Tensor:
    """Take away what negative padding says."""
    for dim, before, after in sides:
        cut, keep = max(-before, 0), x.shape[dim] - max(-before, 0) - max(-after, 0)
        if keep < 0:
            raise RuntimeError(f"pad: the negative padding ({before}, {after}) takes more than "
                               f"dimension {dim} of input {list(x.shape)} has")
        if keep != x.shape[dim]:
            x = x.narrow(dim, cut, keep)
    return x


def _pad_constant(input: Tensor, sides: list[tuple[int, int, int]], value: float) -> Tensor:
    wanted = [(0, 0)] * input.ndim
    for dim, before, after in sides:
        wanted[dim] = before, after
        if input.shape[dim] + before + after < 0:
            raise RuntimeError(f"The input size {input.shape[dim]}, plus negative padding {before} "
                               f"and {after}, resulted in a negative output size, which is "
                               f"invalid. Check dimension {dim} of your input.")
    return T.constant_pad_nd(input, sides=tuple(wanted), value=value)


def constant_pad_nd(input: Tensor, pad: Any, value: float = 0) -> Tensor:
    """pad with mode "constant"."""
    return _pad(input, pad, value=value)


def _pad_reflect(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    n = x.shape[dim]
    if before >= n or after >= n:
        raise RuntimeError("Padding size should be less than the corresponding input dimension, "
                           f"but got: padding ({before}, {after}) at dimension {dim} of input "
                           f"{list(x.shape)}")
    return _joined(x.narrow(dim, 1, before).flip(dim), x,
                   x.narrow(dim, n - 1 - after, after).flip(dim), dim)


def _pad_replicate(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    n = x.shape[dim]
    if n == 0:
        raise RuntimeError(f"pad: dimension {dim} of input {list(x.shape)} has no edge to "
                           "replicate")

    def repeated(edge: Tensor, times: int) -> Tensor:
        return edge.expand(*[times if d == dim else -1 for d in range(x.ndim)])

    return _joined(repeated(x.narrow(dim, 0, 1), before), x,
                   repeated(x.narrow(dim, n - 1, 1), after), dim)


def _pad_circular(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    n = x.shape[dim]
    if before > n or after > n:
        raise RuntimeError("Padding value causes wrapping around more than once.")
    return _joined(x.narrow(dim, n - before, before), x, x.narrow(dim, 0, after), dim)


def _joined(before: Tensor, x: Tensor, after: Tensor, dim: int) -> Tensor:
    return cat([t for t in (before, x, after) if t.shape[dim]], dim)


_PADDERS: dict[str, Callable[[Tensor, int, int, int], Tensor]] = {
    "reflect": _pad_reflect, "replicate": _pad_replicate, "circular": _pad_circular}

_pad = pad
