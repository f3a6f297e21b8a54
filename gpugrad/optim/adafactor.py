"""Adafactor: Adam's mean squares, of a matrix kept as those of its rows and columns."""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad._tensor import Tensor, bump
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend.compiled import ABSENT, for_floats
from gpugrad.dtypes import finfo
from gpugrad.optim.fused import refuse_capture
from gpugrad.optim.optimizer import ParamsT
from gpugrad.optim.options import number
from gpugrad.optim.whole import WholeTensorOptimizer


class Adafactor(WholeTensorOptimizer):
    """``p -= max(eps2, rms(p)) * min(lr, 1 / sqrt(t)) * u / max(1, rms(u) / d)``.

    u is the gradient divided by the root of the running mean of its square, of which step t takes
    the share ``t ** beta2_decay``. ``eps``: the least mean square (None: of the dtype) and the
    least size of p. Weight decay is decoupled. State: ``step`` and ``row_var`` and ``col_var``, or
    ``variance`` for parameters of fewer than two dims.

    Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018.
    """

    _counts_steps = True
    _options = {"foreach": None}

    def __init__(self, params: ParamsT, lr: Any = 1e-2, beta2_decay: float = -0.8,
                 eps: tuple[float | None, float] = (None, 1e-3), d: float = 1.0,
                 weight_decay: float = 0.0, *, foreach: bool | None = None,
                 maximize: bool = False) -> None:
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not 0.0 <= lr:
            raise ValueError(f"Learning rate should be >= 0 but is: {lr}")
        if not beta2_decay <= 0.0:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        if eps[0] is not None and not 0.0 <= eps[0]:
            raise ValueError(f"epsilon1 should be >= 0 but is: {eps[0]}")
        if not 0.0 <= eps[1]:
            raise ValueError(f"epsilon2 should be >= 0 but is: {eps[1]}")
        if not 1.0 <= d:
            raise ValueError(f"Clipping threshold d should be >= 1 but is: {d}")
        if not 0.0 <= weight_decay:
            raise ValueError(f"weight_decay should be >= 0 but is: {weight_decay}")
        super().__init__(params, {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay,
            "foreach": foreach, "maximize": maximize})

    def _started(self, p: Tensor, g: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        state: dict[str, Any] = self.state[p]
        if not state:
            if not p.is_floating_point():
                raise RuntimeError("Adafactor does not support complex parameters")
            state["step"] = self._first_step(p, group)
            if g.ndim > 1:
                state["row_var"] = g.new_zeros((*g.shape[:-1], 1))
                state["col_var"] = g.new_zeros((*g.shape[:-2], 1, g.shape[-1]))
            else:
                state["variance"] = g.new_zeros(g.shape)
        return state

    def _step_one(self, group: dict[str, Any], p: Tensor, g: Tensor) -> None:
        refuse_capture(self, p._be)
        state = self._started(p, g, group)
        state["step"] += 1
        t, lr = state["step"].item(), number(group["lr"])
        share, (least, smallest) = t ** group["beta2_decay"], group["eps"]
        least = finfo(p.dtype).eps if least is None else least
        means = [state[name] for name in ("row_var", "col_var", "variance") if name in state]
        if (c := helper(*[x._a for x in (p, g, *means)])) is not None:
            for x in (p, *means):
                bump(x)
            keep = 1 - lr * group["weight_decay"] if group["weight_decay"] else 1.0
            c.step_adafactor(p._a, g._a, means[0]._a if len(means) > 1 else ABSENT, means[-1]._a,
                             np.array([share, least, smallest, min(lr, 1 / t ** 0.5), group["d"],
                                       keep]))
            return
        rate = T.clamp_min(norm(p) / p.numel() ** 0.5, min=smallest) * min(lr, 1 / t ** 0.5)
        if group["weight_decay"]:
            p.mul_(1 - lr * group["weight_decay"])
        square = g.square()
        if g.ndim > 1:
            rows, columns = state["row_var"], state["col_var"]
            rows.lerp_(square.mean(-1, keepdim=True), share)
            columns.lerp_(square.mean(-2, keepdim=True), share)
            square = rows / T.clamp_min(rows.mean(-2, keepdim=True), min=least) @ columns
        else:
            square = state["variance"].lerp_(square, share)
        u = g / T.clamp_min(square, min=least * least).sqrt()
        excess = T.clamp_min(norm(u) / (u.numel() ** 0.5 * group["d"]), min=1.0)
        p.sub_(u * (rate / excess))


def helper(*arrays: Any) -> Any:
    """The compiled helper, if it takes these: float32 in C order."""
    c = for_floats(*arrays)
    good = c is not None and all([a.flags.c_contiguous and a.flags.aligned for a in arrays])
    return c if good else None


def norm(x: Tensor) -> Tensor:
    """The root of the sum of squares; of 16 bits their sum might not fit."""
    if x.element_size() < 4:
        return x.norm()
    flat = x.reshape(-1)
    return flat.dot(flat).sqrt()
