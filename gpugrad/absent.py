"""Names of PyTorch's that can be imported, and say what is missing when they are called."""
from __future__ import annotations

from typing import Any, NoReturn


def functions(module: str, names: str, why: str) -> dict[str, Any]:
    """A function for each of the names, which raises NotImplementedError with the reason."""
    def make(name: str) -> Any:
        def absent(*args: Any, **kwargs: Any) -> NoReturn:
            raise NotImplementedError(f"{module}.{name} is not supported: {why}")

        absent.__name__ = absent.__qualname__ = name
        absent.__doc__ = f"Raises NotImplementedError: {why}"
        return absent
    return {name: make(name) for name in names.split()}
