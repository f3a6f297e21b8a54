"""The kernels around convolutions against the portable text: columns, and depthwise convolution."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import backend
from gpugrad.backend import columns, kernels

pytestmark = pytest.mark.gpu

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
UNTIL = {torch.float32: 1e-5, torch.float64: 1e-12, torch.float16: 1e-2, torch.bfloat16: 8e-2}

# image, kernel, stride, padding, dilation
GEOMETRIES = [
    ((2, 3, 6, 5), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((1, 5, 9, 7), (2, 3), (2, 1), (0, 2), (1, 2)),
    ((3, 2, 5, 5), (5, 5), (1, 1), (2, 2), (1, 1)),
    ((1, 2, 8, 3), (3, 1), (3, 2), (1, 0), (2, 1)),
    ((2, 4, 1, 17), (1, 4), (1, 3), (0, 2), (1, 1)),
    ((0, 2, 4, 4), (3, 3), (1, 1), (0, 0), (1, 1)),
    ((2, 33, 13, 11), (1, 1), (1, 1), (0, 0), (1, 1)),
]


def real(shape: Any, seed: int = 0) -> Any:
    return torch.from_numpy(np.array(np.random.default_rng(seed).standard_normal(shape)))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_columns_and_back(geometry: Any, dtype: Any) -> None:
    shape, *how = geometry
    be, x = backend.get("cuda"), real(shape).to(dtype)
    want = columns.im2col(np, x._a, *how)
    got = be.im2col(x.cuda()._a, *how)
    assert (be.to_host(got) == want).all()
    cols = real(want.shape, 1).to(dtype)
    back = be.col2im(cols.cuda()._a, shape, *how)
    np.testing.assert_allclose(
        be.to_host(back).astype(float),
        columns.col2im(np, cols.double()._a, shape, *how), rtol=UNTIL[dtype], atol=UNTIL[dtype])


def run(device: str, dtype: Any, geometry: Any, each: int, bias: bool) -> list[Any]:
    """A depthwise convolution with its gradients of both orders."""
    shape, kernel, stride, padding, dilation = geometry
    c = shape[1]
    ins = [real(shape), real((c * each, 1, *kernel), 1), *[real((c * each,), 2)] * bias]
    leaves = [t.to(device, dtype).requires_grad_() for t in ins]
    x, w, *b = leaves
    y = F.conv2d(x, w, *(b or [None]), stride, padding, dilation, c)
    slope = real(y.shape, 3).to(device, dtype).requires_grad_()
    first = torch.autograd.grad(y, leaves, slope, create_graph=True)
    slopes = [real(g.shape, 4).to(device, dtype) for g in first]
    second = torch.autograd.grad(first, [x, w, slope], slopes)
    return [y.detach(), *[g.detach() for g in first], *second]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("each", "bias"), [(1, True), (3, False)])
def test_depthwise(geometry: Any, dtype: Any, each: int, bias: bool,
                   monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    launch = kernels.Kernels.launch

    def note(self: Any, file: str, name: str, *rest: Any) -> None:
        names.append(file)
        launch(self, file, name, *rest)
    monkeypatch.setattr(kernels.Kernels, "launch", note)
    got, want = (run(d, dtype, geometry, each, bias) for d in ("cuda", "cpu"))
    for a, b in zip(got, want, strict=True):
        assert a.is_cuda and a.dtype is b.dtype and a.shape == b.shape
        scale = max(1.0, b.double().abs().max().item()) if b.numel() else 1.0
        np.testing.assert_allclose(a.cpu().double().numpy(), b.double().numpy(),
                                   rtol=UNTIL[dtype], atol=UNTIL[dtype] * scale)
    assert "im2col" not in names and (not geometry[0][0] or names.count("depthwise") >= 3)


@pytest.mark.parametrize("order", ["forward", "reversed", "5"])
def test_every_order_of_threads(order: str) -> None:
    if not torch.cuda.sim.is_simulated():
        pytest.skip("the simulated device has orders")
    from gpugrad.cudasim.kernel import settings
    with settings.using(order=order):
        got = run("cuda", torch.float64, ((3, 2, 9, 11), (3, 3), (1, 1), (1, 1), (1, 1)), 2, True)
    want = run("cpu", torch.float64, ((3, 2, 9, 11), (3, 3), (1, 1), (1, 1), (1, 1)), 2, True)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a.cpu().numpy(), b.numpy(), rtol=1e-11, atol=1e-12)


def test_arrays_of_more_than_two_billion_elements(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they run, on small ones: the kernels with 64-bit indices."""
    monkeypatch.setattr(kernels, "NARROW", 0)
    test_columns_and_back(GEOMETRIES[1], torch.float32)
    test_depthwise(GEOMETRIES[1], torch.float32, 3, False, monkeypatch)


def test_memory_in_other_orders() -> None:
    x, w = real((2, 4, 5, 3)).float(), real((4, 1, 2, 2), 1).float()
    want = F.conv2d(x.transpose(1, 2), w[:, :, :, :1].expand(4, 1, 2, 2).repeat(2, 1, 1, 1)[:5],
                    groups=5)
    x, w = x.cuda(), w.cuda()
    got = F.conv2d(x.transpose(1, 2), w[:, :, :, :1].expand(4, 1, 2, 2).repeat(2, 1, 1, 1)[:5],
                   groups=5)
    np.testing.assert_allclose(got.cpu().numpy(), want.numpy(), rtol=1e-5, atol=1e-6)


def test_groups_of_several_channels_go_by_columns() -> None:
    x, w = real((2, 4, 5, 5)).float(), real((6, 2, 3, 3), 1).float()
    got, want = F.conv2d(x.cuda(), w.cuda(), groups=2), F.conv2d(x, w, groups=2)
    np.testing.assert_allclose(got.cpu().numpy(), want.numpy(), rtol=1e-5, atol=1e-5)
