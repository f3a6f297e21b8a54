"""A tensor seen from outside: exchange with other libraries, its memory, Python functions."""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad import dtypes
from gpugrad._state import state
from gpugrad._tensor import Tensor, bump, check_memory, wrap, wrap_as
from gpugrad.autograd import inplace
from gpugrad.autograd.entry import NUMBERS
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend import cpu, get
from gpugrad.backend.columns import strided
from gpugrad.factory import memory_order, order_of
from gpugrad.functions.arguments import number_of, sizes_of
from gpugrad.functions.indexing import copy_
from gpugrad.functions.shape import flip, reshape, reversed_dims
from gpugrad.functions.views import memory_root
from gpugrad.layouts import contiguous_format, preserve_format
from gpugrad.ops.shape import inverse
from gpugrad.ops.views import extent

# Exchange with other libraries -------------------------------------------------------------------


def array_interface(self: Tensor) -> Any:
    """NumPy's description of the memory of a CPU tensor."""
    if not self.is_cpu or self._a.dtype.kind == "V":
        raise AttributeError("__array_interface__: only CPU tensors of NumPy's dtypes have it; "
                             f"this one is of {self.dtype} on {self.device}")
    return self.numpy().__array_interface__


def array_wrap(self: Tensor, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
    """What a NumPy function of a tensor returns: a tensor, of uint8 for bools as in PyTorch."""
    array = np.asarray(array)
    return wrap(array.astype(np.uint8) if array.dtype.kind == "b" else array)


def cuda_array_interface(self: Tensor) -> Any:
    """The description of a CUDA tensor's memory that CuPy, Numba and others read."""
    if not self.is_cuda:
        raise AttributeError("Can't get __cuda_array_interface__ on non-CUDA tensor type: "
                             f"{self.type()} If CUDA data is required use tensor.cuda() to copy "
                             "tensor to device memory.")
    if self._edge is not None:
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad. If "
                           "gradients aren't required, use var.detach() to get Variable that "
                           "doesn't require grad.")
    return self._a.__cuda_array_interface__


def dlpack(self: Tensor, *, stream: Any = None, max_version: Any = None, dl_device: Any = None,
           copy: bool | None = None) -> Any:
    """The memory as a DLPack capsule."""
    if self._edge is not None:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if self.is_meta:
        raise BufferError("Cannot pack tensors on meta")
    if dl_device is not None and tuple(dl_device) != dlpack_device(self):
        if tuple(dl_device) != (1, 0) or copy is False:
            raise BufferError(f"__dlpack__(dl_device={dl_device}): the tensor is on {self.device}: "
                              "move it there first")
        return dlpack(self.cpu(), max_version=max_version)
    if stream is not None and not self.is_cuda:
        raise AssertionError("stream should be None on cpu.")
    a = self._be.copy(self._a) if copy else self._a
    bits = a.dtype.kind == "V"                   # bfloat16: neither NumPy nor CuPy can name it
    if bits:
        a = a.view(np.uint16)
    if self.is_cuda:
        capsule = a.__dlpack__(stream=stream)
    else:
        if not a.flags.writeable:
            a = a.copy()
        try:                                     # NumPy 2.1; before it, readers get no version
            capsule = a.__dlpack__(max_version=max_version)
        except TypeError:
            capsule = a.__dlpack__()
    if bits:
        _dtype_in(capsule)[0] = _BFLOAT
    return capsule


_UINT, _BFLOAT = 1, 4            # DLPack's codes of kinds of dtypes


def _dtype_in(capsule: Any) -> Any:
    """The four bytes of a DLPack capsule that say the dtype: code, bits, and two for lanes."""
    import ctypes

    api = ctypes.pythonapi
    name, head = (b"dltensor", 0)
    api.PyCapsule_IsValid.argtypes = api.PyCapsule_GetPointer.argtypes = [ctypes.py_object,
                                                                          ctypes.c_char_p]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    if not api.PyCapsule_IsValid(capsule, name):
        # A version, the owner, its destructor and flags come first.
        name, head = b"dltensor_versioned", 32
    at = api.PyCapsule_GetPointer(capsule, name)
    return (ctypes.c_uint8 * 4).from_address(at + head + 20)


