"""AdamW: Adam whose weight decay shrinks the parameters themselves."""
from __future__ import annotations

from typing import Any

from gpugrad.optim.adam import Adam
from gpugrad.optim.optimizer import ParamsT


class AdamW(Adam):
    """``p *= 1 - lr * weight_decay``, then Adam's step on a gradient without decay.

    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
    """

    def __init__(self, params: ParamsT, lr: Any = 1e-3, betas: tuple[Any, Any] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2, amsgrad: bool = False, *,
                 maximize: bool = False, foreach: bool | None = None, capturable: bool = False,
                 differentiable: bool = False, fused: bool | None = None) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach,
                         maximize=maximize, capturable=capturable, differentiable=differentiable,
                         fused=fused, decoupled_weight_decay=True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:      # checkpoints from before this was an option of Adam
            group["decoupled_weight_decay"] = True
