"""torch.backends.opt_einsum: einsum finds the order of its products itself, with or without the
package; settings are remembered without effect.
"""
from __future__ import annotations

from typing import Any

from gpugrad.backends._remembered import bools, remember

_STRATEGIES = ("auto", "greedy", "optimal", "branch-2", "branch-all", "random-greedy", "dp", None)


def is_available() -> bool:
    """False: the package is not used."""
    return False


def get_opt_einsum() -> Any:
    """None: the package is not used."""
    return None


def _checked(name: str, value: Any) -> None:
    if name == "enabled":
        bools(name, value)
    elif value not in _STRATEGIES:
        raise ValueError("`strategy` must be one of the following: [auto, greedy, optimal] but is "
                         f"{value}")


set_flags, flags = remember(__name__, _checked, enabled=True, strategy="auto")
