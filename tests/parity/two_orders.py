"""Runs one expression with torch and with gpugrad on leaves: values, first and second gradients."""
from __future__ import annotations

import warnings
from itertools import zip_longest
from typing import Any

import numpy as np
import pytest

import gpugrad
from gpugrad._tensor import Tensor

torch = pytest.importorskip("torch")


def host(t: Any) -> Any:
    """The NumPy array of a tensor of either library; None stays."""
    if t is None or isinstance(t, Tensor):
        return None if t is None else t.detach().numpy()
    return t.detach().resolve_conj().resolve_neg().numpy(force=True)


def drawn(lib: Any, random: Any, like: Any) -> Any:
    a = np.asarray(random.standard_normal(tuple(like.shape)))
    if like.is_complex():
        a = a + 1j * random.standard_normal(tuple(like.shape))
    return lib.tensor(a.astype(host(like).dtype)).requires_grad_()


def orders(lib: Any, code: str, arrays: dict[str, Any]) -> list[list[Any]]:
    """[values, gradients, second gradients], or the exception."""
    leaves, scope = [], {"t": lib, "inf": float("inf")}
    for name, a in arrays.items():
        x = scope[name] = lib.tensor(a)
        if a.dtype.kind in "fc":
            leaves.append(x.requires_grad_())
    out = eval(code, scope)
    outs = list(out) if isinstance(out, tuple | list) else [out]
    random = np.random.default_rng(4)
    live = [t for t in outs if t.requires_grad]
    first = second = []
    if live:
        slopes = [drawn(lib, random, t) for t in live]
        first = lib.autograd.grad(live, leaves, slopes, allow_unused=True, create_graph=True)
        again = [g for g in first if g is not None and g.requires_grad]
        if again:
            slopes2 = [drawn(lib, random, g) for g in again]
            second = lib.autograd.grad(again, leaves + slopes, slopes2, allow_unused=True)
    return [[host(t) for t in level] for level in (outs, first, second)]


def outcome(lib: Any, code: str, arrays: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return orders(lib, code, arrays)
        except Exception as error:
            return error


def agree(code: str, **arrays: Any) -> None:
    """Assert that both libraries give the same, or raise the same type."""
    a, b = outcome(torch, code, arrays), outcome(gpugrad, code, arrays)
    if isinstance(a, Exception) or isinstance(b, Exception):
        assert type(a).__name__.strip("_") == type(b).__name__, f"torch: {a!r}, gpugrad: {b!r}"
        return
    for level, (p, q) in enumerate(zip(a, b)):
        assert level or len(p) == len(q)
        for i, (u, v) in enumerate(zip_longest(p, q)):
            if level and (u is None or v is None):       # no gradient, or one of zeros
                assert not np.any(u if v is None else v)
                continue
            where = f"{code}: level {level}, number {i}"
            assert u.dtype == v.dtype and u.shape == v.shape, where
            until = 2e-4 if u.dtype in ("f4", "c8") else 1e-6
            size = max(1.0, float(np.abs(u[np.isfinite(u)]).max(initial=0)))
            np.testing.assert_allclose(v, u, until, until * size, err_msg=where)
