"""Arrays of any device, as a recorder looks at them: whose they are, elements, memory."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.backend import cpu
from gpugrad.backend.cuda import made as devices
from gpugrad.backend.cuda import on_device

HOST = (np.ndarray, np.generic)
LARGE = 1 << 18                 # bytes from which on a device makes the digest itself
_F32 = np.dtype(np.float32)     # numbers.cu is compiled for it, though no dtype plays a part


def is_array(x: Any) -> bool:
    """Is it an array, of the host or of a device?"""
    return isinstance(x, HOST) or any([type(x) is be.ndarray for be in devices()])


def home(a: Any) -> Any:
    """The backend of an array."""
    if isinstance(a, HOST):
        return cpu
    index = int(a.data.device_id)
    return next(be for be in devices() if be.id == index)


def is_number(a: Any) -> bool:
    """Is it a Python number, as a backend's ``number`` has it?"""
    if isinstance(a, HOST):
        return isinstance(a, np.generic) or (a.ndim == 0 and not a.flags.writeable)
    be = home(a)
    return a.ndim == 0 and any([a is x for x in (*be.number.values(), *be.zero.values())])


def digest(a: Any) -> Any:
    """Stands for the elements of an array."""
    if isinstance(a, HOST):
        return hash(a.tobytes())
    be = home(a)
    if a.nbytes < LARGE or a.nbytes % 4 or not be.takes(_F32):
        return hash(be.cupy.asnumpy(a).tobytes())
    return on_device(be.cupy.cuda.runtime, be.id, _sum_of_words, (be, a), {})


def _sum_of_words(be: Any, a: Any) -> int:
    """A digest that the device makes: it would take long to copy large arrays."""
    if not a.flags.forc or be.address(a) % 4:
        a = a.copy()
    words = type(a)((a.nbytes // 4,), np.uint32, a.data)
    blocks = min(1024, -(-words.size // 256))
    sums = type(a)((blocks,), np.uint64)            # not by the backend, which is heard
    be.launch("numbers", "digest", (blocks,), (256,), (words, np.int64(words.size), sums), _F32)
    return int(be.cupy.asnumpy(sums).sum())


def changes(a: Any) -> bool:
    """Can it be written to?"""
    return a.flags.writeable if isinstance(a, np.ndarray) else not isinstance(a, HOST)


def bounds(a: Any) -> tuple[int, int]:
    """Where its memory begins and ends."""
    low = high = home(a).address(a)
    for n, step in zip(a.shape, a.strides):
        if step < 0:
            low += (n - 1) * step
        else:
            high += (n - 1) * step
    return low, high + a.itemsize


def share(a: Any, b: Any) -> bool:
    """May two arrays have memory in common?"""
    if isinstance(a, HOST) or isinstance(b, HOST):
        return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and \
            np.may_share_memory(a, b)
    if not a.size or not b.size:
        return False
    (low, high), (start, end) = bounds(a), bounds(b)
    return home(a) is home(b) and low < end and start < high


def accumulate_copy(like: Any, g: Any) -> Any:
    """What AccumulateGrad keeps of a gradient that somebody else may hold."""
    out = home(like).xp.empty_like(like)
    out[...] = g
    return out


def duplicate(a: Any) -> Any:
    """Its elements in new memory, which is laid out alike."""
    return a.copy("K")


def put(a: Any, result: Any) -> None:
    a[...] = result


def view_of(a: Any, order: Any, offset: int, shape: Any, strides: Any, dtype: Any) -> Any:
    """Another view of the memory of an array, whose dims in that order are contiguous."""
    if isinstance(a, np.ndarray):
        return np.ndarray(shape, dtype, a.transpose(order), offset, strides)
    return type(a)(shape, dtype, a.data + offset, strides)


def region(arrays: list[Any]) -> tuple[int, int]:
    """Where the memory of some arrays, of which one has elements at least, begins and ends."""
    ends = [bounds(a) for a in arrays if a.size]
    return min([low for low, _ in ends]), max([high for _, high in ends])


def moved(arrays: list[Any], copy: bool) -> list[Any]:
    """New memory for arrays of a device that lie together, and views of it as they lay."""
    be, kind = home(arrays[0]), type(arrays[0])
    low, high = region(arrays)
    new = kind((high - low,), np.uint8)
    if copy:
        new[...] = kind((high - low,), np.uint8, arrays[0].data + (low - be.address(arrays[0])))
    return [kind(a.shape, a.dtype, new.data + (be.address(a) - low if a.size else 0), a.strides)
            for a in arrays]


def alike(a: Any) -> Any:
    """New memory laid out as that of a device's array."""
    return home(a).xp.empty_like(a) if a.flags.forc or not a.size else moved([a], False)[0]


def copied(arrays: list[Any]) -> list[Any]:
    """Copies of a device's arrays; those that share memory share it again."""
    out: list[Any] = [None] * len(arrays)
    for i, a in enumerate(arrays):
        if out[i] is None:
            group = [i]                         # grows while it is gone through
            for k in group if len(arrays) > 1 else ():
                group += [j for j, b in enumerate(arrays) if j not in group and share(arrays[k], b)]
            if len(group) == 1 and (a.flags.forc or not a.size):
                out[i] = a.copy("K")
            else:
                for j, new in zip(group, moved([arrays[j] for j in group], True)):
                    out[j] = new
    return out
