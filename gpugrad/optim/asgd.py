"""ASGD: stochastic gradient descent whose result is the average of its path."""
from __future__ import annotations

from typing import Any

from gpugrad.optim.optimizer import Optimizer, ParamsT
from gpugrad.optim.options import check_lr, check_positive, number


class ASGD(Optimizer):
    """``p -= eta * (g + lambd * p)``, with the average of p kept beside it.

    eta falls as ``lr / (1 + lambd * lr * t) ** alpha``; from step ``t0`` on ``ax`` is the mean of
    p, before that p itself. State: ``step``, ``eta``, ``mu`` (the share of p in the next mean) and
    ``ax``.

    Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.
    """

    _counts_steps = True
    _scalars = ("eta", "mu")
    _kernel, _neutral = "asgd", (0.0, 0.0, 1.0)
    _options = {"foreach": None, "maximize": False, "differentiable": False, "capturable": False}

    def __init__(self, params: ParamsT, lr: Any = 1e-2, lambd: float = 1e-4, alpha: float = 0.75,
                 t0: float = 1e6, weight_decay: float = 0, foreach: bool | None = None,
                 maximize: bool = False, differentiable: bool = False,
                 capturable: bool = False) -> None:
        check_lr(lr)
        check_positive(weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay,
            "foreach": foreach, "maximize": maximize, "differentiable": differentiable,
            "capturable": capturable})

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("ax",)

    def _initial(self, name: str, group: dict[str, Any]) -> float:
        return {"eta": float(number(group["lr"])), "mu": 1.0, "ax": 0.0}[name]

    def _advanced(self, group: dict[str, Any], t: float, *scalars: float) -> tuple[float, ...]:
        lr = float(number(group["lr"]))
        return (lr / (1 + group["lambd"] * lr * t) ** group["alpha"],
                1 / max(1, t - group["t0"]))

    def _numbers(self, group: dict[str, Any], t: float,
                 *scalars: float) -> tuple[float | None, ...]:
        eta, mu = scalars
        return 1 - group["lambd"] * eta, eta, None if mu == 1 else mu

    def _device_options(self, group: dict[str, Any], t: float) -> dict[str, Any]:
        return {**super()._device_options(group, t), "extra": group["lambd"],
                "look": group["alpha"], "momentum": group["t0"]}

    def _update(self, xp: Any, p: Any, g: Any, state: list[Any], u: Any, n: list[Any]) -> None:
        mean, = state
        keep, eta, mu = n
        p *= keep
        p -= xp.multiply(g, eta, out=u)
        if mu is None:
            xp.copyto(mean, p)
        else:
            xp.subtract(p, mean, out=u)
            u *= mu
            mean += u
