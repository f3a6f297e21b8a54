"""Adagrad: steps scaled by the sum of all squared gradients."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.optim.optimizer import Optimizer, ParamsT
from gpugrad.optim.options import check_lr, check_positive, number


class Adagrad(Optimizer):
    """``p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps)`` with s the sum of g * g.

    s begins with ``initial_accumulator_value``. State, made at once: ``step`` and ``sum``.

    Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization", 2011.
    """

    _counts_steps = True
    _file, _kernel, _neutral = "optimizer_rms", "adagrad", (0.0,) * 2
    _options = {"foreach": None, "maximize": False, "differentiable": False, "fused": None}

    def __init__(self, params: ParamsT, lr: Any = 1e-2, lr_decay: float = 0,
                 weight_decay: float = 0, initial_accumulator_value: float = 0, eps: float = 1e-10,
                 foreach: bool | None = None, *, maximize: bool = False,
                 differentiable: bool = False, fused: bool | None = None) -> None:
        check_lr(lr)
        check_positive(lr_decay=lr_decay, weight_decay=weight_decay,
                       initial_accumulator_value=initial_accumulator_value, eps=eps)
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "fused": fused})
        for group in self.param_groups:
            for p in group["params"]:
                self._start(p, group)

    def _start(self, p: Tensor, group: dict[str, Any]) -> None:
        self.state[p] = {"step": self._first_step(p, group), "sum": self._made("sum", p, group)}

    def share_memory(self) -> None:
        """Let other processes see the state."""
        for state in self.state.values():
            state["sum"].share_memory_()

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("sum",)

    def _initial(self, name: str, group: dict[str, Any]) -> float:
        value: float = group["initial_accumulator_value"]
        return value

    def _numbers(self, group: dict[str, Any], t: float,
                 *scalars: float) -> tuple[float | None, ...]:
        return group["eps"], number(group["lr"]) / (1 + (t - 1) * group["lr_decay"])

    def _device_options(self, group: dict[str, Any], t: float) -> dict[str, Any]:
        return {**super()._device_options(group, t), "eps": group["eps"],
                "extra": group["lr_decay"]}

    def _update(self, xp: Any, p: Any, g: Any, state: list[Any], u: Any, n: list[Any]) -> None:
        s, = state
        eps, rate = n
        s += xp.multiply(g, g, out=u)
        xp.sqrt(s, out=u)
        u += eps
        xp.divide(g, u, out=u)
        u *= rate
        p -= u
