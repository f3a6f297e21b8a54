"""RMSprop: steps scaled by a running mean of the squared gradient."""
from __future__ import annotations

from typing import Any

from gpugrad.optim.optimizer import Optimizer, ParamsT
from gpugrad.optim.options import check_lr, check_positive, number


class RMSprop(Optimizer):
    """``p -= lr * g / (sqrt(s) + eps)`` with s the running mean of g * g.

    A step keeps the share ``alpha`` of s. ``centered`` subtracts the square of g's running mean
    from s; ``momentum`` sums up the steps. State: ``step``, ``square_avg``, and where they are used
    ``momentum_buffer`` and ``grad_avg``.

    Hinton, "Neural Networks for Machine Learning", lecture 6, 2012; centered: Graves, "Generating
    Sequences With Recurrent Neural Networks", 2013.
    """

    _counts_steps = True
    _file, _kernel, _neutral = "optimizer_rms", "rmsprop", (0.0,) * 5
    _options = {"momentum": 0, "centered": False, "foreach": None, "maximize": False,
                "differentiable": False, "capturable": False}

    def __init__(self, params: ParamsT, lr: Any = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0, momentum: float = 0, centered: bool = False,
                 capturable: bool = False, foreach: bool | None = None, maximize: bool = False,
                 differentiable: bool = False) -> None:
        check_lr(lr)
        check_positive(eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable})

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("square_avg", *(["momentum_buffer"] if group["momentum"] > 0 else []),
                *(["grad_avg"] if group["centered"] else []))

    def _numbers(self, group: dict[str, Any], t: float,
                 *scalars: float) -> tuple[float | None, ...]:
        alpha = group["alpha"]
        return (number(group["lr"]), alpha, 1 - alpha, number(group["eps"]),
                group["momentum"] if group["momentum"] > 0 else None)

    def _flags(self, group: dict[str, Any]) -> tuple[bool, ...]:
        return group["momentum"] > 0, group["centered"]

    def _device_options(self, group: dict[str, Any], t: float) -> dict[str, Any]:
        return {**super()._device_options(group, t), "extra": group["alpha"],
                "eps": number(group["eps"]), "momentum": group["momentum"]}

    def _update(self, xp: Any, p: Any, g: Any, state: list[Any], u: Any, n: list[Any]) -> None:
        lr, alpha, rest, eps, momentum = n
        s = state[0]
        s *= alpha
        xp.multiply(g, rest, out=u)
        if len(state) > (1 if momentum is None else 2):
            mean = state[-1]
            mean *= alpha
            mean += u
            u *= g
            s += u
            xp.multiply(mean, mean, out=u)
            xp.subtract(s, u, out=u)
            xp.maximum(u, 0, out=u)              # rounding may take the variance below 0
            xp.sqrt(u, out=u)
        else:
            u *= g
            s += u
            xp.sqrt(s, out=u)
        u += eps
        xp.divide(g, u, out=u)
        if momentum is not None:
            steps = state[1]
            steps *= momentum
            steps += u
            xp.multiply(steps, lr, out=u)
        else:
            u *= lr
        p -= u
