"""Tensor: its slots, metadata and printing. No maths: methods.py attaches the operations."""
from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gpugrad import dtypes
from gpugrad._printing import tensor_text
from gpugrad._state import complex_gradients, off, state
from gpugrad.backend import Backend, cpu, get
from gpugrad.device import device as Device
from gpugrad.layouts import ORDERS

# The `_edge` of a leaf that requires grad: its accumulator is looked up when it is used.
LEAF: tuple[Any, int] = (None, -1)


class Size(tuple[int, ...]):
    """The shape of a tensor: a tuple that prints as ``torch.Size([2, 3])``."""

    __slots__ = ()

    def numel(self) -> int:
        n = 1
        for s in self:
            n *= s
        return n

    def __repr__(self) -> str:
        return f"torch.Size({list(self)})"

    def __getitem__(self, i: Any) -> Any:
        part = tuple.__getitem__(self, i)
        return Size(part) if isinstance(i, slice) else part

    def __add__(self, other: Any) -> Any:
        return Size(tuple.__add__(self, tuple(other)))

    def __radd__(self, other: Any) -> Any:
        return Size(tuple(other) + tuple(self))

    def __mul__(self, n: Any) -> Any:
        return Size(tuple.__mul__(self, n))

    __rmul__ = __mul__

    def __reduce__(self) -> tuple[Any, ...]:
        return Size, (tuple(self),)


class InferenceCell(list[Any]):
    """The version cell of a tensor made in inference mode: never saved for backward, never counted.
    """

    __slots__ = ()

    def __getitem__(self, i: Any) -> Any:
        if state.inference:
            return 0
        raise RuntimeError("Inference tensors cannot be saved for backward. Please do not use "
                           "Tensors created in inference mode in computation tracked by autograd. "
                           "To work around this, you can make a clone to get a normal tensor and "
                           "use it in autograd, or use `torch.no_grad()` instead of "
                           "`torch.inference_mode()`.")

    def __setitem__(self, i: Any, value: Any) -> None:
        if not state.inference:
            raise RuntimeError("Inplace update to inference tensor outside InferenceMode is not "
                               "allowed.You can make a clone to get a normal tensor before doing "
                               "inplace update.")


def bump(x: Tensor) -> None:
    """x's memory is about to be written: count it; raises for an inference tensor outside of the
    mode.
    """
    cell = x._ver
    if type(cell) is InferenceCell:
        cell[0] = 1
    else:
        cell[0] += 1


def check_memory(x: Tensor) -> None:
    """Raise if several elements of x lie at one place, where a write would be ambiguous."""
    a = x._a
    if not x._be.is_contiguous(a) and any([s == 0 and n > 1 for s, n in zip(a.strides, a.shape)]):
        raise RuntimeError("unsupported operation: more than one element of the written-to tensor "
                           "refers to a single memory location. Please clone() the tensor before "
                           "performing the operation.")


