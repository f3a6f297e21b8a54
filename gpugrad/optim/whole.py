"""Optimizers whose step for one element asks for other elements of its tensor."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.grad_mode import enable_grad, no_grad
from gpugrad.optim.optimizer import Optimizer


class WholeTensorOptimizer(Optimizer):
    """A subclass says in ``_step_one`` what is done to a parameter, in operations on tensors."""

    @no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; see Optimizer.step."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._step_one(group, p, -p.grad if group.get("maximize") else p.grad)
        return loss

    def _step_one(self, group: dict[str, Any], p: Tensor, g: Tensor) -> None:
        """Change p in place; g is its gradient, with ``maximize`` in it."""
        raise NotImplementedError
