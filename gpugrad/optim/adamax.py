"""Adamax: Adam with the largest gradient in place of the mean square."""
from __future__ import annotations

from typing import Any

from gpugrad.optim.optimizer import Optimizer, ParamsT
from gpugrad.optim.options import check_betas, check_lr, check_positive, number


class Adamax(Optimizer):
    """``p -= lr * m / s`` with m the bias-corrected mean of g and s the largest fading abs(g).

    State: ``step``, ``exp_avg`` and ``exp_inf``.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, section 7.1.
    """

    _counts_steps = True
    _file, _kernel, _neutral = "optimizer_adam", "adamax", (0.0,) * 5
    _options = {"foreach": None, "maximize": False, "differentiable": False, "capturable": False}

    def __init__(self, params: ParamsT, lr: Any = 2e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, foreach: bool | None = None, *,
                 maximize: bool = False, differentiable: bool = False,
                 capturable: bool = False) -> None:
        check_lr(lr)
        check_positive(eps=eps)
        check_betas(betas)
        check_positive(weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
            "foreach": foreach, "maximize": maximize, "differentiable": differentiable,
            "capturable": capturable})

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return "exp_avg", "exp_inf"

    def _numbers(self, group: dict[str, Any], t: float,
                 *scalars: float) -> tuple[float | None, ...]:
        b1, b2 = group["betas"]
        return b1, 1 - b1, b2, group["eps"], number(group["lr"]) / (1 - b1 ** t)

    def _device_options(self, group: dict[str, Any], t: float) -> dict[str, Any]:
        b1, b2 = group["betas"]
        return {**super()._device_options(group, t), "beta1": b1, "beta2": b2, "eps": group["eps"]}

    def _update(self, xp: Any, p: Any, g: Any, state: list[Any], u: Any, n: list[Any]) -> None:
        m, largest = state
        b1, c1, b2, eps, rate = n
        m *= b1
        m += xp.multiply(g, c1, out=u)
        largest *= b2
        xp.abs(g, out=u)
        u += eps
        xp.maximum(largest, u, out=largest)
        xp.divide(m, largest, out=u)
        u *= rate
        p -= u
