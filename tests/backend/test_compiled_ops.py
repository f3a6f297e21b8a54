"""Every op that has a body for the compiled helper, over its record: with the helper and without.

Such ops are found here by themselves. Other tests run with the helper alone where there is a
compiler, and without it elsewhere.
"""
from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad import backend
from gpugrad._tensor import wrap
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend import compiled
from gpugrad.ops import load

sys.path.insert(0, str(Path(__file__).parents[1]))
import op_db_activation
import op_db_functional
import op_db_loss
import op_db_network
from op_db import RECORDS, Case

SPECS, CPU = load(), backend.cpu
assert all(m.record for m in (op_db_activation, op_db_functional, op_db_loss, op_db_network))
HELPED = sorted(name for name, spec in SPECS.items()
                if name in RECORDS and spec.impl[0] is not spec.forward
                and not name.startswith("lstm"))    # its samples are narrow: test_compiled_norms.py

pytestmark = pytest.mark.skipif(compiled.library() is None, reason=compiled.why_not[0])


class Listening:
    """The library, and the names of the kernels that were called."""

    def __init__(self) -> None:
        self.library, self.called = compiled.library(), set[str]()

    def __getattr__(self, name: str) -> Any:
        self.called.add(name)
        return getattr(self.library, name)


@contextmanager
def helper(found: Any) -> Iterator[None]:
    before = compiled._found[0]
    compiled._found[0] = found
    try:
        yield
    finally:
        compiled._found[0] = before


@contextmanager
def using(n: int) -> Iterator[None]:
    library = compiled._found[0]
    try:
        library.set_threads(n)
        library.set_few(0)                       # so that small work is shared, too
        yield
    finally:
        library.set_threads(torch.get_num_threads())
        library.set_few(1 << 20)


def outcome(name: str, case: Case) -> list[Any]:
    """The op's results and gradients in float32."""
    torch.manual_seed(0)
    tensors: list[Any] = []
    for i, a in enumerate(case.args):
        if a is not None and a.dtype.kind == "f":
            a = a.astype(np.float32)
        t = None if a is None else wrap(np.array(a), CPU)
        spec = SPECS[name]
        tensors.append(t if t is None or not t.is_floating_point() else t.requires_grad_(
            bool(spec.node) and min(i, len(spec.names) - 1) in spec.diff))
    outs = getattr(T, name)(*tensors, **case.kw)
    outs = list(outs) if isinstance(outs, tuple) else [outs]
    live = [out for out in outs if out.requires_grad]
    leaves = [t for t in tensors if t is not None and t.requires_grad]
    slopes = [wrap(np.random.default_rng(1).standard_normal(out.shape).astype(out._a.dtype), CPU)
              for out in live]
    grads = torch.autograd.grad(live, leaves, slopes, allow_unused=True) if live else ()
    return [t if t is None else t.detach().numpy() for t in (*outs, *grads)]


def near(got: list[Any], want: list[Any]) -> None:
    for a, b in zip(got, want, strict=True):
        if b is None:
            assert a is None
            continue
        assert a.shape == b.shape and a.dtype == b.dtype
        if b.dtype.kind == "f":
            finite = b[np.isfinite(b)]
            size = np.abs(finite).max() if finite.size else 1
            np.testing.assert_allclose(a, b, 1e-5, 1e-5 * max(size, 1e-3), equal_nan=True)
        elif b.size == a.size:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", HELPED)
def test_records(name: str) -> None:
    listening = Listening()
    for case in RECORDS[name].samples():
        with helper(None):
            want = outcome(name, case)
        with helper(listening):
            got = outcome(name, case)
        near(got, want)
        for n in (2, 3):
            with using(n):
                for a, b in zip(outcome(name, case), got, strict=True):
                    np.testing.assert_array_equal(a, b)
    assert listening.called - {"set_threads", "set_few"}, f"no sample of {name} reaches a kernel"


# More shapes than records have ------------------------------------------------------------------


