"""Parameter and Buffer: tensors that a module registers when they are assigned to it; and those
that get their shapes later."""
from __future__ import annotations

from collections import OrderedDict
from typing import Any

from gpugrad._tensor import Tensor, wrap_as
from gpugrad.creation import empty


class Parameter(Tensor):
    """A tensor that a module trains; operations on it give plain tensors.

    It shares the memory of ``data`` and takes no part in the history of ``data``. Grad mode has no
    influence: it requires a gradient unless ``requires_grad`` is False.
    """

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            data = empty(0)
        return _share(cls, data).requires_grad_(requires_grad)

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        pass

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.data.clone(), self.requires_grad)
        return memo[id(self)]

    def __repr__(self) -> str:      # type: ignore[override]
        return "Parameter containing:\n" + super().__repr__()

    def __reduce_ex__(self, proto: Any) -> tuple[Any, ...]:
        return _rebuild_parameter, (self.data, self.requires_grad, OrderedDict())


class _BufferMeta(type(Tensor)):      # type: ignore[misc]
    def __instancecheck__(cls, instance: Any) -> bool:
        if cls is Buffer:
            return isinstance(instance, Tensor) and getattr(instance, "_is_buffer", False)
        return super().__instancecheck__(instance)


class Buffer(Tensor, metaclass=_BufferMeta):
    """A tensor that a module carries along without training it.

    Assigned to a module it becomes a buffer, saved by ``state_dict`` unless ``persistent`` is
    False. What the constructor returns is a plain Tensor that remembers to be one.
    """

    persistent: bool

    def __new__(cls, data: Any = None, *, persistent: bool = True) -> Any:
        if data is None:
            data = empty(0)
        t = _share(Tensor, data, "Buffer").requires_grad_(data.requires_grad)
        t.persistent, t._is_buffer = persistent, True
        return t

    def __init__(self, data: Any = None, *, persistent: bool = True) -> None:
        pass


def _share(cls: type, data: Tensor, name: str | None = None) -> Any:
    """A leaf of the class ``cls`` on the memory of ``data``."""
    if not isinstance(data, Tensor):
        raise AttributeError(f"'{type(data).__name__}' object has no attribute 'detach': "
                             f"{name or cls.__name__} takes a Tensor; make one by "
                             "torch.tensor(data)")
    t = wrap_as(cls, data._a, data._be)
    t._ver = data._ver
    return t


def _rebuild_parameter(data: Tensor, requires_grad: bool, hooks: Any) -> Parameter:
    return Parameter(data, requires_grad)


# Without a shape yet -----------------------------------------------------------------------------

_slot: Any = Tensor.__dict__["_a"]
_CASTS = ("to cpu cuda half float double bfloat16 char short int long byte bool").split()


class UninitializedTensorMixin:
    """A tensor that knows its dtype and device, and gets its shape by ``materialize``.

    Any operation on it raises ValueError.
    """

    cls_to_become: type

    # All that works with a tensor's elements reads this attribute.
    @property
    def _a(self) -> Any:
        raise ValueError(
            "Attempted to use an uninitialized parameter in an operation. This error happens when "
            "you are using a `LazyModule` or explicitly manipulating "
            f"`torch.nn.parameter.{type(self).__name__}` objects. When using LazyModules Call "
            "`forward` with a dummy batch to initialize the parameters before calling torch "
            "functions")

    @_a.setter
    def _a(self, array: Any) -> None:
        _slot.__set__(self, array)

    @property
    def data(self) -> Tensor:
        """A tensor without elements, of its dtype and on its device."""
        made = object.__new__(Tensor)
        made._a, made._be, made._edge, made._view, made._ver = (
            _slot.__get__(self), self._be, None, None, [0])      # type: ignore[attr-defined]
        return made

    @data.setter
    def data(self, other: Tensor) -> None:
        Tensor.data.__set__(self, other)      # type: ignore[attr-defined]

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return 1

    @property
    def shape(self) -> Any:
        raise RuntimeError("Can't access the shape of an uninitialized parameter or buffer. This "
                           "error usually happens in `load_state_dict` when trying to load an "
                           "uninitialized parameter into an initialized one. Call `forward` to "
                           "initialize the parameters before accessing their attributes.")

    def size(self, dim: int | None = None) -> Any:
        return self.data.size(dim)

    def is_floating_point(self) -> bool:
        return self.data.is_floating_point()

    def is_complex(self) -> bool:
        return self.data.is_complex()

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Give it a shape, and memory that isn't initialised: from now on it is an ordinary one."""
        d = self.data
        self.data = empty(tuple(shape), device=d.device if device is None else device,
                          dtype=d.dtype if dtype is None else dtype)
        self.__class__ = self.cls_to_become

    def _emptied(self: Any, device: Any) -> Any:
        """Another buffer without a shape, on a device."""
        return type(self)(self.requires_grad, device, self.dtype, self.persistent)

    def share_memory_(self) -> Any:
        raise RuntimeError("Can't share memory on an uninitialized parameter or buffer. Call "
                           "`forward` to initialize the parameters before calling "
                           "`module.share_memory()`.")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)


def _cast(name: str) -> Any:
    def cast(self: Any, *args: Any, **kw: Any) -> Any:
        """Of a parameter a tensor without elements, of a buffer another one without a shape."""
        made = getattr(self.data, name)(*args, **kw)
        if isinstance(self, Parameter):
            return made
        return type(self)(self.requires_grad, made.device, made.dtype, self.persistent)
    cast.__name__ = name
    return cast


for _name in _CASTS:
    setattr(UninitializedTensorMixin, _name, _cast(_name))


def _uninitialized(cls: type, requires_grad: bool, device: Any, dtype: Any) -> Any:
    """A new tensor of a class without a shape."""
    data = empty(0, device=device, dtype=dtype)
    t: Any = wrap_as(cls.cls_to_become, data._a, data._be)      # type: ignore[attr-defined]
    t.requires_grad_(requires_grad)
    t.__class__ = cls
    return t


class UninitializedParameter(UninitializedTensorMixin, Parameter):      # type: ignore[misc]
    """A parameter whose shape isn't known yet, of ``requires_grad``, device and dtype."""

    cls_to_become = Parameter

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> Any:
        return _uninitialized(cls, requires_grad, device, dtype)

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        pass

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, self.device, self.dtype)
        return memo[id(self)]

    def __reduce_ex__(self, proto: Any) -> tuple[Any, ...]:
        return type(self), (self.requires_grad, str(self.device), self.dtype)


class UninitializedBuffer(UninitializedTensorMixin, Tensor):      # type: ignore[misc]
    """A buffer whose shape isn't known yet, of ``requires_grad``, device and dtype."""

    cls_to_become = Tensor
    persistent: bool

    def __new__(cls, requires_grad: bool = False, device: Any = None, dtype: Any = None,
                persistent: bool = True) -> Any:
        t = _uninitialized(cls, requires_grad, device, dtype)
        t.persistent, t._is_buffer = persistent, True
        return t

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: Any = None,
                 persistent: bool = True) -> None:
        pass

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self.requires_grad, self.device, self.dtype,
                                        self.persistent)
        return memo[id(self)]

    def __reduce_ex__(self, proto: Any) -> tuple[Any, ...]:
        return type(self), (self.requires_grad, str(self.device), self.dtype, self.persistent)


def is_lazy(param: Any) -> bool:
    """Is it a parameter or buffer that has no shape yet?"""
    return isinstance(param, UninitializedTensorMixin)