class Tensor:
    """A multi-dimensional array of one dtype on one device, with the history that made it."""

    # _a the array, _be its backend, _edge None | LEAF | (node, output index),
    # _ver the version cell: [version, weak references to views...], shared by a base and its views,
    # _view None | (base, chain) with chain = (parent's chain, op, constants, input shape): nodes
    # keep the chain, never the base, which would be a cycle. The other slots stay unset until
    # needed.
    __slots__ = ("__dict__", "__weakref__", "_a", "_acc", "_be", "_edge", "_grad", "_hooks",
                 "_post", "_turn", "_ver", "_view")
    __array_priority__ = 1000
    _a: Any
    _acc: Any
    _be: Backend
    _edge: Any
    _hooks: Any
    _post: Any
    _turn: int
    _ver: list[Any]
    _view: Any

    # There must be no __getattr__ at run time: it would switch off CPython's fast slot reads, +1 us
    # an op.
    if TYPE_CHECKING:
        def __getattr__(self, name: str) -> Any: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __iadd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __isub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __imul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __itruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __rfloordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __rmod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __xor__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __pos__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __eq__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any) -> Tensor: ...  # type: ignore[override]
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...
        def __getitem__(self, key: Any) -> Tensor: ...
        def __setitem__(self, key: Any, value: Any) -> None: ...
        def __iter__(self) -> Iterator[Tensor]: ...

    def __new__(cls, *args: Any, device: Any = None) -> Tensor:
        """The legacy constructor: of data, or uninitialised of the given sizes; the default dtype.
        """
        if len(args) == 1 and isinstance(args[0], str | float):
            raise TypeError(f"new(): data must be a sequence (got {type(args[0]).__name__}); use "
                            "torch.tensor() for a number")
        # it follows neither set_default_device nor `with device`, as in PyTorch
        be, dtype = cpu if device is None else get(device), dtypes.default_np()
        if len(args) == 1 and isinstance(args[0], Tensor):
            return wrap_as(cls, args[0]._a, args[0]._be)
        if len(args) == 1 and not isinstance(args[0], int | Size):
            try:
                data = np.asarray(args[0], dtype)
            except ValueError as e:
                raise ValueError("expected sequence of one length at each dim: "
                                 f"{e}") from None
            return wrap_as(cls, be.from_host(data), be)
        shape = args[0] if len(args) == 1 and isinstance(args[0], Size) else args or (0,)
        return wrap_as(cls, be.empty(tuple(shape), dtype), be)

    # History -------------------------------------------------------------------------------------

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward() accumulated, or None. Same shape, dtype and device."""
        g = getattr(self, "_grad", None)
        if g is None and not self.is_leaf and not self.retains_grad:
            warnings.warn("The .grad attribute of a Tensor that is not a leaf Tensor is being "
                          "accessed. It stays None: call .retain_grad() on this tensor before "
                          "backward(), or look at "
                          "the leaf it was computed from.", stacklevel=2)
        return g

    @grad.setter
    def grad(self, g: Tensor | None) -> None:
        if g is not None:
            if not isinstance(g, Tensor):
                raise TypeError("assigned grad expected to be a Tensor or None but got grad of "
                                f"type {type(g).__name__}")
            if g is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if g._a.dtype != self._a.dtype:
                raise RuntimeError(
                    f"attempting to assign a gradient with dtype '{g.dtype}' to a tensor with "
                    f"dtype '{self.dtype}'. Please ensure that the gradient and the tensor have "
                    "the same dtype")
            if g._be is not self._be:
                raise RuntimeError(
                    f"attempting to assign a gradient with device '{g.device}' to a tensor with "
                    f"device '{self.device}'. Please ensure that the gradient and the tensor are "
                    "on the same device")
            if g._a.shape != self._a.shape:
                raise RuntimeError(
                    f"attempting to assign a gradient of size '{list(g._a.shape)}' to a tensor of "
                    f"size '{list(self._a.shape)}'. Please ensure that the gradient and the tensor "
                    "are the same size")
        self._grad = g

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    @property
    def requires_grad(self) -> bool:
        return self._edge is not None

    @requires_grad.setter
    def requires_grad(self, on: bool) -> None:
        if not isinstance(on, bool):
            raise RuntimeError(f"requires_grad must be a bool, not {type(on).__name__}")
        if not self.is_leaf:
            if on:
                return
            raise RuntimeError("you can only change requires_grad flags of leaf variables. If you "
                               "want to use a computed variable in a subgraph that doesn't "
                               "require differentiation use var_no_grad = var.detach().")
        if on:
            kind = self._a.dtype.kind
            if kind == "c":
                complex_gradients[0] = True
            elif kind not in dtypes.FLOATING:
                raise RuntimeError("only Tensors of floating point and complex dtype can require "
                                   f"gradients, not {self.dtype}: convert it first, as in "
                                   "x.float()")
            if type(self._ver) is InferenceCell and not state.inference:
                raise RuntimeError("Setting requires_grad=True on inference tensor outside "
                                   "InferenceMode is not allowed.")
            if not hasattr(self, "_acc"):
                self._acc = self._hooks = self._post = None
                self._turn = -1
        self._edge = LEAF if on else None

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        if not isinstance(requires_grad, bool):
            raise TypeError("requires_grad_(): argument 'requires_grad' (position 1) must be bool, "
                            f"not {type(requires_grad).__name__}")
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        return self._edge is None or self._edge is LEAF

    @property
    def grad_fn(self) -> Any:
        """The node that computed this tensor, None for a leaf."""
        return None if self._edge is None or self._edge is LEAF else self._edge[0]

    @property
    def output_nr(self) -> int:
        return 0 if self.is_leaf else self._edge[1]

    @property
    def _version(self) -> int:
        if type(self._ver) is InferenceCell:
            raise RuntimeError("Inference tensors do not track version counter.")
        return self._ver[0]

    @property
    def _base(self) -> Tensor | None:
        return None if self._view is None else self._view[0]

    def _is_view(self) -> bool:
        return self._view is not None

    def is_inference(self) -> bool:
        return type(self._ver) is InferenceCell

    def detach(self) -> Tensor:
        """The same memory and version counter, without history."""
        return wrap(self._a, self._be, None, self._ver)

    def detach_(self) -> Tensor:
        """Forget the history, in place."""
        if self._view is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        self._edge = None
        return self

    @property
    def data(self) -> Tensor:
        """The same memory with a version counter of its own: autograd doesn't see changes through
        it.
        """
        return wrap(self._a, self._be, None, InferenceCell() if self.is_inference() else [0])

    @data.setter
    def data(self, other: Tensor) -> None:
        if not isinstance(other, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(other).__name__}")
        if self._edge is not None and other._a.dtype.kind not in dtypes.INEXACT:
            raise RuntimeError("data set to a tensor that requires gradients must be floating "
                               f"point or complex dtype, not {other.dtype}")
        if other._be is not self._be and self._edge is LEAF:
            self._acc, self._turn = None, -1
        self._a, self._be = other._a, other._be

    # Metadata ------------------------------------------------------------------------------------

    @property
    def shape(self) -> Size:
        return Size(self._a.shape)

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of one dimension."""
        return Size(self._a.shape) if dim is None else self._of_dim(self._a.shape, dim)

    def _of_dim(self, values: tuple[int, ...], dim: int) -> int:
        """One of the values that there are for each dim."""
        n = len(values)
        if not hasattr(dim, "__index__"):
            raise TypeError(f"argument 'dim' (position 1) must be int, not {type(dim).__name__}")
        if n == 0:
            raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
        if not -n <= dim < n:
            raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], "
                             f"but got {dim})")
        return values[dim]

    @property
    def dtype(self) -> dtypes.dtype:
        return dtypes.OF[self._a.dtype]

    @property
    def device(self) -> Device:
        return self._be.device

    @property
    def ndim(self) -> int:
        return self._a.ndim

    def dim(self) -> int:
        return self._a.ndim

    ndimension = dim

    def numel(self) -> int:
        return int(self._a.size)

    nelement = numel

    @property
    def itemsize(self) -> int:
        return self._a.dtype.itemsize

    def element_size(self) -> int:
        return self._a.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self._a.nbytes

    def stride(self, dim: int | None = None) -> Any:
        """Steps in elements from one index to the next, for all dimensions or one."""
        a = self._a
        steps = [s // a.dtype.itemsize for s in a.strides]
        if 0 in steps:                           # of dims of 1, and of no elements, NumPy's is 0
            after, empty = 1, not a.size and not any(steps)
            for d in range(a.ndim - 1, -1, -1):
                if steps[d] == 0 and (empty or a.shape[d] == 1):
                    steps[d] = after
                after = steps[d] * max(a.shape[d], 1)
        return tuple(steps) if dim is None else self._of_dim(tuple(steps), dim)

    def data_ptr(self) -> int:
        """The address of the first element, in the device's memory."""
        return self._be.address(self._a)

    def storage_offset(self) -> int:
        """How many elements lie between the start of the memory and the first element."""
        a, be = self._a, self._be
        return (be.address(a) - be.address(be.root(a))) // a.dtype.itemsize

    def is_contiguous(self, memory_format: Any = None) -> bool:
        a = self._a
        if memory_format in ORDERS:
            order = ORDERS[memory_format]
            return a.ndim == len(order) and self._be.is_contiguous(a.transpose(order))
        return self._be.is_contiguous(a)

    def is_floating_point(self) -> bool:
        return self._a.dtype.kind in dtypes.FLOATING

    def is_complex(self) -> bool:
        return self._a.dtype.kind == "c"

    def is_signed(self) -> bool:
        return self.dtype.is_signed

    @property
    def is_cuda(self) -> bool:
        return self._be.device.type == "cuda"

    @property
    def is_cpu(self) -> bool:
        return self._be.device.type == "cpu"

    @property
    def is_meta(self) -> bool:
        return self._be.device.type == "meta"

    is_sparse = is_sparse_csr = is_quantized = is_nested = is_mkldnn = False
    is_ipu = is_maia = is_mps = is_mtia = is_vulkan = is_xla = is_xpu = False

    def get_device(self) -> int:
        """The index of the CUDA device, -1 for the CPU."""
        return -1 if self._be.device.index is None or self.is_cpu else self._be.device.index

    # Reading -------------------------------------------------------------------------------------

    def item(self) -> Any:
        """The one element as a Python number."""
        if self._a.size != 1:
            raise RuntimeError(f"a Tensor with {self._a.size} elements cannot be converted to "
                               "Scalar")
        return self._be.read(self._a)

    def tolist(self) -> Any:
        """Nested lists of Python numbers; a number for a 0-dim tensor."""
        return self._be.to_host(self._a).tolist()

    def numpy(self, *, force: bool = False) -> Any:
        """The NumPy array that shares this CPU tensor's memory. ``force=True`` detaches and copies.
        """
        if not force:
            if self._edge is not None:
                raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use "
                                   "tensor.detach().numpy() instead.")
            if not self.is_cpu:
                raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use "
                                "Tensor.cpu() to copy the tensor to host memory first.")
        if self._a.dtype.kind == "V":            # NumPy has no bfloat16
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self._be.to_host(self._a)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        a = self.numpy()
        if dtype is not None and a.dtype != dtype:
            if copy is False:
                raise ValueError(f"a tensor of dtype {self.dtype} can't become {dtype} without a "
                                 "copy")
            return a.astype(dtype)
        return a.copy() if copy else a

    def __bool__(self) -> bool:
        n = self._a.size
        if n != 1:
            raise RuntimeError("Boolean value of Tensor with no values is ambiguous" if n == 0 else
                               "Boolean value of Tensor with more than one value is ambiguous")
        return bool(self._be.read(self._a))

    def _number(self) -> Any:
        if self._a.size != 1:
            raise ValueError("only one element tensors can be converted to Python scalars, not "
                             f"one of shape {list(self._a.shape)}")
        return self.item()

    def __float__(self) -> float:
        return float(self._real_number("double"))

    def __int__(self) -> int:
        return int(self._real_number("int64_t"))

    def _real_number(self, name: str) -> Any:
        value = self._number()
        if isinstance(value, complex):
            if value.imag:
                raise RuntimeError(f"value cannot be converted to type {name} without overflow")
            return value.real
        return value

    def __complex__(self) -> complex:
        return complex(self._number())

    def __index__(self) -> int:
        if self._a.size != 1 or self._a.dtype.kind not in "iub":
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def __len__(self) -> int:
        if self._a.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self._a.shape[0]

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        node = self.grad_fn
        device = None if self.is_cpu else str(self.device)
        contents = self._a if self.is_meta else self._be.to_host(self._a)
        return tensor_text(contents, self.dtype, device,
                           None if node is None else type(node).__name__, self._edge is LEAF)

    def __format__(self, spec: str) -> str:
        if self._a.ndim == 0 and self._a.dtype.kind != "c" and not self.is_meta:
            return self.item().__format__(spec)
        return object.__format__(self, spec)


_new = functools.partial(object.__new__, Tensor)


def wrap(a: Any, be: Backend = cpu, edge: Any = None, ver: list[Any] | None = None) -> Tensor:
    """A Tensor of an array of ``be``, without a copy."""
    t = _new()
    t._a = a if type(a) is be.ndarray else be.asarray(a)
    t._be, t._edge, t._view = be, edge, None
    t._ver = ver if ver is not None else new_cell() if off[0] else [0]
    return t


def new_cell() -> list[Any]:
    """A version cell for new memory."""
    return InferenceCell() if state.inference else [0]


def wrap_as(cls: type, a: Any, be: Backend) -> Any:
    """wrap() for a subclass of Tensor."""
    t: Any = object.__new__(cls)
    t._a = a if type(a) is be.ndarray else be.asarray(a)
    t._be, t._edge, t._view, t._ver = be, None, None, new_cell()
    return t


def is_tensor(obj: Any) -> bool:
    """Is obj a Tensor?"""
    return isinstance(obj, Tensor)