class _Bits:
    """An array of bfloat16 whose capsules say uint16, which has as many bits."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.__dlpack_device__ = source.__dlpack_device__

    def __dlpack__(self, **kw: Any) -> Any:
        capsule = self.source.__dlpack__(**kw)
        _dtype_in(capsule)[0] = _UINT
        return capsule


def _is_bfloat16(source: Any) -> bool:
    """Asked of the name of the dtype, as a capsule can be had only once from some."""
    if isinstance(source, _Capsule):
        return list(_dtype_in(source.capsule)[0:2]) == [_BFLOAT, 16]
    return str(getattr(source, "dtype", "")).endswith("bfloat16")


def dlpack_device(self: Tensor) -> tuple[int, int]:
    """DLPack's number for the kind of device (1 CPU, 2 CUDA), and the device's index."""
    return (2, self.device.index or 0) if self.is_cuda else (1, 0)


class _Capsule:
    """A DLPack capsule as an object with the methods that libraries ask for."""

    def __init__(self, capsule: Any, device: tuple[int, int]) -> None:
        self.capsule, self.device = capsule, device

    def __dlpack__(self, **kw: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


class _Writable:
    """The memory of a read-only array, for NumPy to make a writable array of."""

    def __init__(self, a: Any) -> None:
        self.a = a
        interface = a.__array_interface__
        self.__array_interface__ = {**interface, "data": (interface["data"][0], False)}


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor that shares the memory of another library's array, or of a DLPack capsule.

    A capsule doesn't say on which device it is: it is taken for one of the CPU's.
    """
    if isinstance(ext_tensor, Tensor):
        if ext_tensor.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        x = ext_tensor.detach()
        x = x if device is None else x.to(device)
        return x.clone() if copy else x
    if not hasattr(ext_tensor, "__dlpack__"):
        if type(ext_tensor).__name__ != "PyCapsule":
            raise RuntimeError("from_dlpack received an invalid capsule. It takes an object with "
                               "__dlpack__, or a DLPack capsule that nobody has consumed, not "
                               f"{type(ext_tensor).__name__}")
        ext_tensor = _Capsule(ext_tensor, (1, 0))
    kind, index = ext_tensor.__dlpack_device__()
    if int(kind) not in (1, 2, 3):
        raise RuntimeError(f"from_dlpack(): device type {int(kind)} is not supported, only CPU and "
                           "CUDA")
    be = get(f"cuda:{index}") if int(kind) == 2 else cpu
    bits = _is_bfloat16(ext_tensor)
    a = be.xp.from_dlpack(_Bits(ext_tensor) if bits else ext_tensor)
    if a.dtype not in dtypes.OF:
        raise RuntimeError(f"from_dlpack(): arrays of {a.dtype} are not supported")
    if isinstance(ext_tensor, _Capsule):         # NumPy, not knowing better, makes it read-only
        a = np.asarray(_Writable(a))
    if bits:
        a = a.view(dtypes.bfloat16.np)
    x = wrap(a, be)
    x = x if device is None else x.to(device)
    return x.clone() if copy else x


def to_dlpack(tensor: Tensor) -> Any:
    """The memory as a DLPack capsule; ``tensor.__dlpack__()`` refuses a tensor with history."""
    return dlpack(tensor.detach())


# Memory ------------------------------------------------------------------------------------------


def untyped_storage(self: Tensor) -> Any:
    """The memory that the tensor is a view of, as bytes."""
    from gpugrad.storage import UntypedStorage
    return UntypedStorage.of(self)


def storage(self: Tensor) -> Any:
    """The memory that the tensor is a view of, as elements."""
    from gpugrad.storage import TypedStorage
    return TypedStorage(untyped_storage(self), self.dtype)


def is_storage(obj: Any, /) -> bool:
    """Is obj a storage?"""
    if not hasattr(obj, "data_ptr") or isinstance(obj, Tensor):
        return False
    from gpugrad.storage import TypedStorage, UntypedStorage
    return isinstance(obj, UntypedStorage | TypedStorage)


def storage_type(self: Tensor) -> Any:
    """The class of ``storage()``."""
    from gpugrad.storage import TypedStorage
    return TypedStorage


def is_shared(self: Tensor) -> bool:
    """Is the memory shared between processes? CUDA memory counts as shared, CPU memory never is."""
    return self.is_cuda


