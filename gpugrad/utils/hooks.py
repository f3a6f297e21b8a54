"""torch.utils.hooks: the handle that registering a hook returns."""
from __future__ import annotations

from typing import Any

from gpugrad._hooks import RemovableHandle as RemovableHandle


def unserializable_hook(f: Any) -> Any:
    """Mark a hook that is lost when its tensor is saved; returns it."""
    f.__torch_unserializable__ = True
    return f
