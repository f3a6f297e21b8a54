"""Embedding, index_add, adaptive maxima and gradient scaling give what PyTorch gives."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad
import gpugrad.nn.functional as F

torch = pytest.importorskip("torch")
TF = torch.nn.functional


def draw(*shape: int, seed: int = 0) -> Any:
    return np.array(np.random.default_rng(seed).standard_normal(shape))


def both(f: Any, *arrays: Any, same_node: bool = True) -> None:
    """f(library, its functional, tensors...) gives the same results, gradients and node."""
    def run(lib: Any, fn: Any) -> tuple[list[Any], list[str]]:
        ins = [lib.from_numpy(a.copy()) for a in arrays]
        leaves = [t.requires_grad_() for t in ins if t.is_floating_point()]
        out = f(lib, fn, *ins)
        outs = list(out) if isinstance(out, tuple) else [out]
        first = lib.autograd.grad(outs[0].pow(2).sum(), leaves, create_graph=True)
        nodes = [t.grad_fn.name() for t in (outs[0], *first) if t.grad_fn is not None]
        second = lib.autograd.grad(first[0].pow(2).sum(), leaves, allow_unused=True)
        found = [*outs, *first, *[g for g in second if g is not None]]
        return [t.detach().numpy() for t in found], nodes
    (got, nodes), (want, theirs) = run(gpugrad, F), run(torch, TF)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    assert nodes[0] == theirs[0] or not same_node


INDEX = np.array([[1, 3, 1, 0], [4, 1, 3, 3]])


@pytest.mark.parametrize("kw", [{}, {"padding_idx": 1}, {"padding_idx": -2}])
def test_embedding(kw: Any) -> None:
    both(lambda lib, fn, w, i: fn.embedding(i, w, **kw), draw(5, 3), INDEX)
    both(lambda lib, fn, w, i: lib.embedding(w, i), draw(5, 3), INDEX.astype(np.int32))


@pytest.mark.parametrize("kw", [{}, {"padding_idx": 3}])
def test_embedding_gradient_by_frequency(kw: Any) -> None:
    """PyTorch's second derivative leaves the frequency out; the first one is compared."""
    def run(lib: Any, fn: Any) -> Any:
        w = lib.from_numpy(draw(5, 3)).requires_grad_()
        y = fn.embedding(lib.from_numpy(INDEX), w, scale_grad_by_freq=True, **kw)
        return lib.autograd.grad(y.pow(2).sum(), w)[0].numpy()
    np.testing.assert_allclose(run(gpugrad, F), run(torch, TF), rtol=1e-12)


@pytest.mark.parametrize("p", [2.0, 1.0, float("inf")])
def test_embedding_max_norm(p: float) -> None:
    def run(lib: Any, fn: Any) -> list[Any]:
        w = lib.from_numpy(draw(5, 3) * 3).requires_grad_()
        y = fn.embedding(lib.from_numpy(INDEX), w, max_norm=1.0, norm_type=p)
        return [y.detach().numpy(), w.detach().numpy()]
    for a, b in zip(run(gpugrad, F), run(torch, TF)):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_embedding_errors() -> None:
    for i, w in (([5], draw(5, 3)), ([-1], draw(5, 3)), ([1.5], draw(5, 3)), ([1], draw(5))):
        errors = []
        for lib, fn in ((gpugrad, F), (torch, TF)):
            with pytest.raises((IndexError, RuntimeError)) as e:
                fn.embedding(lib.tensor(i), lib.from_numpy(w))
            errors.append((type(e.value), str(e.value)))
        assert errors[0] == errors[1]


@pytest.mark.parametrize("alpha", [1, -2])
def test_index_add(alpha: int) -> None:
    at = np.array([2, 0, 2, 2])
    both(lambda lib, fn, x, s, i: lib.index_add(x, 0, i, s, alpha=alpha), draw(3, 2),
         draw(4, 2, seed=1), at)
    both(lambda lib, fn, x, s, i: x.clone().index_add_(1, i, s, alpha=alpha), draw(2, 3),
         draw(2, 4, seed=1), at)


