"""L-BFGS: steps by an estimate of the inverse Hessian from the last steps."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from gpugrad._tensor import Tensor, bump
from gpugrad.autograd.grad_mode import enable_grad, no_grad
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend.base import MANY
from gpugrad.backend.compiled import for_floats
from gpugrad.functions.complex import view_as_real
from gpugrad.functions.shape import cat
from gpugrad.optim.line_search import Point, strong_wolfe
from gpugrad.optim.optimizer import Optimizer, ParamsT
from gpugrad.optim.options import check_lr, number


def _real(x: Tensor) -> Tensor:
    """A view of complex numbers as pairs of real ones; a real tensor itself."""
    return view_as_real(x) if x.is_complex() else x


def add_scaled(y: Tensor, x: Tensor, a: Any) -> None:
    """``y += a * x`` in place, for a number or a 0-dim tensor."""
    c = for_floats(y._a, x._a) if x.numel() > MANY else None
    if c is None or not (y._a.flags.carray and x._a.flags.carray):
        y.add_(x * a)
        return
    bump(y)
    c.add_scaled(x._a, y._a, float(a))


def largest(x: Tensor) -> Tensor:
    """The largest magnitude; NaN if there is one."""
    return T.maximum(x.max(), -x.min())


class LBFGS(Optimizer):
    """Up to ``max_iter`` iterations a step; ``step(closure)`` evaluates the loss several times.

    It ends earlier after ``max_eval`` evaluations (``max_iter * 5 // 4``), or when the greatest
    gradient is below ``tolerance_grad``, or parameters or loss change by less than
    ``tolerance_change``. ``history_size``: how many steps are remembered. ``line_search_fn``:
    "strong_wolfe", or None for steps of length ``lr``. One parameter group; the state is that of
    the first parameter, and the host reads the loss in every iteration.

    Liu and Nocedal, "On the Limited Memory BFGS Method for Large Scale Optimization", 1989.
    """

    def __init__(self, params: ParamsT, lr: Any = 1, max_iter: int = 20,
                 max_eval: int | None = None, tolerance_grad: float = 1e-7,
                 tolerance_change: float = 1e-9, history_size: int = 100,
                 line_search_fn: str | None = None) -> None:
        check_lr(lr)
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change,
            "history_size": history_size, "line_search_fn": line_search_fn})
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")
        self._params = self.param_groups[0]["params"]

    # All parameters as one vector ----------------------------------------------------------------

    def _gradient(self) -> Tensor:
        """All gradients in one vector; zeros for parameters that have none."""
        return cat([(_real(p).new_zeros(_real(p).numel()) if p.grad is None
                     else _real(p.grad).reshape(-1)).detach() for p in self._params])

    def _move(self, t: Any, direction: Tensor) -> None:
        """Add ``t * direction`` to the parameters."""
        at = 0
        for p in map(_real, self._params):
            add_scaled(p, direction[at:at + p.numel()].view(p.shape), t)
            at += p.numel()

    def _evaluate(self, closure: Callable[[], Any], direction: Tensor, t: Any) -> tuple[float, Any]:
        """Loss and gradient after a step, which is taken back."""
        before = [p.clone() for p in self._params]
        self._move(t, direction)
        loss = float(closure())
        grad = self._gradient()
        for p, old in zip(self._params, before):
            p.copy_(old)
        return loss, grad

    # The step ------------------------------------------------------------------------------------

    @no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:
        """Iterate; returns the loss at the start. ``closure`` clears and computes the gradients."""
        closure = enable_grad()(closure)
        group, = self.param_groups
        small = group["tolerance_grad"]
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first_loss = closure()
        loss, grad = float(first_loss), self._gradient()
        state["func_evals"] += 1
        evaluations = 1
        if largest(grad) <= small:
            return first_loss
        for i in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            direction = self._direction(state, group, grad)
            state["prev_flat_grad"], state["prev_loss"] = grad.clone(), loss
            t = number(group["lr"])
            if state["n_iter"] == 1:
                t *= min(1.0, 1.0 / grad.abs().sum())
            state["d"], state["t"] = direction, t
            slope = grad.dot(direction)
            if slope > -group["tolerance_change"]:
                break
            last = i == group["max_iter"]
            count, done = 0, False
            if group["line_search_fn"] is not None:
                if group["line_search_fn"] != "strong_wolfe":
                    raise RuntimeError("only 'strong_wolfe' is supported")
                point, count = strong_wolfe(
                    partial(self._evaluate, closure, direction), direction, t,
                    Point(0, loss, grad, slope), group["tolerance_change"],
                    group["max_eval"] - evaluations)
                loss, grad, state["t"] = point.loss, point.grad, point.t
            self._move(state["t"], direction)
            if group["line_search_fn"] is None and not last:
                loss, count = float(closure()), 1
                grad = self._gradient()
            done = bool(largest(grad) <= small)
            evaluations += count
            state["func_evals"] += count
            if last or done or evaluations >= group["max_eval"] or \
                    largest(direction) * abs(state["t"]) <= group["tolerance_change"] or \
                    abs(loss - state["prev_loss"]) < group["tolerance_change"]:
                break
        return first_loss

    def _direction(self, state: dict[str, Any], group: dict[str, Any], grad: Tensor) -> Tensor:
        """Minus the estimated inverse Hessian times the gradient, by two loops over the history."""
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
            return -grad
        self._remember(state, group, grad - state["prev_flat_grad"], state["d"] * state["t"])
        changes, steps, weights = state["old_dirs"], state["old_stps"], state["ro"]
        shares = state.setdefault("al", [None] * group["history_size"])
        q = -grad
        for i in reversed(range(len(changes))):
            shares[i] = steps[i].dot(q) * weights[i]
            add_scaled(q, changes[i], -shares[i])
        q.mul_(state["H_diag"])
        for i in range(len(changes)):
            add_scaled(q, steps[i], shares[i] - changes[i].dot(q) * weights[i])
        return q

    def _remember(self, state: dict[str, Any], group: dict[str, Any], change: Tensor,
                  step: Tensor) -> None:
        """Take a step and the change of the gradient into the history, if the curvature is
        positive."""
        curvature = change.dot(step)
        if curvature <= 1e-10:
            return
        if len(state["old_dirs"]) == group["history_size"]:
            for name in ("old_dirs", "old_stps", "ro"):
                state[name].pop(0)
        state["old_dirs"].append(change)
        state["old_stps"].append(step)
        state["ro"].append(1.0 / curvature)
        state["H_diag"] = curvature / change.dot(change)
