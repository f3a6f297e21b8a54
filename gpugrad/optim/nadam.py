"""NAdam: Adam with Nesterov's look-ahead."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpugrad.optim.adam import update_means
from gpugrad.optim.optimizer import Optimizer, ParamsT
from gpugrad.optim.options import check_betas, check_lr, check_positive, number


class NAdam(Optimizer):
    """Adam whose step takes the gradient and the mean with the share that the next step will give.

    ``momentum_decay`` says how the shares of the mean grow with the steps. State: ``step``,
    ``mu_product`` (of the shares so far), ``exp_avg`` and ``exp_avg_sq``.

    Dozat, "Incorporating Nesterov Momentum into Adam", 2016.
    """

    _counts_steps = True
    _scalars = ("mu_product",)
    _file, _kernel, _neutral = "optimizer_adam", "nadam", (0.0,) * 7
    _options = {"maximize": False, "foreach": None, "capturable": False, "differentiable": False,
                "decoupled_weight_decay": False}

    def __init__(self, params: ParamsT, lr: Any = 2e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, momentum_decay: float = 4e-3,
                 decoupled_weight_decay: bool = False, *, foreach: bool | None = None,
                 maximize: bool = False, capturable: bool = False,
                 differentiable: bool = False) -> None:
        check_lr(lr)
        check_positive(eps=eps)
        check_betas(betas)
        check_positive(weight_decay=weight_decay, momentum_decay=momentum_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize, "foreach": foreach, "capturable": capturable,
            "differentiable": differentiable})

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return "exp_avg", "exp_avg_sq"

    def _initial(self, name: str, group: dict[str, Any]) -> float:
        return 1.0 if name == "mu_product" else 0.0

    def _share(self, group: dict[str, Any], t: float) -> float:
        """The share of the mean in step t."""
        share: float = group["betas"][0] * (1 - 0.5 * 0.96 ** (t * group["momentum_decay"]))
        return share

    def _advanced(self, group: dict[str, Any], t: float, *scalars: float) -> tuple[float, ...]:
        return (scalars[0] * self._share(group, t),)

    def _numbers(self, group: dict[str, Any], t: float,
                 *scalars: float) -> tuple[float | None, ...]:
        b1, b2 = group["betas"]
        root, lr = math.sqrt(1 - b2 ** t), number(group["lr"])
        share, following = self._share(group, t), self._share(group, t + 1)
        product = float(np.float32(scalars[0] * share))
        # sqrt(v / c2) + eps with sqrt(c2), the root, taken out of both fractions
        return (b1, 1 - b1, b2, 1 - b2, group["eps"] * root,
                lr * root * (1 - share) / (1 - product),
                lr * root * following / (1 - product * following))

    def _device_options(self, group: dict[str, Any], t: float) -> dict[str, Any]:
        b1, b2 = group["betas"]
        return {**super()._device_options(group, t), "beta1": b1, "beta2": b2, "eps": group["eps"],
                "momentum": group["momentum_decay"]}

    def _update(self, xp: Any, p: Any, g: Any, state: list[Any], u: Any, n: list[Any]) -> None:
        m, v = state
        *shares, eps, rate, rate_of_mean = n
        update_means(xp, m, v, g, u, *shares)
        step = g * rate
        step += xp.multiply(m, rate_of_mean, out=u)
        xp.sqrt(v, out=u)
        u += eps
        step /= u
        p -= step
