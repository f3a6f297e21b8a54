"""torch.memory_format and torch.layout, the two ways in which memory may be arranged."""
from __future__ import annotations

from typing import Any


class _Named:
    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __reduce__(self) -> str:
        return self.name


class memory_format(_Named):
    """The order of the elements of a tensor in memory."""


class layout(_Named):
    """How a tensor is stored; there is only one here."""


contiguous_format = memory_format("contiguous_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")
preserve_format = memory_format("preserve_format")
strided = layout("strided")

# The dims from the longest step to the shortest, for the formats that say it.
ORDERS = {channels_last: (0, 2, 3, 1), channels_last_3d: (0, 2, 3, 4, 1)}
_INWARDS = {4: (1, 3, 2, 0), 5: (1, 4, 3, 2, 0)}        # backwards, by how many dims there are


def memory_order(a: Any) -> list[int]:
    """The dims of an array from the one with the longest step to the one with the shortest.

    Dims of equal steps, and dims that repeat their elements, keep their places.
    """
    dims = list(range(a.ndim))
    for end in range(1, a.ndim):                 # an insertion sort, as repeated dims don't compare
        i = end
        for j in range(end - 1, -1, -1):
            before, this = a.strides[dims[j]], a.strides[dims[i]]
            if before == 0 or this == 0:
                continue
            if before > this or (before == this and a.shape[dims[j]] >= a.shape[dims[i]]):
                break
            dims[i], dims[j] = dims[j], dims[i]
            i = j
    return dims


def is_last(a: Any) -> bool:
    """Does PyTorch take images or volumes for channels_last, gaps or not? If several formats fit,
    they are contiguous.
    """
    if a.ndim not in _INWARDS or 0 in a.shape:
        return False
    steps = a.strides
    if not steps[1] or (a.shape[1] > 1 and steps[1] > steps[-1] and a.shape[-1] > 1):
        return False                             # most contiguous ones
    least = 0
    for d in _INWARDS[a.ndim]:
        if steps[d] < least or (d == 0 and least == steps[1]):
            return False
        least = steps[d] * a.shape[d]
    return True


def as_pixels(a: Any) -> Any:
    """The view (n, ..., c) of images (n, c, ...): in C order if they are channels_last."""
    return a.transpose(0, 2, 3, 1) if a.ndim == 4 else a.transpose(0, *range(2, a.ndim), 1)


def as_images(a: Any) -> Any:
    """as_pixels' inverse."""
    return a.transpose(0, 3, 1, 2) if a.ndim == 4 else a.transpose(
        0, a.ndim - 1, *range(1, a.ndim - 1))


def in_pixels(dim: int, ndim: int) -> int:
    """Where a dim of images of ``ndim`` dims is in as_pixels() of them."""
    return ndim - 1 if dim == 1 else max(dim - 1, 0)


def in_order(a: Any) -> list[int] | None:
    """The dims in their order in memory, if that isn't C order and the array has no gaps."""
    if a.flags.c_contiguous:
        return None
    order = memory_order(a)
    return order if a.transpose(order).flags.c_contiguous else None
