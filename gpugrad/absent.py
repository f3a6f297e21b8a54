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


def classes(module: str, names: str, why: str) -> dict[str, Any]:
    """A class for each of the names, for isinstance() and annotations; none can be made.

    "Child:Parent" derives one from another that stands before it.
    """
    def make(name: str, base: type) -> type:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            raise NotImplementedError(f"{module}.{name} is not supported: {why}")
        return type(name, (base,), {"__init__": __init__, "__module__": module,
                                    "__doc__": f"There is none: {why}"})

    found: dict[str, Any] = {}
    for name, _, parent in (text.partition(":") for text in names.split()):
        found[name] = make(name, found.get(parent, object))
    return found
