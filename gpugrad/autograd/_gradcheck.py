"""gradcheck and gradgradcheck: gradients against finite differences, in float64.

A complex number counts as two real ones, its parts, side by side: as rows of a Jacobian if it is an
input, as columns if it is an output.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd import engine
from gpugrad.autograd.grad_mode import enable_grad, no_grad


class GradcheckError(RuntimeError):
    """Raised by gradcheck and gradgradcheck when gradients are wrong."""


def _tuple(x: Any) -> tuple[Any, ...]:
    return tuple(x) if isinstance(x, tuple | list) else (x,)


def _differentiable(values: tuple[Any, ...]) -> list[Tensor]:
    return [v for v in values if isinstance(v, Tensor) and v.requires_grad]


def gradcheck(func: Callable[..., Any], inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5,
              rtol: float = 1e-3, raise_exception: bool = True, nondet_tol: float = 0.0,
              check_undefined_grad: bool = True, check_grad_dtypes: bool = False,
              check_batched_grad: bool = False, fast_mode: bool = False) -> bool:
    """Compare func's gradients with central differences, element by element.

    inputs: tensors, of which those that require grad are checked; they should be float64. eps: the
    step. A difference may be atol + rtol * |numerical|. nondet_tol: how much two backward runs may
    differ. check_undefined_grad has no effect: outputs are checked one at a time, so that the
    gradients of the others are missing anyway. fast_mode: compare one random projection instead of
    every element. Raises GradcheckError, or returns False.
    """
    if check_batched_grad:
        raise NotImplementedError("gradcheck(check_batched_grad=True) is not supported: batches "
                                  "of gradients are a loop, so there is nothing to check")
    try:
        _check(func, _tuple(inputs), eps, atol, rtol, nondet_tol, check_grad_dtypes, fast_mode)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _check(func: Any, inputs: tuple[Any, ...], eps: float, atol: float, rtol: float,
           nondet_tol: float, dtypes: bool, fast: bool) -> None:
    checked = _differentiable(inputs)
    if not checked:
        raise ValueError("gradcheck expects at least one input tensor to require gradient, but "
                         "none of them have requires_grad=True.")
    for i, x in enumerate(checked):
        if x._a.dtype not in (np.float64, np.complex128):
            warnings.warn(f"Input #{i} requires gradient and is not a double precision floating "
                          "point or complex. This check will likely fail if all the inputs are "
                          "not of double precision: "
                          "use x.double()", stacklevel=4)
        if x._a.size and any([s == 0 and n > 1 for s, n in zip(x._a.strides, x._a.shape)]):
            raise RuntimeError(f"The {i}th input has a dimension with stride 0. gradcheck only "
                               "supports inputs that are non-overlapping. Call .contiguous() on "
                               "the input before passing it.")
    outputs = _tuple(func(*inputs))
    places = [k for k, t in enumerate(outputs) if isinstance(t, Tensor) and t.requires_grad]
    if not places:
        _check_constant(func, inputs, outputs, checked, eps, atol)
        return
    if fast:
        _check_projection(func, inputs, outputs, places, checked, eps, atol, rtol)
        return
    for k in places:
        numeric = [_numerical(func, inputs, x, k, eps) for x in checked]
        analytic = _analytical(outputs[k], checked, dtypes)
        again = _analytical(outputs[k], checked, dtypes)
        for i, (a, b, n) in enumerate(zip(analytic, again, numeric)):
            if not np.allclose(a, n, rtol, atol, equal_nan=True):
                worst = np.unravel_index(np.nanargmax(np.abs(a - n)), a.shape)
                raise GradcheckError(
                    f"Jacobian mismatch for output {k} with respect to input {i}: at (input "
                    f"element, output element) {tuple(int(w) for w in worst)} it is {n[worst]:.6g} "
                    f"numerically and {a[worst]:.6g} "
                    f"analytically.\nnumerical:\n{n}\nanalytical:\n{a}")
            if np.abs(a - b).max(initial=0) > nondet_tol:
                raise GradcheckError("Backward is not reentrant: it gave different gradients for "
                                     f"input {i} in two runs with the same gradient")


def _check_constant(func: Any, inputs: Any, outputs: Any, checked: list[Tensor], eps: float,
                    atol: float) -> None:
    """No output requires grad: then none may depend on the inputs."""
    for k in [k for k, t in enumerate(outputs) if isinstance(t, Tensor)]:
        for i, x in enumerate(checked):
            if np.abs(_numerical(func, inputs, x, k, eps)).max(initial=0) > atol:
                raise GradcheckError("Numerical gradient for function expected to be zero: input "
                                     f"{i}, output {k}")


def _run(func: Any, inputs: Any, k: int) -> Any:
    out = _tuple(func(*inputs))[k]
    return flat(out._be.to_host(out._a))


def flat(a: Any) -> Any:
    """The elements of a host array as one dim of float64; the parts of complex ones."""
    if a.dtype.kind == "c":
        return np.array(a, np.complex128, order="C").reshape(-1).view(np.float64)
    return np.array(a, np.float64).reshape(-1)


def steps_of(dtype: Any) -> tuple[Any, ...]:
    """The directions in which an element may change."""
    return (1, 1j) if dtype.kind == "c" else (1,)


def _numerical(func: Any, inputs: Any, x: Tensor, k: int, eps: float) -> Any:
    """The Jacobian (elements of x, elements of output k) by central differences."""
    rows = []
    with no_grad():
        for i in np.ndindex(*x._a.shape):
            kept = x._a[i].copy()
            for step in steps_of(x._a.dtype):
                x._a[i] = kept + eps * step
                above = _run(func, inputs, k)
                x._a[i] = kept - eps * step
                below = _run(func, inputs, k)
                x._a[i] = kept
                rows.append((above - below) / (2 * eps))
    return np.array(rows).reshape(len(rows), -1 if rows else 0)


def _analytical(out: Tensor, checked: list[Tensor], dtypes: bool) -> list[Any]:
    """The Jacobians of one output by backward, a column for each of its elements."""
    be = out._be
    columns: list[list[Any]] = [[] for _ in checked]
    for i, step in [(i, s) for i in range(out._a.size) for s in steps_of(out._a.dtype)]:
        g = be.xp.zeros(out._a.size, out._a.dtype)
        g[i] = step
        found = engine.grad(out, checked, wrap(g.reshape(out._a.shape), be), retain_graph=True,
                            allow_unused=True)
        for column, d, x in zip(columns, found, checked):
            if d is None:
                column.append(np.zeros(x._a.size * len(steps_of(x._a.dtype))))
                continue
            if d._a.shape != x._a.shape or (dtypes and d._a.dtype != x._a.dtype):
                raise GradcheckError(f"a gradient has shape {list(d._a.shape)} and dtype {d.dtype} "
                                     f"for an input of shape {list(x._a.shape)} and dtype "
                                     f"{x.dtype}")
            column.append(flat(d._be.to_host(d._a)))
    outs = out._a.size * len(steps_of(out._a.dtype))
    return [np.array(c).reshape(outs, x._a.size * len(steps_of(x._a.dtype))).T
            for c, x in zip(columns, checked)]


def drawn(random: Any, like: Any) -> Any:
    """Normal numbers in the shape of an array, complex ones if it is complex."""
    a = np.asarray(random.standard_normal(like.shape))
    return a + 1j * random.standard_normal(like.shape) if like.dtype.kind == "c" else a


def _check_projection(func: Any, inputs: Any, outputs: Any, places: list[int],
                      checked: list[Tensor], eps: float, atol: float, rtol: float) -> None:
    """The derivative along one random direction, weighted by one random gradient."""
    random = np.random.default_rng(0)
    directions = [drawn(random, x._a) for x in checked]
    weights = {k: drawn(random, outputs[k]._a) for k in places}
    total = []
    with no_grad():
        kept = [x._a.copy() for x in checked]
        for sign in (eps, -eps):
            for x, a, d in zip(checked, kept, directions):
                x._a[...] = a + x._be.from_host(sign * d)
            total.append(sum((flat(w) * _run(func, inputs, k)).sum()
                             for k, w in weights.items()))
            for x, a in zip(checked, kept):
                x._a[...] = a
    numeric = (total[0] - total[1]) / (2 * eps)
    starts = [outputs[k] for k in places]
    given = [wrap(t._be.from_host(w).astype(t._a.dtype), t._be)
             for t, w in zip(starts, weights.values())]
    found = engine.grad(starts, checked, given, allow_unused=True)
    analytic = sum((flat(d) * flat(g._be.to_host(g._a))).sum()
                   for d, g in zip(directions, found) if g is not None)
    if not np.allclose(analytic, numeric, rtol, atol * max(1, abs(numeric))):
        raise GradcheckError(f"derivative along a random direction: {numeric:.6g} numerically, "
                             f"{analytic:.6g} analytically")


def gradgradcheck(func: Callable[..., Any], inputs: Any, grad_outputs: Any = None, *,
                  eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
                  gen_non_contig_grad_outputs: bool = False, raise_exception: bool = True,
                  nondet_tol: float = 0.0, check_undefined_grad: bool = True,
                  check_grad_dtypes: bool = False, check_batched_grad: bool = False,
                  fast_mode: bool = False) -> bool:
    """gradcheck of func's gradient: checks derivatives of the second order.

    grad_outputs: the gradients to start from, random by default.
    """
    ins = _tuple(inputs)
    outputs = _differentiable(_tuple(func(*ins)))
    if not outputs:
        raise GradcheckError("gradgradcheck: no output requires grad")
    if grad_outputs is None:
        random = np.random.default_rng(0)
        grads = [wrap(t._be.from_host(drawn(random, t._a)), t._be).requires_grad_()
                 for t in outputs]
    else:
        grads = list(_tuple(grad_outputs))

    def gradient(*args: Any) -> Any:
        xs, gs = args[:len(ins)], args[len(ins):]
        outs = _differentiable(_tuple(func(*xs)))
        wanted = [x for x in xs if isinstance(x, Tensor) and x.requires_grad]
        found = engine.grad(outs, wanted, list(gs), create_graph=True, allow_unused=True)
        return tuple(g for g in found if g is not None and g.requires_grad)

    def recorded(*args: Any) -> Any:
        with enable_grad():
            return gradient(*args)

    if not _differentiable(_tuple(gradient(*ins, *grads))):
        # the gradient is constant: nothing of the second order
        return True
    return gradcheck(recorded, (*ins, *grads), eps=eps, atol=atol, rtol=rtol,
                     raise_exception=raise_exception, nondet_tol=nondet_tol,
                     check_undefined_grad=check_undefined_grad, check_grad_dtypes=check_grad_dtypes,
                     check_batched_grad=check_batched_grad, fast_mode=fast_mode)
