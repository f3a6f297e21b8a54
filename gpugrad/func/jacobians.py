"""jacrev, jacfwd and hessian."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor, wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.func.transforms import Function, Linear, chosen, replaced, wrapped
from gpugrad.func.trees import unflatten


def _unit(x: Tensor, i: int) -> Tensor:
    """Zeros with a 1 at the i-th element."""
    a = x._be.xp.zeros(x._a.shape, x._a.dtype)
    a.reshape(-1)[i] = 1
    return wrap(a, x._be)


def _zeros(values: list[Tensor]) -> list[Tensor]:
    return [wrap(v._be.xp.zeros(v._a.shape, v._a.dtype), v._be) for v in values]


def _stacked(parts: list[Tensor], like: Tensor, shape: tuple[int, ...], dim: int) -> Tensor:
    """Tensors along a new dim, in a shape; of none zeros."""
    if not parts:
        return wrap(like._be.xp.zeros(shape, like._a.dtype), like._be)
    return T.reshape(T.stack(*parts, dim=dim), shape)


def _check(chunk_size: Any, name: str) -> None:
    if chunk_size is not None and chunk_size <= 0:
        raise ValueError(f"{name}: `chunk_size` should be greater than 0.")


def _linear(func: Function, args: Any, kw: Any, argnums: Any, has_aux: bool, name: str) -> Linear:
    """func as a function of the arguments meant alone, run."""
    def of_chosen(*given: Any) -> Any:
        new = given[0] if isinstance(argnums, int) else given
        return func(*replaced(args, argnums, new), **kw)
    some = chosen(args, argnums)
    return Linear(of_chosen, (some,) if isinstance(argnums, int) else some, has_aux, name)


def _arranged(rows: list[list[Tensor]], line: Linear, argnums: Any) -> Any:
    """rows[output][input], in the outputs' structure, then in that of the arguments."""
    def of_inputs(row: list[Tensor]) -> Any:
        out = unflatten(row, line.tree)
        return out[0] if isinstance(argnums, int) else out
    return unflatten([of_inputs(row) for row in rows], line.out_tree)


def jacrev(func: Function, argnums: Any = 0, *, has_aux: bool = False, chunk_size: Any = None,
           _preallocate_and_copy: bool = False) -> Function:
    """A function that returns the Jacobian of func, by one backward for each output's element.

    A tensor of the output's shape followed by the input's; in the structure of the outputs, and in
    each the structure of the arguments. chunk_size changes nothing.
    """
    _check(chunk_size, "jacrev")

    @wrapped(func)
    def jacobian(*args: Any, **kw: Any) -> Any:
        line = _linear(func, args, kw, argnums, has_aux, "vjp(f, *primals)")
        rows = []
        for k, y in enumerate(line.outputs):
            found = []
            for i in range(y.numel()):
                starts = _zeros(line.outputs)
                starts[k] = _unit(y, i)
                found.append(line.backward(starts))
            rows.append([_stacked([f[j] for f in found], x, (*y._a.shape, *x._a.shape), 0)
                         for j, x in enumerate(line.level.inputs)])
        out = _arranged(rows, line, argnums)
        return (out, line.aux) if has_aux else out
    return jacobian


def jacfwd(func: Function, argnums: Any = 0, has_aux: bool = False, *,
           randomness: str = "error") -> Function:
    """jacrev, by a column for each input's element; each goes backward twice, as jvp does."""
    @wrapped(func)
    def jacobian(*args: Any, **kw: Any) -> Any:
        line = _linear(func, args, kw, argnums, has_aux, "jvp(f, primals, tangents)")
        columns = []
        for j, x in enumerate(line.level.inputs):
            found = []
            for i in range(x.numel()):
                tangents = _zeros(line.level.inputs)
                tangents[j] = _unit(x, i)
                found.append(line.forward(tangents))
            columns.append([_stacked([f[k] for f in found], y, (*y._a.shape, *x._a.shape), y.ndim)
                            for k, y in enumerate(line.outputs)])
        rows = [[column[k] for column in columns] for k in range(len(line.outputs))]
        out = _arranged(rows, line, argnums)
        return (out, line.aux) if has_aux else out
    return jacobian


def hessian(func: Function, argnums: Any = 0) -> Function:
    """A function that returns the second derivatives of func: the Jacobian of the Jacobian."""
    return jacrev(jacrev(func, argnums), argnums)
