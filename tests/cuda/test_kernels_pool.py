"""Pooling kernels against the portable text: dtypes, odd shapes, NaN, ties, other memory orders."""
from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import backend
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend import kernels

pytestmark = pytest.mark.gpu

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
UNTIL = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 5e-3, torch.bfloat16: 4e-2}

# shape, kernel, stride, padding, dilation, ceil_mode
GEOMETRIES: list[tuple[Any, ...]] = [
    ((2, 3, 7, 5), 2, 2, 0, 1, False),
    ((1, 5, 9, 11), 3, 2, 1, 1, True),
    ((3, 1, 6, 6), (2, 3), (1, 2), (1, 0), (2, 1), False),
    ((1, 1, 1, 13), (1, 4), (1, 3), (0, 2), 1, True),
    ((0, 2, 5, 5), 3, 1, 1, 1, False),
    ((2, 2, 33, 17), 5, 3, 2, 1, True),
]


def draw(shape: Any, kind: str = "", seed: int = 0) -> Any:
    a = np.random.default_rng(seed).standard_normal(shape)
    if kind == "ties":
        a = np.round(a)
    if kind == "nan" and a.size:
        a.reshape(-1)[::3] = math.nan
    if kind == "infinite" and a.size:
        a.reshape(-1)[::2] = -math.inf
    return a


def slopes(y: Any) -> Any:
    g = np.random.default_rng(7).standard_normal(y.shape)
    return torch.from_numpy(np.array(g)).to(y.device, y.dtype)


def run(f: Any, x: Any, device: str, dtype: Any, layout: Any = lambda t: t) -> list[Any]:
    """Results and the gradients of the first and second order."""
    leaf = torch.from_numpy(x).to(device, dtype).requires_grad_()
    out = f(layout(leaf))
    outs = list(out) if isinstance(out, tuple) else [out]
    y = outs[0]
    slope = slopes(y).requires_grad_()
    gx, = torch.autograd.grad(y, leaf, slope, create_graph=True)
    ggx, = torch.autograd.grad(gx, slope, slopes(gx))
    return [t.detach() for t in (*outs, gx, ggx)]


def same(f: Any, x: Any, dtype: Any, layout: Any = lambda t: t) -> None:
    for a, b in zip(run(f, x, "cuda", dtype, layout), run(f, x, "cpu", dtype, layout), strict=True):
        assert a.is_cuda and a.dtype is b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a.cpu().double().numpy(), b.double().numpy(), rtol=UNTIL[dtype],
                                   atol=UNTIL[dtype])


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("indices", [False, True])
def test_maxima(geometry: Any, dtype: Any, indices: bool) -> None:
    shape, *how = geometry
    for kind in ("", "ties", "nan", "infinite"):
        same(lambda x: F.max_pool2d(x, *how, return_indices=indices), draw(shape, kind), dtype)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_means(geometry: Any, dtype: Any) -> None:
    shape, kernel, stride, padding, _, ceil_mode = geometry
    for more in ((True, None), (False, None), (True, 3)):
        same(lambda x, more=more: F.avg_pool2d(x, kernel, stride, padding, ceil_mode, *more),
             draw(shape), dtype)


SIZES = [((2, 3, 7, 5), (3, 2)), ((1, 5, 9, 11), (4, 7)), ((1, 1, 3, 2), (5, 4)),
         ((2, 1, 8, 6), (4, 3)), ((0, 2, 4, 4), (2, 2)), ((1, 2, 5, 5), (1, 1)),
         ((2, 2, 4, 4), (0, 3))]


@pytest.mark.parametrize(("shape", "size"), SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_adaptive_means(shape: Any, size: Any, dtype: Any) -> None:
    same(lambda x: T.adaptive_avg_pool2d(x, output_size=size), draw(shape), dtype)


@pytest.mark.parametrize(("shape", "size"), SIZES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_adaptive_maxima(shape: Any, size: Any, dtype: Any) -> None:
    for kind in ("", "ties", "nan"):
        same(lambda x: F.adaptive_max_pool2d(x, size, return_indices=True), draw(shape, kind),
             dtype)


@pytest.mark.parametrize("layout", [lambda t: t.transpose(2, 3), lambda t: t[:, :, ::2],
                                    lambda t: t[:, :1].expand(t.shape)],
                         ids=["transposed", "strided", "expanded"])
def test_memory_in_other_orders(layout: Any) -> None:
    x = draw((2, 3, 8, 6))
    for f in (lambda t: F.max_pool2d(t, 2, return_indices=True), lambda t: F.avg_pool2d(t, 2, 1),
              lambda t: F.adaptive_max_pool2d(t, 3, True), lambda t: F.adaptive_avg_pool2d(t, 3)):
        same(f, x, torch.float64, layout)


def test_sequences_and_samples_without_a_batch() -> None:
    for shape in ((2, 3, 9), (3, 9)):
        for f in (lambda t: F.max_pool1d(t, 3, 2, 1, return_indices=True),
                  lambda t: F.avg_pool1d(t, 3, 2, 1), lambda t: F.adaptive_avg_pool1d(t, 4),
                  lambda t: F.adaptive_max_pool1d(t, 4, return_indices=True)):
            same(f, draw(shape), torch.float32)
    same(lambda t: F.adaptive_max_pool2d(t, (None, 2)), draw((3, 5, 6)), torch.float32)


def test_arrays_of_more_than_two_billion_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they run, on small ones: the kernels with 64-bit indices."""
    monkeypatch.setattr(kernels, "NARROW", 0)
    for geometry in GEOMETRIES[1:3]:
        test_maxima(geometry, torch.float32, True)
        test_means(geometry, torch.float32)
    test_adaptive_maxima(*SIZES[1], torch.float32)
    test_adaptive_means(*SIZES[1], torch.float32)


def test_positions_are_32_bits_unless_they_are_asked_for() -> None:
    x = torch.ones(1, 2, 4, 4, device="cuda", requires_grad=True)
    _, at = T.max_pool2d(x, kernel=(2, 2), stride=(2, 2), padding=(0, 0), dilation=(1, 1),
                         ceil_mode=False)
    assert at.dtype is torch.int32
    for f in (F.max_pool2d, F.adaptive_max_pool2d):
        assert f(x, 2, return_indices=True)[1].dtype is torch.int64


def test_gradients_go_through_positions_of_any_origin() -> None:
    """Without their windows, positions are sorted and their gradients summed in order."""
    at = np.random.default_rng(2).integers(0, 20, (2, 3, 6, 7))
    g = draw((2, 3, 6, 7), seed=3)
    got, want = (T.plane_scatter(torch.from_numpy(g).to(d), torch.from_numpy(at).to(d),
                                 x_shape=(2, 3, 4, 5)).cpu().numpy() for d in ("cuda", "cpu"))
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_integers_and_kernels_turned_off_go_the_portable_way(monkeypatch: Any) -> None:
    x = torch.arange(48, device="cuda").reshape(1, 3, 4, 4)
    assert F.max_pool2d(x, 2).cpu().equal(F.max_pool2d(x.cpu(), 2))
    be = backend.get("cuda")
    monkeypatch.setattr(be.kernels, "on", False)
    assert not be.takes(np.dtype("f4"))
    for f in (lambda t: F.max_pool2d(t, 3, 2, 1), lambda t: F.avg_pool2d(t, 3, 2, 1),
              lambda t: F.adaptive_avg_pool2d(t, (3, 2)),
              lambda t: F.adaptive_max_pool2d(t, (3, 2), return_indices=True)):
        same(f, draw((1, 2, 5, 7)), torch.float32)
