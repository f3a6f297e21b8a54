"""Variable: what older programs wrap their tensors in; a tensor without history comes out."""
from __future__ import annotations

import warnings
from typing import Any

from gpugrad._tensor import Tensor


class VariableMeta(type):
    def __instancecheck__(cls, other: Any) -> bool:
        return isinstance(other, Tensor)


class Variable(metaclass=VariableMeta):
    """Every tensor is an instance; Variable(data) is a tensor in the same memory."""

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = False,
                volatile: bool | None = None) -> Any:
        if volatile:
            if requires_grad:
                raise ValueError("Variable can't be volatile and require_grad at the same time!")
            warnings.warn("volatile was removed and now has no effect. Use "
                          "`with torch.no_grad():` instead.", stacklevel=2)
        if data is not None and not isinstance(data, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")
        found = Tensor() if data is None else data.detach().as_subclass(Tensor)
        found.requires_grad = bool(requires_grad)
        return found
