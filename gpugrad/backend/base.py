"""What an op may ask of a device. Everything else goes through ``xp``, NumPy's or CuPy's module."""
from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from gpugrad.backend import columns, error_function
from gpugrad.device import device as Device
from gpugrad.dtypes import HALF, OF

MANY = 2000         # elements from which on a call of the compiled helper is the faster
SHARED = 1 << 18    # multiplications from which on a product is the compiled helper's, see cpu.py


def one_object(dtype: Any) -> Any:
    """The object that arrays here have for a dtype: ops compare dtypes by identity, and a pickled
    one, though equal to it, is another."""
    own = OF.get(dtype)
    return dtype if own is None else own.np


class Numbers(dict[Any, Any]):
    """``be.number[2.0, dtype]``: a Python number as a cached 0-dim array.

    NumPy takes 0.6 us longer for a bare number than for such an array.
    """

    def __init__(self, be: Backend) -> None:
        self.be = be

    def __missing__(self, key: tuple[Any, Any]) -> Any:
        value, dtype = key
        if hasattr(value, "item"):               # a tensor, whose number may change
            return self[value.item(), dtype]
        a = self.be.scalar(value, one_object(dtype))
        # 0.0 and -0.0 would share a place; what is made in a capture is written at its replays only
        if (value != 0 or type(value) is int) and not self.be.capturing:
            if len(self) > 256:
                self.clear()
            self[key] = a
        return a


class Zeros(dict[Any, Any]):
    """``be.zero[dtype]``: the commonest number, found twice as fast."""

    def __init__(self, be: Backend) -> None:
        self.be = be

    def __missing__(self, dtype: Any) -> Any:
        a = self.be.scalar(0, one_object(dtype))
        if not self.be.capturing:
            self[dtype] = a
        return a


class LowerBounds(dict[Any, Any]):
    """``be.least[dtype]``: 0, for dtypes of numbers that are above or below it; else TypeError."""

    def __init__(self, be: Backend) -> None:
        self.be = be

    def __missing__(self, dtype: Any) -> Any:
        if dtype.kind in "bc":
            raise TypeError(f"{dtype} has no order")
        a = self.be.zero[dtype]
        if not self.be.capturing:
            self[dtype] = a
        return a


