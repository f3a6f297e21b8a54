"""SGD: stochastic gradient descent with momentum, dampening and Nesterov's look-ahead."""
from __future__ import annotations

from typing import Any

from gpugrad.optim.optimizer import Optimizer, ParamsT
from gpugrad.optim.options import check_lr, number


class SGD(Optimizer):
    """``v = momentum * v + (1 - dampening) * g``; ``p -= lr * v``.

    v starts as the first gradient. With ``nesterov``, p moves by ``g + momentum * v`` instead of v.
    State: ``momentum_buffer``, if there is momentum.

    Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
    """

    _kernel, _neutral = "sgd", (0.0, 0.0, 1.0, 0.0)
    _options = {"nesterov": False, "maximize": False, "foreach": None, "differentiable": False,
                "fused": None}

    def __init__(self, params: ParamsT, lr: Any = 1e-3, momentum: float = 0, dampening: float = 0,
                 weight_decay: Any = 0, nesterov: bool = False, *, maximize: bool = False,
                 foreach: bool | None = None, differentiable: bool = False,
                 fused: bool | None = None) -> None:
        check_lr(lr, nan=True)
        if momentum < 0.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if weight_decay < 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize, "foreach": foreach,
            "differentiable": differentiable, "fused": fused})

    def _state_names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] != 0 else ()

    def _numbers(self, group: dict[str, Any], t: float,
                 *scalars: float) -> tuple[float | None, ...]:
        momentum, dampening = group["momentum"], group["dampening"]
        share = 1 - dampening if dampening and t > 1 else None
        return number(group["lr"]), momentum, share, momentum if group["nesterov"] else None

    def _begins_otherwise(self, group: dict[str, Any]) -> bool:
        return bool(group["momentum"] and group["dampening"])

    def _flags(self, group: dict[str, Any]) -> tuple[bool, ...]:
        return (group["momentum"] != 0,)

    def _device_options(self, group: dict[str, Any], t: float) -> dict[str, Any]:
        momentum = group["momentum"]
        return {**super()._device_options(group, t), "momentum": momentum,
                "extra": group["dampening"] if t > 1 else 0.0,
                "look": momentum if group["nesterov"] else 0.0}

    def _update(self, xp: Any, p: Any, g: Any, state: list[Any], u: Any, n: list[Any]) -> None:
        lr, momentum, share, look = n
        if state:
            v, = state
            v *= momentum
            v += g if share is None else xp.multiply(g, share, out=u)
            g = v if look is None else xp.add(g, xp.multiply(v, look, out=u), out=u)
        p -= xp.multiply(g, lr, out=u)
