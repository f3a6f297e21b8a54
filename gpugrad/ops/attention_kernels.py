"""How attention's CUDA kernels are launched: kernels/attention_mma.cu and attention_mma_backward.cu
on tensor cores, attention.cu for everything else that goes by tiles.

Shapes are those of ops/attention.py.
"""
from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gpugrad.backend.kernels import acc
from gpugrad.backend.precision import matmul
from gpugrad.backend.random import PhiloxGenerator, below
from gpugrad.dtypes import HALF, wide
from gpugrad.layouts import in_order
from gpugrad.ops.shape import together

# structs of kernels/attention.cuh
STRIDES = np.dtype([(f, np.int64) for f in "image head row".split()])
STRUCT = np.dtype([(f, np.int32) for f in ("heads group length keys features values causal "
                                           "masked").split()]
                  + [(f, np.int64) for f in "image head row key".split()]
                  + [(f, STRIDES) for f in "q k v out gq gk gv".split()])
# how many rows of this many bytes a block holds
FORWARD = {256: 64, 512: 32, 1024: 16}
BACKWARD = {256: 32, 512: 32, 1024: 8}
# ... and its threads
MMA_FORWARD = {128: (128, 128), 256: (128, 128), 512: (64, 128)}
MMA_BACKWARD = {128: (128, 128), 256: (64, 128), 512: (32, 64)}
ROOM = 64, 128                                   # features and values that kernels have room for
FAR = 1 << 24                                    # elements from one row to the next
NOWHERE = 0, 0, 0
NULL = np.uint64(0)


def plan_for(be: Any, q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float,
             drop: Any = None) -> Any:
    """What launches kernels for these arrays; None if there are none.

    drop: (state, offset, keep) of a dropout of the weights, as in ops/dropout.py.
    """
    if not fits(be, q, k, v, mask):
        return None
    if not on_tensor_cores(be, q, v, scale):
        return None if drop else Plan(be, q, k, v, mask, causal, scale)
    plan = MmaPlan(be, q, k, v, mask, causal, scale)
    if drop:
        state, offset, keep = drop
        plan.drop = be._dense(state), np.uint64(offset), np.uint64(below(keep)), \
            np.float32(scale_of(q.dtype, keep))
    return plan


def can_drop(be: Any, q: Any, k: Any, v: Any, mask: Any, scale: float) -> bool:
    """Whether kernels can draw which weights to drop."""
    return (isinstance(be.generator, PhiloxGenerator) and fits(be, q, k, v, mask)
            and on_tensor_cores(be, q, v, scale))


def scale_of(dtype: Any, keep: float) -> float:
    """What weights that are kept are multiplied by."""
    return float(dtype.type(1) / dtype.type(keep))


