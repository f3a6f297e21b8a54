"""The memory that tensors lie in, and deep copies and pickles of tensors."""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from gpugrad import backend, dtypes
from gpugrad._tensor import Tensor, wrap_as
from gpugrad.backend.columns import strided
from gpugrad.device import device as Device

# What checkpoints call the memory of each dtype. The other dtypes are named next to untyped memory.
STORAGE_NAMES = {d: f"{d._legacy}Storage" for d in dtypes.ALL
                 if d.name not in ("uint16", "uint32", "uint64")}


class Storage:
    """Memory on a device, as an array of bytes."""

    def __init__(self, a: Any, be: Any) -> None:
        self.bytes, self.be = a, be

    @property
    def device(self) -> Device:
        return self.be.device

    def nbytes(self) -> int:
        return int(self.bytes.size)

    def to(self, device: Any) -> Storage:
        """The same bytes on another device."""
        be = backend.get(device)
        return self if be is self.be else Storage(be.from_device(self.bytes, self.be), be)

    def cpu(self) -> Storage:
        return self.to("cpu")

    def cuda(self, device: Any = None) -> Storage:
        return self.to("cuda" if device is None else Device(device))

    def view(self, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...],
             strides: tuple[int, ...]) -> Any:
        """The array at ``offset``, all numbers in elements. The caller has checked that it fits."""
        typed = self.bytes.view(dtype)
        steps = tuple(s * dtype.itemsize for s in strides)
        if offset == 0 and math.prod(shape) == typed.size:
            whole = typed.reshape(shape)
            if whole.strides == steps:
                return whole
        return strided(self.be.xp, typed[offset:], shape, steps)


def memory_of(t: Tensor) -> tuple[Storage, int, tuple[int, ...]]:
    """All the memory that a tensor is a view of, and offset and strides in it, in elements.

    A layout that PyTorch doesn't know (negative strides, another byte order) is copied first.
    """
    a, be = t._a, t._be
    root = be.root(a)
    held, size = _as_bytes(root, be), a.dtype.itemsize
    if held is None or not a.dtype.isnative or held.size % size:
        return _copied(t)
    if not (a.size or any(a.strides)):           # NumPy's strides of a new empty array
        return Storage(held, be), 0, _dense(a.shape)
    offset = be.address(a) - be.address(held)
    if any(s < 0 or s % size for s in (offset, *a.strides)):
        return _copied(t)
    return Storage(held, be), offset // size, tuple(s // size for s in a.strides)


def _copied(t: Tensor) -> tuple[Storage, int, tuple[int, ...]]:
    be = t._be
    dtype = t._a.dtype
    a = be.copy(t._a if dtype.isnative else t._a.astype(dtype.newbyteorder("=")))
    return Storage(_as_bytes(a, be), be), 0, _dense(a.shape)


def _dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of C order, in elements; PyTorch counts a length of 0 as 1."""
    steps = [1]
    for n in reversed(shape[1:]):
        steps.append(steps[-1] * max(n, 1))
    return tuple(steps[:len(shape)][::-1])


def _as_bytes(a: Any, be: Any) -> Any:
    """An array's memory as 1-D bytes, without a copy; None if there are gaps in it."""
    order = sorted(range(a.ndim), key=lambda i: -a.strides[i])
    turned = a.transpose(order)
    return turned.reshape(-1).view(np.uint8) if be.is_contiguous(turned) else None


def deepcopy_tensor(t: Tensor, memo: dict[Any, Any]) -> Tensor:
    """``copy.deepcopy`` of a tensor: memory, gradient and attributes; views share memory again."""
    if id(t) in memo:
        return memo[id(t)]
    if not t.is_leaf:
        raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the "
                           "deepcopy protocol at the moment.  If you were attempting to deepcopy a "
                           "module, this may be because of a torch.nn.utils.weight_norm usage, see "
                           "https://github.com/pytorch/pytorch/pull/103001")
    import copy

    be = t._be
    if t.is_meta:
        new = memo[id(t)] = rebuild_without_data(type(t), t.dtype, t._a.shape, t.stride(),
                                                 t.requires_grad, {})
        new.__dict__.update(copy.deepcopy(t.__dict__, memo))
        return new
    storage, offset, strides = memory_of(t)
    key = ("memory", be.name, be.address(storage.bytes), storage.nbytes())
    if key not in memo:
        # The original is kept, too, lest its address be given to other memory meanwhile.
        memo[key] = Storage(be.copy(storage.bytes), be), storage
    a = memo[key][0].view(t._a.dtype, offset, t._a.shape, strides)
    new = memo[id(t)] = wrap_as(type(t), a, be)
    new.requires_grad_(t.requires_grad)
    if t.grad is not None:
        new.grad = copy.deepcopy(t.grad, memo)
    new.__dict__.update(copy.deepcopy(t.__dict__, memo))
    return new


def reduce_tensor(t: Tensor) -> tuple[Any, ...]:
    """What pickle stores of a tensor: its elements on the host, and the device they were on."""
    warn_of_hooks(t)
    if t.is_meta:
        return rebuild_without_data, (type(t), t.dtype, tuple(t._a.shape), t.stride(),
                                      t.requires_grad, t.__dict__)
    host = t._be.to_host(t._a)
    return rebuild_tensor, (type(t), host, str(t.device), t.requires_grad, t.__dict__)


def rebuild_without_data(cls: type, dtype: dtypes.dtype, shape: tuple[int, ...],
                         strides: tuple[int, ...], requires_grad: bool,
                         attributes: dict[str, Any]) -> Tensor:
    """A tensor on the meta device; strides in elements."""
    be = backend.get("meta")
    steps = tuple([s * dtype.itemsize for s in strides])
    t = wrap_as(cls, strided(be.xp, be.empty(shape, dtype.np), shape, steps), be)
    t.__dict__.update(attributes)
    return t.requires_grad_(requires_grad)


def rebuild_tensor(cls: type, host: Any, device: str, requires_grad: bool,
                   attributes: dict[str, Any]) -> Tensor:
    """The tensor that ``reduce_tensor`` took apart."""
    be = backend.get(device)
    host = dtypes.adopt(host)
    if be is not backend.cpu or not host.flags.writeable:
        host = be.from_host(host)
    t = wrap_as(cls, host, be)
    t.__dict__.update(attributes)
    return t.requires_grad_(requires_grad)


def warn_of_hooks(t: Tensor) -> None:
    """Warn that hooks on a leaf stay behind when it is saved."""
    hooks = getattr(t, "_hooks", None) if t.is_leaf and t.requires_grad else None
    for hook in hooks.values() if hooks else ():
        warnings.warn(f"backward hook {hook!r} on tensor will not be serialized.", stacklevel=3)
