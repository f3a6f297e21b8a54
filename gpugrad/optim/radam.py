"""RAdam: Adam that waits until its mean square can be relied on."""
from __future__ import annotations

import math
from typing import Any

from gpugrad.optim.adam import update_means
from gpugrad.optim.optimizer import Optimizer, ParamsT
from gpugrad.optim.options import check_betas, check_lr, check_positive, number


class RAdam(Optimizer):
    """Adam times a factor for the variance of its scale; the mean alone in the first few steps.

    State: ``step``, ``exp_avg`` and ``exp_avg_sq``.

    Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", 2020.
    """

    _counts_steps = True
    _file, _kernel, _neutral = "optimizer_adam", "radam", (0.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    _options = {"foreach": None, "maximize": False, "capturable": False, "differentiable": False,
                "decoupled_weight_decay": False}

    def __init__(self, params: ParamsT, lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, decoupled_weight_decay: bool = False,
                 *, foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
                 differentiable: bool = False) -> None:
        check_lr(lr)
        check_positive(eps=eps)
        check_betas(betas)
        check_positive(weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "maximize": maximize, "foreach": foreach, "capturable": capturable,
            "decoupled_weight_decay": decoupled_weight_decay, "differentiable": differentiable})

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return "exp_avg", "exp_avg_sq"

    def _numbers(self, group: dict[str, Any], t: float,
                 *scalars: float) -> tuple[float | None, ...]:
        b1, b2 = group["betas"]
        rate, power = number(group["lr"]) / (1 - b1 ** t), b2 ** t
        limit = 2 / (1 - b2) - 1                     # of how many gradients the mean square knows
        known = limit - 2 * t * power / (1 - power)
        if known <= 5:
            return b1, 1 - b1, b2, 1 - b2, None, rate
        factor = math.sqrt((known - 4) * (known - 2) * limit
                           / ((limit - 4) * (limit - 2) * known))
        return b1, 1 - b1, b2, 1 - b2, group["eps"], rate * (factor * math.sqrt(1 - power))

    def _device_options(self, group: dict[str, Any], t: float) -> dict[str, Any]:
        b1, b2 = group["betas"]
        return {**super()._device_options(group, t), "beta1": b1, "beta2": b2, "eps": group["eps"]}

    def _update(self, xp: Any, p: Any, g: Any, state: list[Any], u: Any, n: list[Any]) -> None:
        m, v = state
        *shares, eps, rate = n
        update_means(xp, m, v, g, u, *shares)
        if eps is None:
            xp.multiply(m, rate, out=u)
        else:
            xp.sqrt(v, out=u)
            u += eps
            xp.divide(m, u, out=u)
            u *= rate
        p -= u
