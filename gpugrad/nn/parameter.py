"""Parameter and Buffer: tensors that a module registers when they are assigned to it."""
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

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _rebuild_parameter, (self.data, self.requires_grad, OrderedDict())


class Buffer(Tensor):
    """A tensor that a module carries along without training it.

    Assigned to a module it becomes a buffer, saved by ``state_dict`` unless ``persistent`` is
    False.
    """

    persistent: bool

    def __new__(cls, data: Any = None, *, persistent: bool = True) -> Buffer:
        if data is None:
            data = empty(0)
        t = _share(cls, data).requires_grad_(data.requires_grad)
        t.persistent = persistent
        return t

    def __init__(self, data: Any = None, *, persistent: bool = True) -> None:
        pass


def _share(cls: type, data: Tensor) -> Any:
    """A leaf of the class ``cls`` on the memory of ``data``."""
    if not isinstance(data, Tensor):
        raise AttributeError(f"'{type(data).__name__}' object has no attribute 'detach': "
                             f"{cls.__name__} takes a Tensor; make one by torch.tensor(data)")
    t = wrap_as(cls, data._a, data._be)
    t._ver = data._ver
    return t


def _rebuild_parameter(data: Tensor, requires_grad: bool, hooks: Any) -> Parameter:
    return Parameter(data, requires_grad)
