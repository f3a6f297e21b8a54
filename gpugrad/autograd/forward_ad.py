"""torch.autograd.forward_ad: there is no forward mode. Its names say what to do instead."""
from __future__ import annotations

from typing import Any


def _refuse(*args: Any, **kw: Any) -> Any:
    raise NotImplementedError("forward-mode differentiation is not supported: for a product of the "
                              "Jacobian with a vector take torch.func.jvp or "
                              "torch.autograd.functional.jvp, which go backward twice")


dual_level = enter_dual_level = exit_dual_level = make_dual = unpack_dual = _refuse