class Backend:
    """The contract, in NumPy's words; a device overrides what it has better ways for."""

    xp: Any = np
    ndarray: Any = np.ndarray
    index = 0                 # which implementation of an op: 0 forward, 1 cuda, 2 cuda, guarded
    checks_classes = True     # raise for target classes out of range: a GPU would have to wait
    capturing = False         # a step is being recorded: no host reads, no compilation
    capturing_ops = False     # and by graph_step, which knows all that is constant
    raw: Any = None           # the ops on raw arrays; set by autograd.op
    device: Device
    name: str                 # "cpu", "cuda:0"
    prefix = "torch."         # of tensor type names: torch.FloatTensor, torch.cuda.FloatTensor
    generator: Any            # this device's default random generator
    widens_products = True    # products of 16 bits are made of copies in float32
    worth_sharing = 1 << 62   # multiplications that several threads do faster than one
    element_cost = 100        # what ops do to an element takes as long as so many of them
    column_bytes = 1 << 20    # how many bytes of im2col columns a convolution makes at a time
    chunk = 1 << 16           # how many elements an update takes at a time: several such arrays
                              # fit a core's L2 cache; shorter calls have threads wait for others

    def __init__(self, d: Device) -> None:
        self.device, self.name = d, str(d)
        # Read by every op: CPython finds an attribute of the object faster than one of its class.
        self.index, self.ndarray = self.index, self.ndarray
        self.number, self.zero, self.least = Numbers(self), Zeros(self), LowerBounds(self)
        self._scratch = threading.local()

    # Memory --------------------------------------------------------------------------------------

    def asarray(self, a: Any) -> Any:
        """``a`` as this device's array type: scalars of NumPy become 0-dim arrays."""
        return np.asarray(a)

    def scalar(self, value: Any, dtype: Any) -> Any:
        """A Python number as a read-only 0-dim array."""
        a = np.asarray(value, dtype)
        a.flags.writeable = False
        return a

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """New memory, C order, not initialised."""
        return self.xp.empty(shape, dtype)

    def copy(self, a: Any) -> Any:
        """A copy in C order."""
        return self.xp.array(a, order="C")

    def from_host(self, a: Any, non_blocking: bool = False) -> Any:
        """A NumPy array copied to this device; non_blocking: pinned memory without waiting."""
        return self.copy(a)

    def from_device(self, a: Any, source: Backend, non_blocking: bool = False) -> Any:
        """An array of another backend copied to this device."""
        return source.to_host(a, non_blocking)

    def to_host(self, a: Any, non_blocking: bool = False) -> Any:
        """The NumPy array of a device array: the only read by the host that ops may make.

        non_blocking: in pinned memory, and filled when the device's current stream has come so far.
        """
        return a

    def read(self, a: Any) -> Any:
        """The one element of an array as a Python number."""
        return self.to_host(a).item()

    def holds(self, condition: Any) -> bool:
        """Does the condition hold for every element? The host waits for the answer."""
        return bool(self.to_host(condition.all()))

    def into_host(self, a: Any, out: Any) -> bool:
        """Copy a to ``out`` without waiting, if that is in pinned memory; False if it isn't."""
        return False

    def guard(self, f: Any) -> Any:
        """f, run with this device as the current one: f itself unless there are several GPUs."""
        return f

    def record_use(self, a: Any, stream: Any) -> None:
        """Keep the memory of ``a`` until another stream has done its work with it."""

    def is_contiguous(self, a: Any) -> bool:
        return bool(a.flags.c_contiguous)

    def address(self, a: Any) -> int:
        """Where the first element lies in the device's memory."""
        return int(a.__array_interface__["data"][0])

    def begins_like(self, a: Any, b: Any) -> bool:
        """Do two arrays, of which none is empty, have the same first element in memory?"""
        return self.address(a) == self.address(b)

    def is_dense(self, a: Any) -> bool:
        """Does a fill its memory without gaps or overlaps, so that it can be added to in place?"""
        return bool(a.flags.forc and a.flags.writeable)

    def root(self, a: Any) -> Any:
        """The array that has the memory which ``a`` is a view of."""
        while True:
            base = getattr(a, "base", None)
            if not isinstance(base, self.ndarray):      # NumPy's as_strided puts an object between
                base = getattr(base, "base", None)
                if not isinstance(base, self.ndarray):
                    return a
            a = base

    def writable(self, a: Any) -> Any:
        """a, made writable: NumPy's broadcast arrays aren't."""
        return a

    def expand(self, x: Any, shape: tuple[int, ...]) -> Any:
        """broadcast_to, ten times faster for the 0-dim gradients of losses."""
        if x.ndim:
            return self.xp.broadcast_to(x, shape)
        out = np.ndarray(shape, x.dtype, x if type(x) is np.ndarray else np.asarray(x), 0,
                         (0,) * len(shape))
        out.flags.writeable = False
        return out

    def workspace(self, key: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """Scratch memory of this thread, reused by every call with the same key and dtype.

        Its contents last until the next call with that key: never return it from an op.
        """
        n = 1
        for s in shape:
            n *= s
        held: dict[Any, Any] = self._scratch.__dict__
        buffer = held.get((key, dtype))
        if buffer is None or buffer.size < n:
            buffer = held[key, dtype] = self.xp.empty(n, dtype)
        return buffer[:n].reshape(shape)

    def share(self, work: Any, items: Iterable[Any], cost: int, take: Any = None) -> None:
        """work(item) of each, take(result) in order; by threads if so many multiplications pay."""
        if cost >= self.worth_sharing:
            from gpugrad.backend import threads

            threads.share(work, list(items), take)
        elif take is None:
            for item in items:
                work(item)
        else:
            for item in items:
                take(work(item))

    def sum_of(self, work: Any, items: Iterable[Any], cost: int) -> Any:
        """The sum of the arrays work(item), new ones, in order; None of none."""
        total: Any = None

        def add(part: Any) -> None:
            nonlocal total
            if total is None:
                total = part
            else:
                total += part

        self.share(work, items, cost, add)
        return total

    # Arithmetic ----------------------------------------------------------------------------------

    def matmul(self, a: Any, b: Any, out: Any = None, dtype: Any = None) -> Any:
        """a @ b with batch dims broadcast; transposed operands are read in place.

        The dtypes of 16 bits are multiplied and summed in float32; dtype=float32 returns that.
        """
        if a.itemsize == 2 and a.dtype in HALF:  # to hash a dtype takes twice as long
            r = np.matmul(a.astype(np.float32), b.astype(np.float32))
            if out is None:
                return r.astype(dtype or a.dtype, copy=False)
            out[...] = r
            return out
        if a.ndim == b.ndim == 2:
            if SHARED < a.size * b.shape[1]:
                found = self.product(a, b, out)
                if found is not None:
                    return found
            return a.dot(b) if out is None else np.dot(a, b, out)       # np.dot asks Python first
        if SHARED < a.size * b.shape[-1]:
            return self.products(a, b, out)
        return np.matmul(a, b, out) if out is not None else np.matmul(a, b)

    def product(self, a: Any, b: Any, out: Any) -> Any:
        """a @ b of two large matrices in a better way than np.dot's, or None."""
        return None

    def products(self, a: Any, b: Any, out: Any) -> Any:
        """a @ b of large arrays with batch dims."""
        return np.matmul(a, b, out=out)

    def in_float32(self, op: Any, *arrays: Any, **constants: Any) -> Any:
        """An op's forward of arrays of 16 bits, computed in float32 and rounded once.

        For forwards of several steps, which else would round after each.
        """
        dtype = next(a.dtype for a in arrays if a is not None and a.dtype in HALF)
        wide = [a.astype(np.float32) if a is not None and a.dtype in HALF else a for a in arrays]
        return op.spec.forward(self, *wide, **constants).astype(dtype)

    def keep(self, x: Any, mask: Any) -> Any:
        """x where the mask, an array of bools, holds, else 0."""
        return self.xp.where(mask, x, self.number[0, x.dtype])

    def drop(self, x: Any, mask: Any) -> Any:
        """0 where the mask, an array of bools, holds, else x."""
        return self.xp.where(mask, self.number[0, x.dtype], x)

    def sums_at(self, places: Any, weights: Any, n: int) -> Any:
        """(n,): the sum of the weights at each place, or how often it occurs if weights is None.

        places: 1-dim, from 0 to n - 1.
        """
        return self.xp.bincount(places, weights, n)

    def erf(self, x: Any) -> Any:
        """The error function."""
        return error_function.erf(x)

    def diagonal(self, x: Any, offset: int, dim1: int, dim2: int) -> Any:
        """A writable view of a diagonal, as a last dim."""
        xp = self.xp
        a = self.writable(xp.moveaxis(x, (dim1, dim2), (-2, -1)))
        a = a[..., offset:] if offset >= 0 else a[..., -offset:, :]
        steps = (*a.strides[:-2], a.strides[-2] + a.strides[-1])
        return xp.lib.stride_tricks.as_strided(a, (*a.shape[:-2], min(a.shape[-2:])), steps)

    # Windows -------------------------------------------------------------------------------------

    def im2col(self, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any,
               out: Any = None) -> Any:
        """(n, c, h, w) to the columns (n, c * kh * kw, oh * ow), padded with zeros.

        kernel, stride, padding and dilation are pairs (rows, columns); out may be given.
        """
        return columns.im2col(self.xp, x, kernel, stride, padding, dilation, out)

    def col2im(self, cols: Any, shape: Any, kernel: Any, stride: Any, padding: Any, dilation: Any,
               out: Any = None) -> Any:
        """im2col's transpose: adds each column back to where it was read, giving ``shape``."""
        return columns.col2im(self.xp, cols, shape, kernel, stride, padding, dilation, out)

    # Kernels -------------------------------------------------------------------------------------

    def takes(self, dtype: Any) -> bool:
        """Whether CUDA kernels run here on arrays of this dtype; else the portable text must do."""
        return False

    def launch(self, file: str, name: str, grid: Any, block: Any, args: Any, dtype: Any) -> None:
        raise NotImplementedError(f"the {self.name} device runs no CUDA kernels ({file}.{name})")

    def helped(self, name: str, *arrays: Any, numbers: Any = ()) -> Any:
        """What a kernel of the CPU's compiled helper makes of each element, or NotImplemented."""
        return NotImplemented

    def total(self, x: Any, dim: Any) -> Any:
        """The sum of float32 over the first or the last dims as one dim, or None."""
        return None

    def map(self, file: str, name: str, *arrays: Any, numbers: Any = ()) -> Any:
        raise NotImplementedError(f"the {self.name} device runs no CUDA kernels ({file}.{name})")

    def synchronize(self) -> None:
        """Wait until the device has done all its work."""