def both(run: Any) -> None:
    """run() with the helper on one, two and three threads, bit by bit, and without it."""
    with helper(None):
        want = run()
    with using(1):
        got = run()
    near(got, want)
    for n in (2, 3):
        with using(n):
            for a, b in zip(run(), got, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("seed", range(12))
def test_convolutions(seed: int) -> None:
    pick, draw = random.Random(seed), np.random.default_rng(seed)
    for _ in range(5):
        groups, c = pick.choice([1, 1, 2, 3]), pick.choice([1, 3, 8, 17])
        m = pick.choice([1, 6, 20])
        kernel = [pick.choice([1, 2, 3, 5]) for _ in "ab"]
        how = {"stride": pick.choice([1, (2, 1), 2, 3]), "padding": pick.choice([0, (1, 4), 2]),
               "dilation": pick.choice([1, 1, (1, 2)]), "groups": groups}
        shape = [pick.choice([1, 2, 17, 33]), groups * c, pick.choice([9, 16, 19]),
                 pick.choice([9, 12, 16, 37])]
        x, w, b = (draw.standard_normal(size).astype(np.float32) for size in (
            shape, (groups * m, c, *kernel), groups * m))
        turned = pick.random() < 0.3

        def run(x: Any = x, w: Any = w, b: Any = b, how: Any = how, turned: bool = turned) -> Any:
            leaves = [torch.tensor(a).requires_grad_() for a in (x, w, b)]
            images = leaves[0].mT.contiguous().mT if turned else leaves[0]
            y = torch.nn.functional.conv2d(images, *leaves[1:], **how)
            slope = np.random.default_rng(1).standard_normal(y.shape).astype(np.float32)
            grads = torch.autograd.grad(y, leaves, torch.tensor(slope))
            return [t.detach().numpy() for t in (y, *grads)]

        both(run)


@pytest.mark.parametrize("seed", range(6))
def test_pools(seed: int) -> None:
    pick, draw = random.Random(seed), np.random.default_rng(seed)
    F: Any = torch.nn.functional
    for _ in range(6):
        x = draw.standard_normal((pick.choice([1, 3]), 5, pick.choice([9, 16, 21]),
                                  pick.choice([9, 16, 40]))).astype(np.float32)
        x = x if pick.random() < 0.5 else np.maximum(x, 0)           # with many equal elements
        if pick.random() < 0.3:
            x[draw.random(x.shape) < 0.1] = pick.choice([np.nan, -np.inf])
        kernel = pick.choice([2, 3, (2, 5)])
        how = {"stride": pick.choice([1, 2, (3, 1)]), "padding": pick.choice([0, 1]),
               "ceil_mode": pick.random() < 0.5}
        size = pick.choice([1, (3, 4), (7, 2)])

        def run(x: Any = x, kernel: Any = kernel, how: Any = how, size: Any = size) -> Any:
            leaf = torch.tensor(x).requires_grad_()
            outs = [*F.max_pool2d(leaf, kernel, return_indices=True, dilation=2, **how),
                    F.max_pool2d(leaf, kernel, **how), F.avg_pool2d(leaf, kernel, **how),
                    F.avg_pool2d(leaf, kernel, count_include_pad=False, **how),
                    F.adaptive_avg_pool2d(leaf, size),
                    *F.adaptive_max_pool2d(leaf, size, return_indices=True)]
            grads = [torch.autograd.grad(y.sin().sum(), leaf)[0] for y in outs if y.requires_grad]
            with torch.no_grad():
                outs.append(F.max_pool2d(leaf, kernel, **how))
            return [t.detach().numpy() for t in (*outs, *grads)]

        both(run)


def test_other_dtypes_and_empty_arrays_are_numpys() -> None:
    for dtype in (torch.float64, torch.float16):
        x = torch.ones(2, 3, 8, 8, dtype=dtype, requires_grad=True)
        y = torch.nn.functional.max_pool2d(torch.nn.functional.conv2d(
            x, torch.ones(4, 3, 3, 3, dtype=dtype)), 2)
        y.sum().backward()
        assert y.dtype == dtype and x.grad is not None and (y == 27).all()
    empty = torch.ones(0, 3, 8, 8, requires_grad=True)
    torch.nn.functional.conv2d(empty, torch.ones(4, 3, 3, 3)).sum().backward()
    assert empty.grad is not None and empty.grad.shape == (0, 3, 8, 8)


@pytest.mark.parametrize("size", [(64, 400, 120), (9, 5000, 17), (300, 31, 40), (1000, 8, 100)])
@pytest.mark.parametrize("orders", ["CC", "CF", "FC", "FF", "SS"])
def test_products(size: tuple[int, int, int], orders: str) -> None:
    m, k, n = size
    draw = np.random.default_rng(0)
    a, b = (np.asarray(draw.standard_normal(shape).astype(np.float32), order=order)  # type: ignore
            for shape, order in zip(((m, k), (k, n)), orders.replace("S", "C")))
    if orders == "SS":                           # every other one of each row
        a, b = np.repeat(a, 2, 1)[:, ::2], np.repeat(b, 2, 1)[:, ::2]
    listening = Listening()
    with helper(listening):
        both(lambda: [CPU.matmul(a, b)])
    assert "product" in listening.called
    np.testing.assert_allclose(CPU.matmul(a, b), a.astype(float) @ b, 1e-4, 1e-4)


@pytest.mark.parametrize("quiet", [True, False])
def test_large_products_are_left_to_blas_if_its_threads_are_not_in_the_way(
        quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(type(CPU).product.__globals__, "QUIET", quiet)
    a, n = np.ones((512, 520), np.float32), torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            listening = Listening()
            with helper(listening):
                assert (CPU.matmul(a, a.T) == 520).all()
            assert ("product" in listening.called) == (threads > 1 and not quiet)
    finally:
        torch.set_num_threads(n)