def share_memory_(self: Tensor) -> Tensor:
    """Nothing for CUDA tensors, as in PyTorch."""
    if self.is_cuda:
        return self
    raise NotImplementedError("share_memory_() is not supported: processes get copies of tensors; "
                              "put the data into multiprocessing.shared_memory and wrap that with "
                              "torch.frombuffer()")


def is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Do both have the same memory, offset, shape and strides?"""
    return (self._be is tensor._be and self._a.shape == tensor._a.shape
            and self.stride() == tensor.stride() and self.data_ptr() == tensor.data_ptr()
            and self.storage_offset() == tensor.storage_offset())


def dim_order(self: Tensor, *, ambiguity_check: Any = False) -> tuple[int, ...]:
    """The dims from the one with the longest step to the one with the shortest."""
    steps = self.stride()
    if ambiguity_check is True or ambiguity_check:
        lengths = [s for s, n in zip(steps, self._a.shape) if n > 1 or ambiguity_check is True]
        if len(set(lengths)) < len(lengths):
            raise RuntimeError("The tensor does not have unique dim order, or cannot map to exact "
                               "one of the given memory formats.")
    return tuple(memory_order(self._a))


def _no_history(x: Tensor, what: str) -> None:
    if x._edge is not None and state.recording:
        raise RuntimeError(f"cannot {what} variables that require grad")


def resize_(x: Tensor, *sizes: Any, memory_format: Any = contiguous_format) -> Tensor:
    """Another shape for the elements as they lie in memory; more of them are uninitialised.

    If the memory is too small the elements move to new memory; other tensors stay with the old.
    """
    shape = sizes_of(sizes, "size")
    _no_history(x, "resize")
    if min(shape, default=0) < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: "
                           f"{list(shape)}")
    if memory_format is preserve_format:
        raise RuntimeError("Unsupported memory format Preserve")
    if shape != x._a.shape:
        x._a = _resized(x, shape)
    if memory_format is not contiguous_format:
        order = order_of("resize_", memory_format, len(shape))
        x._a = x._a.reshape([shape[d] for d in order]).transpose(inverse(order))
    bump(x)
    return x


def _resized(x: Tensor, shape: tuple[int, ...]) -> Any:
    be, root, at = x._be, memory_root(x), x.storage_offset()
    needed = 1
    for n in shape:
        needed *= n
    if root is None:
        root, at = be.copy(x._a).reshape(-1), 0
    if at + needed > root.size:
        new = be.empty((at + needed,), root.dtype)
        new[:root.size] = root
        root = new
    return root[at:at + needed].reshape(shape)


def resize_as_(x: Tensor, the_template: Tensor, memory_format: Any = contiguous_format) -> Tensor:
    return resize_(x, the_template._a.shape, memory_format=memory_format)


def resize(self: Tensor, *sizes: Any) -> Tensor:
    """Deprecated: the same number of elements in another shape."""
    return _reshaped("resize", self, sizes_of(sizes, "size"))


def resize_as(self: Tensor, tensor: Tensor) -> Tensor:
    """Deprecated: the same number of elements in the shape of another tensor."""
    return _reshaped("resize_as", self, tensor._a.shape)


def _reshaped(name: str, x: Tensor, shape: tuple[int, ...]) -> Tensor:
    warnings.warn(f"non-inplace {name} is deprecated", stacklevel=3)
    count = int(np.prod(shape, dtype=np.int64))
    if count != x._a.size:
        raise RuntimeError(f"requested resize to {'x'.join(map(str, shape))} ({count} elements in "
                           "total), but the given tensor has a size of "
                           f"{'x'.join(map(str, x._a.shape))} ({x._a.size} elements). autograd's "
                           "resize can only change the shape of a given tensor, while preserving "
                           "the number of elements.")
    return reshape(x, shape)


def set_(x: Tensor, source: Any = None, storage_offset: int = 0, size: Any = None,
         stride: Any = None) -> Tensor:
    """The tensor becomes one of source's memory: a tensor's, or a storage's with offset, size and
    stride in elements; without a source it becomes empty.
    """
    inplace.check(x)
    if isinstance(source, Tensor) and size is None:
        if source._a.dtype != x._a.dtype:
            raise RuntimeError(f"Could not set tensor of type {dtypes.type_name(source._a.dtype)} "
                               f"to a tensor of type {dtypes.type_name(x._a.dtype)}")
        a, be = source._a, source._be
    elif source is None:
        a, be = x._be.empty((0,), x._a.dtype), x._be
    else:
        a, be = _of_storage(x, source, storage_offset, size, stride)
    if be is not x._be:
        raise RuntimeError(f"Attempted to set the storage of a tensor on device \"{x.device}\" to "
                           f"a storage on different device \"{be.device}\".")
    bump(x)
    x._a = a
    return x


def _of_storage(x: Tensor, source: Any, offset: int, size: Any, stride: Any) -> Any:
    held = untyped_storage(source) if isinstance(source, Tensor) else source
    bytes_ = getattr(held, "bytes", None)
    if bytes_ is None:
        raise TypeError("set_() received an invalid combination of arguments: source must be a "
                        f"Tensor or a storage, not {type(source).__name__}")
    flat = bytes_[:bytes_.size // x.itemsize * x.itemsize].view(x._a.dtype)
    shape = (flat.size - offset,) if size is None else tuple(size)
    steps = tuple(stride) if stride is not None else _dense(shape)
    needed = offset + extent(shape, steps)
    if offset < 0 or needed > flat.size:
        raise RuntimeError(f"setStorage: sizes {list(shape)}, strides {list(steps)}, storage "
                           f"offset {offset}, and itemsize {x.itemsize} requiring a storage size "
                           f"of {needed * x.itemsize} are out of bounds for storage of size "
                           f"{flat.size * x.itemsize}")
    be = held.be
    return strided(be.xp, flat[offset:], shape, tuple([s * x.itemsize for s in steps])), be


def _dense(shape: tuple[int, ...]) -> tuple[int, ...]:
    steps = [1]
    for n in shape[:0:-1]:
        steps.append(steps[-1] * max(n, 1))
    return tuple(steps[:len(shape)][::-1])


# Python functions, element by element ------------------------------------------------------------


def _host_only(name: str, x: Tensor) -> None:
    if not x.is_cpu:
        raise TypeError(f"{name} is only implemented on CPU tensors")
    if x._edge is not None and state.recording:
        raise RuntimeError(f"Can't call {name}() on Variable that requires grad. Use "
                           f"var.detach().{name}() instead.")
    check_memory(x)


def apply_(x: Tensor, callable: Callable[[Any], Any]) -> Tensor:
    """Each element replaced by what a Python function makes of it. CPU only, and slow."""
    _host_only("apply_", x)
    return _mapped(x, [callable(v) for v in x._a.reshape(-1).tolist()])


def map_(x: Tensor, tensor: Tensor, callable: Callable[[Any, Any], Any]) -> Tensor:
    """Each element replaced by callable(element, tensor's element). CPU only, and slow."""
    _host_only("map_", x)
    if tensor._a.dtype != x._a.dtype or tensor._be is not x._be:
        raise TypeError(f"map_: expected {x.type()} for 'other' (got {tensor.type()})")
    pairs = zip(x._a.reshape(-1).tolist(), np.broadcast_to(tensor._a, x._a.shape)
                .reshape(-1).tolist())
    return _mapped(x, [callable(a, b) for a, b in pairs])


def map2_(x: Tensor, tensor1: Tensor, tensor2: Tensor,
          callable: Callable[[Any, Any, Any], Any]) -> Tensor:
    """Each element replaced by callable(element, tensor1's, tensor2's). CPU only, and slow."""
    _host_only("map2_", x)
    others = [np.broadcast_to(t._a, x._a.shape).reshape(-1).tolist() for t in (tensor1, tensor2)]
    return _mapped(x, [callable(*v) for v in zip(x._a.reshape(-1).tolist(), *others)])


def _mapped(x: Tensor, values: list[Any]) -> Tensor:
    values = [v.item() if isinstance(v, Tensor) else v for v in values]
    bump(x)
    out = np.array([number_of(v, x._a.dtype) for v in values], x._a.dtype)
    x._a[...] = out.reshape(x._a.shape)
    return x


# Odds of the class -------------------------------------------------------------------------------


def as_subclass(self: Tensor, cls: type) -> Any:
    """The same memory and history as an instance of a subclass of Tensor."""
    if not isinstance(cls, type):
        raise TypeError(f"cls must be a type (got {type(cls).__name__})")
    if not issubclass(cls, Tensor):
        raise TypeError("Creating a Tensor subclass from a class that does not inherit from Tensor "
                        "is not possible. Make sure your class inherits from Tensor.")
    x = T.alias(self)
    t = wrap_as(cls, x._a, x._be)
    t._edge, t._ver, t._view = x._edge, x._ver, x._view
    return t


def new(self: Tensor, *args: Any, device: Any = None) -> Tensor:
    """The legacy constructor, of this tensor's dtype and device."""
    be = self._be if device is None else get(device)
    if len(args) == 1 and isinstance(args[0], Tensor):
        if args[0]._a.dtype != self._a.dtype:
            raise TypeError(f"expected {self.type()} (got {args[0].type()})")
        return args[0].detach()
    if len(args) == 1 and not isinstance(args[0], int | tuple):
        if isinstance(args[0], str | float):
            raise TypeError("new(): data must be a sequence (got "
                            f"{type(args[0]).__name__})")
        return self.new_tensor(args[0], device=device)
    shape = args[0] if args and isinstance(args[0], tuple) else args or (0,)
    if args and isinstance(args[0], tuple) and not hasattr(args[0], "numel"):
        return self.new_tensor(args[0], device=device)
    return wrap(be.empty(tuple(shape), self._a.dtype), be)


def reversed_with_warning(self: Tensor) -> Tensor:
    """The T property."""
    if self._a.ndim not in (0, 2):
        warnings.warn("The use of `x.T` on tensors of dimension other than 2 to reverse their "
                      "shape is deprecated and it will throw an error in a future release. "
                      "Consider `x.mT` to transpose batches of matrices or `x.permute("
                      "*torch.arange(x.ndim - 1, -1, -1))` to reverse the dimensions of a tensor.",
                      stacklevel=2)
    return reversed_dims(self)


def reduce_ex(self: Tensor, protocol: Any) -> tuple[Any, ...]:
    """What pickle stores."""
    from gpugrad.serialization import reduce_tensor
    return reduce_tensor(self)


def deepcopy(self: Tensor, memo: dict[Any, Any]) -> Tensor:
    """What copy.deepcopy makes of a leaf."""
    from gpugrad.serialization import deepcopy_tensor
    return deepcopy_tensor(self, memo)


def contains(self: Tensor, element: Any) -> bool:
    """``element in x``, for a number or a tensor that broadcasts."""
    if not isinstance(element, (Tensor, *NUMBERS)):
        raise RuntimeError("Tensor.__contains__ only supports Tensor or scalar, but you passed in "
                           f"a {type(element)}.")
    return bool((self == element).any())


def no_deletion(self: Tensor, key: Any) -> None:
    raise TypeError("Tensor does not support deleting items")


def reverse(self: Tensor) -> Tensor:
    """``reversed(x)``: the order of the first dim turned round."""
    return flip(self, 0) if self._a.ndim else self


def module_load(self: Tensor, other: Tensor, assign: bool = False) -> Tensor:
    """What load_state_dict stores for this parameter, given the checkpoint's tensor."""
    if assign:
        return other.detach()
    return copy_(self, other).detach()


def is_distributed(self: Tensor) -> bool:
    """False."""
    return False


def const_data_ptr(self: Tensor) -> int:
    """data_ptr, of memory that will only be read."""
    return self.data_ptr()


def sparse_only(name: str) -> Any:
    def refuse(self: Tensor, *args: Any, **kw: Any) -> Any:
        raise NotImplementedError(f"{name}() is not supported: tensors are strided (dense), there "
                                  "are no sparse, quantised or nested ones")
    refuse.__name__ = refuse.__qualname__ = name
    return refuse


def to_dense(self: Tensor, dtype: Any = None, *, masked_grad: bool = True) -> Tensor:
    """Itself: every tensor is dense."""
    return self if dtype is None else self.to(dtype)


def sparse_dim(self: Tensor) -> int:
    """0: tensors are strided."""
    return 0


def dense_dim(self: Tensor) -> int:
    """The number of dims: tensors are strided."""
    return self._a.ndim