@pytest.mark.parametrize(("x", "dim", "i", "source"), [
    (draw(3, 2), 0, [[0]], draw(1, 2)), (draw(3, 2), 0, [0.0], draw(1, 2)),
    (draw(3, 2), 0, [0, 1], draw(1, 2)), (draw(3, 2), 0, [3], draw(1, 2)),
    (draw(3, 2), 0, [-1], draw(1, 2)), (draw(3, 2), 0, [1], draw(1, 3)),
    (draw(3, 2), 0, [1], draw(1, 2).astype("f4")), (draw(3, 2), 2, [1], draw(1, 2))])
def test_index_add_errors(x: Any, dim: int, i: Any, source: Any) -> None:
    errors = []
    for lib in (gpugrad, torch):
        with pytest.raises((IndexError, RuntimeError)) as e:
            lib.index_add(lib.from_numpy(x), dim, lib.tensor(i), lib.from_numpy(source))
        errors.append((type(e.value), str(e.value)))
    assert errors[0] == errors[1]


def test_index_select_has_pytorchs_gradient_node() -> None:
    both(lambda lib, fn, x, i: x.index_select(1, i), draw(3, 4), np.array([0, 2, 0]))


@pytest.mark.parametrize("size", [3, (3, 2), (None, 2), (7, 8), 1])
def test_adaptive_maxima(size: Any) -> None:
    for shape in ((2, 3, 5, 7), (3, 5, 7)):             # a sample goes as a batch of one
        both(lambda lib, fn, x: fn.adaptive_max_pool2d(x, size, return_indices=True), draw(*shape),
             same_node=len(shape) == 4)
    ties = np.round(draw(1, 2, 6, 6))
    ties[0, 0, 2:4, 2:4] = np.nan
    for lib, fn in ((gpugrad, F), (torch, TF)):
        found = fn.adaptive_max_pool2d(lib.from_numpy(ties), size, return_indices=True)
        if lib is gpugrad:
            got = found
    for a, b in zip(got, found):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_adaptive_maxima_of_sequences() -> None:
    for shape in ((2, 3, 7), (3, 7)):
        both(lambda lib, fn, x: fn.adaptive_max_pool1d(x, 3, return_indices=True), draw(*shape))


def test_adaptive_maximum_layers() -> None:
    for name, sizes, x in (("AdaptiveMaxPool1d", (3,), draw(2, 3, 7)),
                           ("AdaptiveMaxPool2d", (3, (2, None)), draw(2, 3, 5, 7))):
        for size in sizes:
            mine, theirs = (getattr(lib.nn, name)(size) for lib in (gpugrad, torch))
            assert repr(mine) == repr(theirs)
            np.testing.assert_array_equal(mine(gpugrad.from_numpy(x)).numpy(),
                                          theirs(torch.from_numpy(x)).numpy())


def test_unscaling_and_the_scale() -> None:
    for bad in (0.5, np.inf, np.nan):
        found = []
        for lib in (gpugrad, torch):
            xs = [lib.from_numpy(np.array([1.0, bad], "f4")), lib.tensor([[3.0]])]
            inf, factor = lib.zeros(1), lib.tensor([0.125])
            lib._amp_foreach_non_finite_check_and_unscale_(xs, inf, factor)
            scale, tracker = lib.tensor([8.0]), lib.tensor([1], dtype=lib.int32)
            lib._amp_update_scale_(scale, tracker, inf, 2.0, 0.5, 2)
            found.append([t.numpy() for t in (*xs, inf, scale, tracker)])
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kw", [{"fused": True}, {"fused": True, "amsgrad": True}])
def test_a_scaler_may_cancel_a_fused_step(kw: Any) -> None:
    def run(lib: Any) -> Any:
        p = lib.nn.Parameter(lib.from_numpy(draw(4).astype("f4")))
        opt = lib.optim.Adam([p], lr=0.1, **kw)
        assert opt._step_supports_amp_scaling
        for t, inf in ((0, 0.0), (1, 1.0), (2, 0.0)):
            p.grad = lib.from_numpy(draw(4, seed=t).astype("f4") * 4)
            opt.grad_scale, opt.found_inf = lib.tensor(4.0), lib.tensor(inf)
            opt.step()
        return p.detach().numpy(), opt.state[p]["step"].item()
    (got, steps), (want, theirs) = run(gpugrad), run(torch)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert steps == theirs == 2
