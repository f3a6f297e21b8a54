"""Adadelta: steps scaled by the size of the steps before."""
from __future__ import annotations

from typing import Any

from gpugrad.optim.optimizer import Optimizer, ParamsT
from gpugrad.optim.options import check_lr, check_positive, number


class Adadelta(Optimizer):
    """``d = sqrt(a + eps) / sqrt(s + eps) * g``; ``p -= lr * d``.

    s and a are the running means of g * g and of d * d, of which a step keeps the share ``rho``.
    State: ``step``, ``square_avg`` and ``acc_delta``.

    Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012.
    """

    _counts_steps = True
    _file, _kernel, _neutral = "optimizer_rms", "adadelta", (0.0,) * 4
    _options = {"foreach": None, "maximize": False, "differentiable": False, "capturable": False}

    def __init__(self, params: ParamsT, lr: Any = 1.0, rho: float = 0.9, eps: float = 1e-6,
                 weight_decay: float = 0, foreach: bool | None = None, *, capturable: bool = False,
                 maximize: bool = False, differentiable: bool = False) -> None:
        check_lr(lr)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        check_positive(eps=eps, weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
            "capturable": capturable, "foreach": foreach, "differentiable": differentiable})

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return "square_avg", "acc_delta"

    def _numbers(self, group: dict[str, Any], t: float,
                 *scalars: float) -> tuple[float | None, ...]:
        rho = group["rho"]
        return number(group["lr"]), rho, 1 - rho, group["eps"]

    def _device_options(self, group: dict[str, Any], t: float) -> dict[str, Any]:
        return {**super()._device_options(group, t), "eps": group["eps"], "extra": group["rho"]}

    def _update(self, xp: Any, p: Any, g: Any, state: list[Any], u: Any, n: list[Any]) -> None:
        squares, steps = state
        lr, rho, rest, eps = n
        squares *= rho
        xp.multiply(g, rest, out=u)
        u *= g
        squares += u
        step = steps + eps
        step /= xp.add(squares, eps, out=u)
        xp.sqrt(step, out=step)
        step *= g
        steps *= rho
        xp.multiply(step, rest, out=u)
        u *= step
        steps += u
        step *= lr
        p -= step
