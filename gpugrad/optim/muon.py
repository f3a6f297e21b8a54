"""Muon: momentum whose matrix is made orthogonal."""
from __future__ import annotations

import math
from typing import Any

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.optim.optimizer import ParamsT
from gpugrad.optim.options import number
from gpugrad.optim.whole import WholeTensorOptimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(WholeTensorOptimizer):
    """``p -= lr * ratio * orthogonal(v)`` with v the running mean of the gradient; for matrices.

    ``nesterov`` takes the mean that the next step would have. ``adjust_lr_fn``: the ratio is
    ``sqrt(max(1, rows / columns))`` ("original", None), or ``0.2 * sqrt(max(rows, columns))``
    ("match_rms_adamw"). Weight decay is decoupled. The singular values are brought near 1 by
    ``ns_steps`` Newton-Schulz iterations with ``ns_coefficients``, computed in bfloat16 as in
    PyTorch; in float32 where bfloat16 isn't there (see docs/differences.md). State:
    ``momentum_buffer``.

    Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024.
    """

    def __init__(self, params: ParamsT, lr: float = 1e-3, weight_decay: float = 0.1,
                 momentum: float = 0.95, nesterov: bool = True,
                 ns_coefficients: tuple[float, float, float] = COEFFICIENTS, eps: float = 1e-7,
                 ns_steps: int = 5, adjust_lr_fn: str | None = None) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not 0.0 <= lr:
            raise ValueError(f"Learning rate should be >= 0 but is: {lr}")
        if not 0.0 <= momentum:
            raise ValueError(f"momentum should be >= 0 but is: {momentum}")
        if not 0.0 <= weight_decay:
            raise ValueError(f"weight decay should be >= 0 but is: {weight_decay}")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        super().__init__(params, {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn})
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError("Muon only supports 2D parameters whereas we found a "
                                     f"parameter with size: {p.size()}")

    def _step_one(self, group: dict[str, Any], p: Tensor, g: Tensor) -> None:
        if p.is_complex():
            raise RuntimeError("Muon does not support complex parameters")
        state = self.state[p]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = self._made("momentum_buffer", p, group)
        v, momentum, lr = state["momentum_buffer"], group["momentum"], number(group["lr"])
        v.lerp_(g, 1 - momentum)
        u = orthogonal(g.lerp(v, momentum) if group["nesterov"] else v, group["ns_coefficients"],
                       group["ns_steps"], group["eps"])
        p.mul_(1 - lr * group["weight_decay"])
        p.sub_(u.to(p.dtype) * (lr * _ratio(group["adjust_lr_fn"], *p.shape)))


def _ratio(name: str | None, rows: int, columns: int) -> float:
    if name == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))


def orthogonal(x: Tensor, coefficients: tuple[float, float, float], steps: int,
               eps: float) -> Tensor:
    """x with singular values near 1, by iterations of an odd polynomial of degree 5."""
    if steps >= 100:
        raise ValueError("Number of steps must be less than 100 for computational efficiency")
    if len(coefficients) != 3:
        raise ValueError("Coefficients must be a tuple of exactly 3 values")
    a, b, c = coefficients
    out = x.to(dtypes.bfloat16 if dtypes.has_bfloat16() else dtypes.float32)
    tall = x.shape[0] > x.shape[1]
    if tall:
        out = out.t()
    out = out / out.norm().clamp(min=eps)
    for _ in range(steps):
        gram = out @ out.t()
        out = out.addmm(gram.addmm(gram, gram, beta=b, alpha=c), out, beta=a)
    return out.t() if tall else out
