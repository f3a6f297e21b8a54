"""Gradients of complex numbers: the one place where a rule's result is conjugated.

PyTorch's gradient of a real loss L with respect to z is dL/d(real z) + i dL/d(imag z). For a
function f that has a complex derivative this is g * conj(f'(z)), while the rules of ops, which were
written for real numbers, compute R(g) = g * f'(z). So such a rule gets conj(g), and its result is
conjugated: conj(R(conj(g))). Ops that have no complex derivative, such as abs or real, declare
``holomorphic=False``, and their rules are left alone.

The engine looks at ``_state.complex_gradients`` once a sweep, so a program without complex numbers
pays nothing.
"""
from __future__ import annotations

from typing import Any

from gpugrad._state import complex_gradients
from gpugrad._tensor import Tensor


def complex_gradients_ahead() -> None:
    """From now on gradients in this process may be complex.

    Called when a complex tensor comes to require grad, or real numbers become complex ones.
    """
    complex_gradients[0] = True


def is_complex(v: Any) -> bool:
    """Is an array or a Tensor, which may be None, of a complex dtype?"""
    return v is not None and (v._a if isinstance(v, Tensor) else v).dtype.kind == "c"


def conjugated(o: Any, v: Any) -> Any:
    return o.conj_physical(v) if is_complex(v) else v


def run(node: Any, o: Any, g: Any, edges: Any) -> Any:
    """node.run(o, g, edges), right for complex gradients, too."""
    if not node.holomorphic or not (is_complex(g) if node.n_out == 1
                                    else any([is_complex(v) for v in g])):
        return node.run(o, g, edges)
    g = o.conj_physical(g) if node.n_out == 1 else [conjugated(o, v) for v in g]
    return [conjugated(o, v) for v in node.run(o, g, edges)]
