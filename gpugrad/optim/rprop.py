"""Rprop: steps that know the sign of the gradient alone."""
from __future__ import annotations

from typing import Any

from gpugrad.optim.optimizer import Optimizer, ParamsT
from gpugrad.optim.options import check_lr, number


class Rprop(Optimizer):
    """``p -= sign(g) * s``, each element with a step size of its own.

    s grows by the second of ``etas`` where the gradient keeps its sign and shrinks by the first
    where it turns, between ``step_sizes``; where it turns, the step is left out. For whole batches.
    State: ``step``, ``prev`` and ``step_size``.

    Riedmiller and Braun, "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP
    Algorithm", 1993.
    """

    _counts_steps = True
    _kernel, _neutral = "rprop", (0.0,) * 4
    _options = {"foreach": None, "maximize": False, "differentiable": False, "capturable": False}

    def __init__(self, params: ParamsT, lr: Any = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
                 step_sizes: tuple[float, float] = (1e-6, 50), *, capturable: bool = False,
                 foreach: bool | None = None, maximize: bool = False,
                 differentiable: bool = False) -> None:
        check_lr(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, {
            "lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable})

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return "prev", "step_size"

    def _initial(self, name: str, group: dict[str, Any]) -> float:
        return float(number(group["lr"])) if name == "step_size" else 0.0

    def _numbers(self, group: dict[str, Any], t: float,
                 *scalars: float) -> tuple[float | None, ...]:
        return *group["etas"], *group["step_sizes"]

    def _device_options(self, group: dict[str, Any], t: float) -> dict[str, Any]:
        (extra, look), (least, most) = group["etas"], group["step_sizes"]
        return {**super()._device_options(group, t), "extra": extra, "look": look, "beta1": least,
                "beta2": most}

    def _update(self, xp: Any, p: Any, g: Any, state: list[Any], u: Any, n: list[Any]) -> None:
        last, size = state
        shrink, grow, least, most = n
        xp.multiply(g, last, out=u)
        turned = u < 0
        factor = xp.where(u > 0, grow, xp.where(turned, shrink, 1 + 0 * xp.sign(u)))  # NaN stays
        size *= factor
        xp.maximum(size, least, out=size)
        xp.minimum(size, most, out=size)
        xp.copyto(last, xp.where(turned, 0 * least, g))
        xp.sign(last, out=u)
        u *= size
        p -= u