def fits(be: Any, q: Any, k: Any, v: Any, mask: Any) -> bool:
    """Are there kernels? For one query its row of scores is no waste."""
    dtype, (n, h, length, e), (s, ev) = q.dtype, q.shape, v.shape[2:]
    return (be.takes(dtype) and dtype == k.dtype == v.dtype and length > 1
            and bool(q.size and k.size and v.size) and max(e, ev) <= ROOM[-1]
            and n * h * -(-max(length, s) // 8) < 1 << 31       # blocks of the smallest tiles
            and 3 * h * max(e, ev) < FAR
            and (mask is None or mask.dtype in (dtype, bool)))


def on_tensor_cores(be: Any, q: Any, v: Any, scale: float) -> bool:
    """Whether tensor cores multiply these: rows are whole chunks of 16 bytes, and the largest score
    belongs to the largest product."""
    dtype = q.dtype
    chunk = 16 // dtype.itemsize
    return ((dtype in HALF or (dtype == np.float32 and matmul.tf32))
            and not q.shape[3] % chunk and not v.shape[3] % chunk and 1e-30 < scale < 1e30
            and be.gemm.capability() >= 80)


class Masked:
    """What plans share: the kernels' name and numbers, and the mask."""

    def __init__(self, be: Any, q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float
                 ) -> None:
        self.be, self.dtype, self.scale = be, q.dtype, acc(scale, q.dtype)
        (_, h, length, e), (_, shared, s, _), ev = q.shape, k.shape, v.shape[3]
        self.room = ROOM[0] if max(e, ev) <= ROOM[0] else ROOM[1]
        self.mask = None
        kind: int = 0
        steps: tuple[int, ...] = (0,) * 4
        if mask is not None:
            self.mask = be._dense(once_only(mask))
            kind = 1 if mask.dtype == bool else 2
            steps = tuple([step // self.mask.itemsize if size > 1 else 0
                           for step, size in zip(self.mask.strides, self.mask.shape)])
        self.numbers = h, h // shared, length, s, e, ev, causal, kind, *steps

    def results(self, q: Any, v: Any) -> tuple[Any, Any, Any]:
        """The backend, and new memory for what forward gives."""
        be = self.be
        return (be, laid_out(be, (*q.shape[:3], v.shape[3]), q.dtype, q),
                be.empty(q.shape[:3], wide(q.dtype)))

    def masks(self, absent: Any) -> tuple[Any, Any]:
        """The mask as the two arguments that a kernel has for it."""
        if self.mask is not None and self.mask.dtype == bool:
            return self.mask, absent
        return self.be.number[0, np.dtype(bool)], absent if self.mask is None else self.mask


class Plan(Masked):
    """How the kernels of attention.cu are launched. Results lie as the arguments do."""

    def forward(self, q: Any, k: Any, v: Any) -> tuple[Any, Any]:
        be, out, lse = self.results(q, v)
        (q, k, v, o), at = located(be, q, k, v, out, chunk=1)
        self.launch("attention", FORWARD, lse.shape[0] * lse.shape[1], lse.shape[2],
                    (q, k, v, *self.masks(q), o, lse), (*at, NOWHERE, NOWHERE, NOWHERE))
        return out, lse

    def backward(self, g: Any, q: Any, k: Any, v: Any, out: Any, lse: Any) -> tuple[Any, ...]:
        (n, h, length), (shared, keys), be = lse.shape, k.shape[1:3], self.be
        found, delta = gradients(be, q, k, v), be.empty(lse.shape, lse.dtype)
        (q, k, v, g, out, gq, gk, gv), at = located(be, q, k, v, g, out, *found, chunk=1)
        of_out = at.pop(4)
        masks = self.masks(q)
        self.launch("attention_queries", BACKWARD, n * h, length,
                    (g, q, k, v, out, lse, delta, *masks, gq), (*at[:5], of_out, NOWHERE))
        self.launch("attention_keys", BACKWARD, n * shared, keys,
                    (g, q, k, v, lse, delta, *masks, gk, gv), tuple(at))
        return found

    def launch(self, name: str, rows: dict[int, int], planes: int, length: int, arrays: Any,
               at: Any) -> None:
        """A block for each tile of ``length`` rows in each of ``planes`` heads."""
        held = rows[self.room * wide(self.dtype).itemsize]
        self.be.launch("attention", f"{name}_{self.room}", (planes * -(-length // held),),
                       (16, min(held, 16)), (*arrays, packed(self.numbers, at), self.scale),
                       self.dtype)


class MmaPlan(Masked):
    """How the kernels on tensor cores are launched. Results lie as the arguments do."""

    drop: tuple[Any, ...] = NULL, NULL, NULL, np.float32(1)     # as DROPOUT of the header

    def forward(self, q: Any, k: Any, v: Any) -> tuple[Any, Any]:
        be, out, lse = self.results(q, v)
        (q, k, v, o), at = located(be, q, k, v, out)
        self.launch("attention_mma", "", MMA_FORWARD, lse.shape[0] * lse.shape[1], lse.shape[2],
                    (q, k, v, *self.masks(q), o, lse), (*at, NOWHERE, NOWHERE, NOWHERE))
        return out, lse

    def backward(self, g: Any, q: Any, k: Any, v: Any, out: Any, lse: Any) -> tuple[Any, ...]:
        be, (n, h, length), (shared, keys) = self.be, lse.shape, k.shape[1:3]
        found, delta = gradients(be, q, k, v), be.empty(lse.shape, lse.dtype)
        (q, k, v, g, out, gq, gk, gv), at = located(be, q, k, v, g, out, *found)
        of_out = at.pop(4)
        be.launch("attention_mma_backward", "attention_mma_delta", (-(-lse.size // 16),), (256,),
                  (g, out, delta, packed(self.numbers, (*at[:4], of_out, of_out, of_out)),
                   np.int64(lse.size)), self.dtype)
        given = g, q, k, v, lse, delta, *self.masks(q)
        for name, planes, rows, to in (("queries_", n * h, length, (gq,)),
                                       ("keys_", n * shared, keys, (gk, gv))):
            self.launch("attention_mma_backward", name, MMA_BACKWARD, planes, rows,
                        (*given, *to), tuple(at))
        return found

    def launch(self, file: str, name: str, tiles: dict[int, tuple[int, int]], planes: int,
               rows: int, arrays: Any, at: Any) -> None:
        """A block for each tile of ``rows`` rows in each of ``planes`` heads."""
        held, threads = tiles[self.room * self.dtype.itemsize]
        self.be.launch(file, f"attention_mma_{name}{self.room}", (planes * -(-rows // held),),
                       (threads,),
                       (*arrays, *self.drop, packed(self.numbers, at), self.scale), self.dtype)


def located(be: Any, *arrays: Any, chunk: int = 16) -> tuple[list[Any], list[tuple[int, ...]]]:
    """The memory that arrays lie in, in a row, and the distances of their images, heads and rows.

    Rows begin at multiples of ``chunk`` bytes: an array where they don't, or have gaps, or are
    too far apart, is copied.
    """
    found, at = [], []
    for a in arrays:
        size = a.itemsize
        steps = [step if n > 1 else 0 for n, step in zip(a.shape, a.strides)]
        if (steps[3] != size and a.shape[3] > 1) or be.address(a) % chunk or any(
                [s % chunk or s < 0 for s in steps[:3]]) or steps[2] >= FAR * size:
            a = be.copy(a)
            steps = list(a.strides)
        at.append(tuple([step // size for step in steps[:3]]))
        if not a.flags.c_contiguous:
            last = sum(step * (n - 1) for n, step in zip(a.shape, steps))
            a = be.xp.lib.stride_tricks.as_strided(a, (last // size + 1,), (size,))
        found.append(a)
    return found, at


@functools.lru_cache(1024)
def packed(numbers: tuple[Any, ...], at: tuple[Any, ...]) -> Any:
    """struct Attention."""
    return np.array((*numbers, *at), STRUCT)


def once_only(mask: Any) -> Any:
    """A mask with the dims in which it is broadcast, and repeats its memory, of size 1."""
    return mask[tuple([slice(0, 1) if step == 0 else slice(None) for step in mask.strides])]


def gradients(be: Any, q: Any, k: Any, v: Any) -> tuple[Any, ...]:
    """New memory for the gradients, in the order of q, k and v: in one piece if these are all of
    one, so that the gradient of what made them of it is that piece (ops/shape.py)."""
    whole = together(be, [q, k, v], 0)
    if whole is None:
        return tuple([laid_out(be, a.shape, a.dtype, a) for a in (q, k, v)])
    order = in_order(whole) or [*range(5)]
    if order[-1] != 4 or not whole.transpose(order).flags.c_contiguous:
        return tuple([laid_out(be, a.shape, a.dtype, a) for a in (q, k, v)])
    new = be.empty([whole.shape[d] for d in order], q.dtype)
    return tuple(new.transpose(np.argsort(order).tolist()))


def laid_out(be: Any, shape: Any, dtype: Any, like: Any) -> Any:
    """New memory for (b, h, l, e), in the order of ``like``: (b, h, l, e), or (b, l, h, e), which
    is that of heads that were split off a longer last dim."""
    n, h, length, e = shape
    if like.strides[1] < like.strides[2]:
        return be.empty((n, length, h, e), dtype).transpose(0, 2, 1, 3)
    return be.empty(shape, dtype)
