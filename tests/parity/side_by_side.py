"""Runs one line of code with torch and with gpugrad, and tells in what the outcomes differ.

A line is an expression, or statements that leave their result in ``r``. In it ``t`` is the library
and the names of INPUTS are tensors. It runs twice: without gradients, for values, dtypes, memory
and errors, and with every floating-point input a leaf, for gradients and history.
"""
from __future__ import annotations

import warnings
from types import CodeType
from typing import Any

import numpy as np
import pytest

import gpugrad
from gpugrad._tensor import Tensor, wrap

torch = pytest.importorskip("torch")


def _inputs() -> dict[str, Any]:
    r = np.random.default_rng(0)

    def f(*shape: int) -> Any:
        return r.standard_normal(shape).astype(np.float32)

    return {
        "x": f(3, 4), "y": f(3, 4), "v": f(4), "w": f(3), "s": f(), "A": f(2, 3, 4),
        "B": f(2, 4, 5),
        "F": f(2, 3, 4, 5), "m": f(4, 5), "q": f(4, 4), "col": f(3, 1), "e": f(0, 3), "e1": f(0),
        "p": np.abs(f(3, 4)) + np.float32(0.1), "n": r.integers(-3, 4, (3, 4)).astype(np.float32),
        "nan": np.array([[1, np.nan, 3], [np.inf, 0, -np.inf]], np.float32),
        "tie": np.array([[1, 2, 2, 1], [3, 3, 0, 3], [0, 0, 0, 0]], np.float32),
        "i": r.integers(-5, 6, (3, 4)), "j": r.integers(1, 5, (3, 4)), "k": r.integers(0, 3, (5,)),
        "k4": r.integers(0, 3, (2, 4)), "u": r.integers(0, 9, (3, 4)).astype(np.uint8),
        "b": r.random((3, 4)) > 0.5, "c": r.random((3, 4)) > 0.5,
        "br": np.array([True, False, True]),
        "n0": np.array(2), "b0": np.array(True)}


INPUTS = _inputs()


def _compile(code: str) -> tuple[CodeType, bool]:
    try:
        return compile(code, "case", "eval"), True
    except SyntaxError:
        return compile(code, "case", "exec"), False


def _array(t: Any) -> Any:
    return t._a if isinstance(t, Tensor) else t.detach().numpy()


def _tensors(v: Any) -> list[Any]:
    if isinstance(v, (Tensor, torch.Tensor)):
        return [v]
    return [t for u in v for t in _tensors(u)] if isinstance(v, tuple | list) else []


def _memory(t: Any) -> Any:
    """Something that two tensors have in common if they share memory."""
    if isinstance(t, torch.Tensor):
        return t.untyped_storage().data_ptr()
    a = t._be.root(t._a)
    return a.__array_interface__["data"][0]


def _structure(v: Any) -> Any:
    if isinstance(v, (Tensor, torch.Tensor)):
        return "Tensor"
    if isinstance(v, (gpugrad.Size, torch.Size)):
        return tuple(v)
    if isinstance(v, tuple | list):
        return [type(v).__name__.rpartition(".")[2], *map(_structure, v)]
    plain = isinstance(v, str | int | float | bool) or v is None
    return v if plain else str(v)


def outcome(lib: Any, code: str, grad: bool) -> dict[str, Any]:
    """What a run shows: aspects by name, or "error" and "text"."""
    compiled, expression = _compile(code)
    ins = {}
    for name in INPUTS:
        if name in compiled.co_names:
            a = INPUTS[name].copy()
            ins[name] = torch.from_numpy(a) if lib is torch else wrap(a)
            if grad and a.dtype.kind == "f":
                ins[name].requires_grad_()
    scope = {**ins, "t": lib, "np": np, "inf": float("inf")}
    try:
        if expression:
            result = eval(compiled, scope)
        else:
            exec(compiled, scope)
            result = scope.get("r")
        outs = _tensors(result)
        facts = {"structure": _structure(result), "shape": [tuple(t.shape) for t in outs],
                 "dtype": [str(t.dtype) for t in outs], "value": [_array(t).copy() for t in outs],
                 "after": {k: _array(t).copy() for k, t in ins.items()}}
        if grad:
            facts |= _history(lib, ins, outs)
        else:
            facts |= _layout(ins, outs)
            if type(result).__name__ in ("max", "min", "aminmax"):
                facts["repr"] = repr(result)
        return facts
    except Exception as e:
        return {"error": type(e).__name__, "text": str(e)}


def _layout(ins: dict[str, Any], outs: list[Any]) -> dict[str, Any]:
    some = [t for t in outs if t.numel()]
    return {
        "strides": [[s for s, n in zip(t.stride(), t.shape) if n > 1] for t in some],
        "memory": [[k for k,
                    x in ins.items() if x.numel() and _memory(x) == _memory(t)] for t in some],
        "identity": [[k for k, x in ins.items() if x is t] for t in outs],
        "version": {k: x._version for k, x in ins.items()}}


def _history(lib: Any, ins: dict[str, Any], outs: list[Any]) -> dict[str, Any]:
    names = [t.grad_fn and t.grad_fn.name().rpartition(":")[2] for t in outs]
    facts: dict[str, Any] = {"requires_grad": [t.requires_grad for t in outs], "grad_fn": names}
    live, leaves = [t for t in outs if t.requires_grad], {k: x for k,
                                                          x in ins.items() if x.requires_grad}
    if live and leaves:
        r = np.random.default_rng(1)
        slopes = [lib.from_numpy(np.asarray(r.standard_normal(tuple(t.shape)),
                                            _array(t).dtype)) for t in live]
        found = lib.autograd.grad(live, list(leaves.values()), slopes, allow_unused=True)
        facts["gradient"] = {k: None if g is None else _array(g).copy() for k,
                             g in zip(leaves, found)}
    return facts


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and a.dtype == b.dtype and np.allclose(a, b, 1e-5, 1e-5,
                                                                         equal_nan=True)
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return a == pytest.approx(b, rel=1e-5, nan_ok=True)
    return type(a) is type(b) and bool(a == b)


def differences(code: str) -> dict[str, tuple[Any, Any]]:
    """The aspects in which torch and gpugrad differ, with what each has."""
    out: dict[str, tuple[Any, Any]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for grad in (False, True):
            a, b = outcome(torch, code, grad), outcome(gpugrad, code, grad)
            if ("error" in a) != ("error" in b) or a.get("error") != b.get("error"):
                out["error"] = (a.get("error"), a.get("text")), (b.get("error"), b.get("text"))
            elif "error" in a:       # ours may go on, with the shapes and the way out; hints differ
                if not b["text"].startswith(a["text"].partition("\n")[0].partition(" "
                                                                                   "Hint")[0].rstrip(".")):
                    out["text"] = a["text"], b["text"]
            else:
                out.update({k: (a[k], b.get(k)) for k in a if not _equal(a[k], b.get(k))})
    return out


def lines(text: str) -> list[Any]:
    """Cases from a text: a line each, then after "#!" the aspects that are known to differ."""
    cases = [line.strip() for line in text.strip().splitlines()]
    return [pytest.param(code.strip(), known.split(), id=code.strip())
            for code, _,
            known in (c.partition("#!") for c in cases if c and not c.startswith("# "))]


def check(code: str, known: list[str]) -> None:
    found = differences(code)
    told = "\n".join(f"{k}:\n  torch   {a!r}\n  gpugrad {b!r}" for k, (a, b) in found.items())
    assert sorted(found) == sorted(known), f"{code}\n{told}"
