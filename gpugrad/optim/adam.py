"""Adam: steps scaled by running means of the gradient and of its square."""
from __future__ import annotations

import math
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.optim.optimizer import Optimizer, ParamsT
from gpugrad.optim.options import check_betas, check_lr, check_positive, number


class Adam(Optimizer):
    """``p -= lr * m / (sqrt(v) + eps)`` with m and v the bias-corrected means of g and g * g.

    ``betas`` are the shares of m and v that each step keeps. With ``amsgrad`` v is the largest mean
    so far. ``decoupled_weight_decay`` shrinks p itself, as AdamW does, instead of adding to g.
    State: ``step``, ``exp_avg``, ``exp_avg_sq`` and, with ``amsgrad``, ``max_exp_avg_sq``.

    Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015; amsgrad: Reddi et al., "On
    the Convergence of Adam and Beyond", 2018.
    """

    _counts_steps = True
    _file, _kernel, _neutral = "optimizer_adam", "adam", (0.0,) * 6
    _options = {"amsgrad": False, "maximize": False, "foreach": None, "capturable": False,
                "differentiable": False, "decoupled_weight_decay": False, "fused": None}

    def __init__(self, params: ParamsT, lr: Any = 1e-3, betas: tuple[Any, Any] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0, amsgrad: bool = False, *,
                 foreach: bool | None = None, maximize: bool = False, capturable: bool = False,
                 differentiable: bool = False, fused: bool | None = None,
                 decoupled_weight_decay: bool = False) -> None:
        if isinstance(lr, Tensor) and foreach and not capturable:
            raise ValueError("lr as a Tensor is not supported for capturable=False and "
                             "foreach=True")
        check_lr(lr)
        check_positive(eps=eps)
        check_betas(betas)
        check_positive(weight_decay=weight_decay)
        _check_kind(betas, bool(foreach) and not capturable)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "foreach": foreach, "capturable": capturable,
            "differentiable": differentiable, "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay})

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        names = ("exp_avg", "exp_avg_sq")
        return (*names, "max_exp_avg_sq") if group["amsgrad"] else names

    def _numbers(self, group: dict[str, Any], t: float,
                 *scalars: float) -> tuple[float | None, ...]:
        b1, b2 = (number(b) for b in group["betas"])
        # lr * (m / c1) / (sqrt(v / c2) + eps), with sqrt(c2) taken out of the fraction.
        root = math.sqrt(1 - b2 ** t)
        rate = number(group["lr"]) * root / (1 - b1 ** t)
        return b1, 1 - b1, b2, 1 - b2, number(group["eps"]) * root, rate

    def _flags(self, group: dict[str, Any]) -> tuple[bool, ...]:
        return (group["amsgrad"],)

    def _device_options(self, group: dict[str, Any], t: float) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        return {**super()._device_options(group, t), "beta1": number(beta1),
                "beta2": number(beta2), "eps": number(group["eps"])}

    def _update(self, xp: Any, p: Any, g: Any, state: list[Any], u: Any, n: list[Any]) -> None:
        m, v = state[:2]
        *shares, eps, rate = n
        update_means(xp, m, v, g, u, *shares)
        if len(state) == 3:
            v = xp.maximum(state[2], v, out=state[2])
        xp.sqrt(v, out=u)
        u += eps
        xp.divide(m, u, out=u)
        u *= rate
        p -= u


def update_means(xp: Any, m: Any, v: Any, g: Any, u: Any, b1: Any, c1: Any, b2: Any,
                 c2: Any) -> None:
    """The running means of g and of g * g: shares b1 and b2 are kept, c1 and c2 are new."""
    m *= b1
    m += xp.multiply(g, c1, out=u)
    xp.multiply(g, c2, out=u)
    u *= g
    v *= b2
    v += u


def _check_kind(betas: tuple[Any, Any], foreach: bool) -> None:
    tensors = [isinstance(b, Tensor) for b in betas[:2]]
    if not (all(tensors) or all(isinstance(b, float) for b in betas[:2])):
        raise ValueError("betas must be either both floats or both Tensors")
    for i in (0, 1) if all(tensors) else ():
        if foreach:
            raise ValueError(f"betas[{i}] as a Tensor is not supported for capturable=False and "
                             "foreach=True")
        if betas[i].numel() != 1:
            raise ValueError(f"Tensor betas[{i}] must be 1-element")
