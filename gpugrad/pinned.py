"""Tensors in pinned host memory, which a GPU reads and writes while the program goes on."""
from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

from gpugrad._tensor import Tensor, wrap
from gpugrad.backend import cpu
from gpugrad.backend.copies import is_pinned as _lies_pinned
from gpugrad.backend.copies import pinned


def _cupy() -> tuple[Any, str]:
    """(CuPy or None, why CUDA can't be used), looked for at the first question."""
    from gpugrad.backend.cuda import usable

    return usable()


def is_pinned(self: Tensor, device: Any = None) -> bool:
    """Whether this is a CPU tensor in pinned memory."""
    cupy = _cupy()[0] if self.is_cpu else None
    return cupy is not None and _lies_pinned(self._a, cupy)


def pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """A copy of this CPU tensor in pinned memory, or itself if it is pinned already.

    Copies to a GPU with ``non_blocking=True`` start from there without the host's waiting: don't
    write to the tensor until the stream has done the copy.
    """
    if not self.is_cpu:
        raise RuntimeError(f"cannot pin '{self.type()}' only dense CPU tensors can be pinned")
    if is_pinned(self):
        return self
    cupy, reason = _cupy()
    if cupy is None:
        raise RuntimeError(f"Cannot access accelerator device when none is available. ({reason})")
    return wrap(pinned_copy(self._a), cpu)


def pinned_copy(a: Any) -> Any:
    """A NumPy array copied to pinned memory, in C order."""
    cupy = _cupy()[0]
    if cupy is None:
        raise RuntimeError("pin_memory=True requires a CUDA or other accelerator backend; no "
                           "pinned memory allocator is available on this system.")
    out = pinned(a.shape, a.dtype, cupy)
    out[...] = a
    return out


def record_stream(self: Tensor, stream: Any) -> None:
    """Tell that work on another stream uses this tensor, so that its memory isn't used again early.

    CuPy hands memory out again, on the stream that allocated it, as soon as nobody has the array.
    After this call it first waits for what is queued on ``stream`` at that time. Other views of the
    same memory that outlive this tensor have to be recorded on their own.
    """
    self._be.record_use(self._a, stream)


def pin_batch(data: Any) -> Any:
    """What a DataLoader yields, with all its tensors pinned, also those in containers."""
    if hasattr(data, "pin_memory"):
        return data.pin_memory()
    if isinstance(data, str | bytes):
        return data
    if isinstance(data, Mapping):
        parts = {k: pin_batch(v) for k, v in data.items()}
        try:
            if isinstance(data, MutableMapping):        # it may have more to it than its items
                clone = copy.copy(data)
                clone.update(parts)
                return clone
            return type(data)(parts)                    # type: ignore[call-arg]
        except TypeError:
            return parts
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(pin_batch, data))
    if isinstance(data, tuple):
        return type(data)(map(pin_batch, data))
    if isinstance(data, Sequence):
        parts_ = [pin_batch(v) for v in data]
        try:
            if isinstance(data, MutableSequence):
                copied = copy.copy(data)
                copied[:] = parts_
                return copied
            return type(data)(parts_)                   # type: ignore[call-arg]
        except TypeError:
            return parts_
    return data
