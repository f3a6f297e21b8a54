"""Running results, medians, quantiles, searches and the older reductions, against torch.

A case is a line of code, run with both (see side_by_side.py). After "#!" stand the aspects in which
gpugrad is known to differ; the comments say why. A mark whose difference has gone fails as well.
The sweeps run expressions of one tensor over dtypes and shapes.
"""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from side_by_side import check, lines  # skips this file where there is no torch

import gpugrad

torch = pytest.importorskip("torch")

RUNNING = """
# grad_fn: a 0-dim tensor is copied; text: dtypes' names
t.cumprod(x, 0)
t.cumprod(x, -1)
t.cumprod(n, 1)
t.cumprod(A, 1)
t.cumprod(tie, 1)
t.cumprod(i, 0)
t.cumprod(b, 1)
t.cumprod(u, 0, dtype=t.float32)
t.cumprod(s, 0)  #! grad_fn
t.cumprod(e, 0)
t.cumprod(e, 1)
t.cumprod(x, 2)
x.clone().cumprod_(1)
i.cumprod_(0)
u.cumsum_(1)
x.clone().cumsum_(0)
x.clone().cumsum_(0, dtype=t.float64)  #! text
x.clone().cumsum_(2)
b.cumsum_(0)
t.cumsum(i, 0, dtype=t.int32)
t.cumsum(i, 0, dtype=t.uint8)
t.cumsum(i, 0, dtype=t.bool)
t.cumsum(x.detach(), 0, out=y.detach())
t.cumprod(i, 0, out=i)
t.cummax(x, 0)
t.cummax(tie, 1)
t.cummax(nan, 1)
t.cummax(nan.T, 1)
t.cummax(i, 0)
t.cummax(b, 1)
t.cummax(s, 0)  #! grad_fn
t.cummax(e, 1)
t.cummax(x, 2)
x.cummax(1).values
t.cummin(x, 1)
t.cummin(tie, 0)
t.cummin(nan, 0)
t.cummin(A, 1)
t.cummin(u, 1)
t.logcumsumexp(x, 0)
t.logcumsumexp(A * 3, 1)
t.logcumsumexp(x * 0 - inf, 1).detach()
t.logcumsumexp(s, 0)  #! grad_fn
t.logcumsumexp(i, 0)
t.logcumsumexp(t.complex(x, y).detach(), 1)
t.logcumsumexp(b, 0)
t.logcumsumexp(e, 0)
t.logcumsumexp(x, 3)
x.logcumsumexp(dim=1)
"""

DIFFERENCES = """
# grad_fn: composites in torch, too, in other steps; without samples torch returns plain zeros
# text: torch lists the forms that it takes
t.diff(x)
t.diff(x, n=2)
t.diff(x, 2, 0)
t.diff(x, n=7)
t.diff(x, n=0)  #! grad_fn
t.diff(x, n=-1)
t.diff(x, dim=0, prepend=v[None])
t.diff(x, append=x, prepend=col)
t.diff(x, append=v)
t.diff(x, append=v[None])
t.diff(i, prepend=x)
t.diff(b)
t.diff(s)
t.diff(x, dim=5)
t.diff(e1)
x.diff()
t.trapezoid(x)  #! grad_fn
t.trapezoid(x, dx=0.5, dim=0)  #! grad_fn
t.trapezoid(x, v)  #! grad_fn
t.trapezoid(x, y)  #! grad_fn
t.trapezoid(x, w, dim=0)  #! grad_fn
t.trapezoid(x, w)
t.trapezoid(x, x, dx=2)  #! text
t.trapezoid(i)
t.trapezoid(b)
t.trapezoid(s)  #! text
t.trapezoid(e, dim=0)
t.trapz(x, y)  #! grad_fn
t.trapz(x, dx=2)  #! grad_fn
t.cumulative_trapezoid(x)
t.cumulative_trapezoid(x, v)  #! grad_fn
t.cumulative_trapezoid(A, dim=1, dx=3)
t.cumulative_trapezoid(i, dim=0)
t.cumulative_trapezoid(b)
t.gradient(x)
t.gradient(x, dim=0)
t.gradient(A, dim=(0, -1), spacing=2.)
t.gradient(A, dim=(1, 2), spacing=(2., .5))
t.gradient(A, dim=2, edge_order=2)
t.gradient(A, dim=(1, 2), spacing=(t.tensor([0., 1, 4]), t.tensor([0., 1, 3, 4])))
t.gradient(A, dim=2, edge_order=2, spacing=[t.tensor([0., 1, 3, 4])])
t.gradient(i)
t.gradient(x, edge_order=3)
t.gradient(x[:1])
t.gradient(x, spacing=[1., 2., 3.])
t.gradient(x, dim=(0, 0))
t.gradient(x, dim=7)
t.gradient(x, spacing='a')  #! text
t.gradient(b)
t.gradient(u)
t.gradient(s)
"""

STATISTICS = """
# grad_fn: quantiles are composed in other steps, a 0-dim tensor is copied
# gradient: where the extreme is NaN, the NaN elements get the gradient; torch gives all of them NaN
t.median(x)
t.median(tie)
t.median(nan)
t.median(x, 0)
t.median(x, 1, True)
t.median(nan, 1)
t.median(i)
t.median(i, 1).values
t.median(u, dim=0).values
t.median(b)
t.median(s)
t.median(s, 0)  #! grad_fn
t.median(e)
t.median(e, 0)
t.median(e, 1)
t.median(x, 2)
x.median(dim=-1).values
t.nanmedian(x)
t.nanmedian(nan)
t.nanmedian(nan, 1)
t.nanmedian(nan, 0, True)
t.nanmedian(i)
t.nanmedian(e1)
t.mode(n)
t.mode(n, 0)
t.mode(tie, 1, True)
t.mode(i, 0)
t.mode(b)
t.mode(s)  #! grad_fn
t.mode(e, 0)
t.mode(e.T, 0)
t.mode(x, 4)
t.quantile(x, .4)  #! grad_fn
t.quantile(x, .4, dim=0)  #! grad_fn
t.quantile(x, t.tensor([0, .25, .5, 1]), dim=1)  #! grad_fn
t.quantile(x, t.tensor([0, .25, .5, 1]), dim=-1, keepdim=True)  #! grad_fn
t.quantile(A, t.tensor([.3, .6]), keepdim=True)  #! grad_fn
t.quantile(A, t.tensor(.3), dim=1, interpolation='lower')  #! grad_fn
t.quantile(A, t.tensor([.3]), dim=1, interpolation='higher')  #! grad_fn
t.quantile(A, .3, dim=2, interpolation='midpoint')  #! grad_fn
t.quantile(A, .3, dim=2, interpolation='nearest')  #! grad_fn
t.quantile(nan, .5, dim=1).detach()
t.quantile(x, 2.)
t.quantile(x, t.tensor([2.]))
t.quantile(x, t.tensor([.1], dtype=t.float64))
t.quantile(x.half(), .5)
t.quantile(i, .5)
t.quantile(e1, .5)
t.quantile(x, t.zeros(2, 2))
t.quantile(x, .5, interpolation='x')
t.quantile(x, .5, dim=4)
t.quantile(x, [.5])  #! text
t.nanquantile(nan, .5)  #! grad_fn
t.nanquantile(nan, t.tensor([.2, .8]), dim=0)  #! grad_fn
t.nanquantile(nan[1:, :2] * nan[:1, 1:2], .5, dim=1).detach()
t.nansum(nan)
t.nansum(nan[:, :2], 1)
t.nansum(nan, (0, 1), True)
t.nansum(x, dtype=t.float64)
t.nansum(i, 0)
t.nansum(b)
t.nansum(e, 1)
t.nansum(x, 5)
t.nanmean(nan[:1])
t.nanmean(x, 0)
t.nanmean(x, (0, -1), keepdim=True)
t.nanmean(i)
t.nanmean(e1)
x.nansum()
x.nanmean(1)
t.aminmax(x, dim=0)
t.aminmax(nan)  #! gradient
t.aminmax(e)
t.aminmax(e, dim=0)
t.all(b, dim=())
t.any(x, ())
t.sum(i, dtype=t.int8)
t.sum(i, 0, dtype=t.bool)
t.prod(j, dtype=t.uint8)
t.argmax(b)
t.max(b, 0)
t.norm(i, dtype=t.float64)
t.norm(e1, -1)
"""

SEARCHES = """
# text: names of dtypes, signs of NaN; value: a NaN in a sequence is above all numbers here
t.unique(i)
t.unique(n.detach())
t.unique(n.detach(), False)
t.unique(i, return_inverse=True)
t.unique(i, return_inverse=True, return_counts=True)
t.unique(i, return_counts=True)
t.unique(n.detach(), True, True, True, 0)
t.unique(k4, dim=1, return_inverse=True, return_counts=True)
t.unique(A.round().detach(), dim=2)
t.unique(b, return_counts=True)
t.unique(nan.detach(), return_inverse=True, return_counts=True)
t.unique(n0, return_inverse=True)
t.unique(n0, dim=0)
t.unique(x, dim=4)
t.unique(e.detach(), dim=0)
t.unique(e.detach(), dim=1)
t.unique(e1.detach(), return_inverse=True)
x.unique().sum()
i.unique()
t.unique_consecutive(k)
t.unique_consecutive(tie.detach(), True, True)
t.unique_consecutive(k4, return_inverse=True, return_counts=True, dim=1)
t.unique_consecutive(e1.detach(), True, True)
t.unique_consecutive(nan.detach(), return_counts=True)
b.unique_consecutive(dim=0)
t.histc(x.detach())
t.histc(x.detach(), 5, -1, 1)
t.histc(n.detach(), 4, 0, 2)
t.histc(i, 4)
t.histc(e1.detach(), 3)
t.histc(x.detach(), 3, min=5, max=1)
t.histc(x.detach(), 0)
t.histc(x.detach(), 4, 2, 2)
t.histc(nan.detach(), 4)  #! text
t.histc(nan.detach(), 4, 0, 2)
t.histc(x.detach(), 2.5)
t.histogram(x.detach(), 3)
t.histogram(x.detach(), t.tensor([-1., 0, .5]))
t.histogram(x.detach(), 4, range=(-1., 1.), density=True)
t.histogram(x.detach(), 4, weight=p.detach())
t.histogram(x.detach(), 4, weight=v.detach())
t.histogram(x.detach(), t.tensor([0, 1]))  #! text
t.histogram(x.detach(), t.tensor([0.]))
t.histogram(x.detach(), 0)
t.histogram(i, 2)
t.histogram(e1.detach(), 2)
t.histogram(x.detach(), 3, range=(2., 1.))
t.histogram(x.detach(), 3, range=(2., 2.))
t.histogramdd(x.detach(), [2] * 4)
t.histogramdd(x.detach(), 2, weight=w.detach())
t.histogramdd(x[:, :2].detach(), [t.tensor([-1., 0, 1]), t.tensor([-2., 2])], density=True)
t.histogramdd(x[:, :2].detach(), [3, 2], range=(-1., 1., 0., 2.))
t.histogramdd(x[:, :2].detach(), [3])
t.histogramdd(x[:, :2].detach(), [3, 3], range=(0., 1.))
t.histogramdd(x[:, :2].detach(), [3, 3], weight=v.detach())
t.histogramdd(v.detach(), [3])
t.norm(x, 'nuc').detach()
t.norm(A, 'nuc', dim=(0, 2), keepdim=True).detach()
t.norm(A, 'nuc')  #! text
t.norm(v, 'nuc')
t.bincount(k)
t.bincount(k, minlength=7)
t.bincount(k, k.float())
t.bincount(k, k)
t.bincount(-j[0])
t.bincount(x)
t.bincount(k4)
t.bincount(k, minlength=-1)
t.bincount(k, v)
t.bincount(u[0])
t.bincount(k[:0], minlength=3)
t.bincount(b[0])
k.bincount()
t.bucketize(x, t.tensor([-1., 0, 1]))
t.bucketize(x, t.tensor([-1, 0, 1]), right=True, out_int32=True)
t.bucketize(i, t.tensor([1.5, 2]))
t.bucketize(.5, v.sort()[0])
t.bucketize(x, A)
t.bucketize(x, s)
t.searchsorted(v.sort()[0], x)
t.searchsorted(v.sort()[0], .5)
t.searchsorted(v.sort()[0], s)
t.searchsorted(x.sort()[0], y, side='right')
t.searchsorted(x.sort()[0], y[:, :2], out_int32=True)
t.searchsorted(tie.sort()[0], tie, right=True)
t.searchsorted(tie.sort()[0], tie)
t.searchsorted(x, y, sorter=x.argsort())
t.searchsorted(x, y, sorter=x.argsort().int())
t.searchsorted(x, y, sorter=x.argsort()[:2])
t.searchsorted(v, y, sorter=t.tensor([0, 1, 2, 9]))
t.searchsorted(v, y, side='x')
t.searchsorted(v, y, side='left', right=True)
t.searchsorted(x, .5)
t.searchsorted(x, A)
t.searchsorted(s, x)
t.searchsorted(e1, x)
t.searchsorted(t.tensor([1, 2]), i)
t.searchsorted(1, x)  #! text
t.searchsorted(t.tensor([1., 2, np.nan]), nan)  #! value
"""


@pytest.mark.parametrize("code, known", lines(RUNNING + DIFFERENCES + STATISTICS + SEARCHES))
def test_line(code: str, known: list[str]) -> None:
    check(code, known)


# Dtypes and shapes -------------------------------------------------------------------------------

DTYPES = "bool uint8 int32 int64 float16 bfloat16 float32 float64 complex64".split()
SHAPES = [(), (3,), (0,), (3, 4), (0, 3), (2, 3, 4), (1, 3)]

SWEPT = """
t.sum(x, dim=-1)
t.sum(x, dim=(0, 1), keepdim=True)
t.sum(x, dim=(0, -1))
t.sum(x.detach(), dtype=t.int16)
t.mean(x, 0)
t.prod(x, 0)
t.prod(x)
t.amax(x, dim=0)
t.amin(x, (0, 1))
t.all(x, dim=(0, 1))
t.any(x, -1, keepdim=True)
t.any(x, dim=())
t.var(x, 0)
t.std(x, dim=(0, 1), correction=0)
t.var_mean(x, -1)
t.logsumexp(x, (0, -1))
t.count_nonzero(x, (0, 1))
t.argmax(x, 0)
t.argmin(x)
t.max(x, 0).values
t.min(x)
t.aminmax(x, dim=0)
t.norm(x, 1, dim=0)
t.norm(x, p=inf, dim=-1, keepdim=True)
t.nansum(x, dim=0)
t.nanmean(x, -1)
t.median(x.reshape(-1))
t.nanmedian(x, dim=0).values
t.mode(x, dim=-1).values
t.cumsum(x, 0)
t.cumprod(x, -1)
t.diff(x, n=2)
t.unique(x, return_inverse=True, return_counts=True)
t.unique_consecutive(x, dim=0)
t.bucketize(x, t.tensor([-1, 0, 2]))
x.clone().cumsum_(-1)
"""
# where torch finds nothing to do, or one element, it doesn't refuse the dtype
UNCHECKED_IF_SMALL = ("median", "cummax", "bucketize", "unique", "cumsum_", "amax", "amin", "max(",
                      "min(", "mode")


def tensor_of(lib: Any, shape: tuple[int, ...], dtype: str) -> Any:
    r = np.random.default_rng(0)
    a = r.integers(0 if dtype == "uint8" else -4, 5, shape)
    if dtype == "complex64":
        values = np.asarray((a + 1j * r.integers(-4, 5, shape)) / 2).astype(np.complex64)
    else:
        values = np.asarray(a / 2 if "float" in dtype else a, np.float32)
    x = lib.from_numpy(values).to(getattr(lib, dtype))
    return x.transpose(0, -1) if x.ndim > 1 else x


def result_of(lib: Any, code: str, shape: tuple[int, ...], dtype: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            x = tensor_of(lib, shape, dtype)
            if dtype.startswith(("float", "bfloat")):
                x.requires_grad_()
            out = eval(code, {"t": lib, "x": x, "inf": float("inf")})
            outs = list(out) if isinstance(out, tuple) else [out]
            live = [y for y in outs if y.requires_grad]
            slopes: list[Any] = []
            if live and "unique" not in code:
                starts = [lib.ones_like(y) * 2 for y in live]
                slopes = list(lib.autograd.grad(live, x, starts))
            return [(str(y.dtype), tuple(y.shape), plain(y)) for y in outs + slopes]
        except Exception as e:
            return type(e).__name__


def plain(y: Any) -> Any:
    y = y.detach()
    return (y.float() if "bfloat16" in str(y.dtype) else y).numpy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("code", SWEPT.strip().splitlines())
def test_dtypes_and_shapes(code: str, dtype: str) -> None:
    until = {"float16": 4e-3, "bfloat16": 3e-2}.get(dtype, 1e-5)
    for shape in SHAPES:
        want, got = result_of(torch, code, shape, dtype), result_of(gpugrad, code, shape, dtype)
        small = not shape or 0 in shape
        if small and isinstance(got, str) and any(n in code for n in UNCHECKED_IF_SMALL):
            continue
        assert isinstance(want, str) == isinstance(got, str), (shape, want, got)
        if isinstance(want, str):
            assert got == want, shape
            continue
        assert [y[:2] for y in got] == [y[:2] for y in want], shape
        for a, b in zip(got, want):
            np.testing.assert_allclose(a[2], b[2], rtol=until, atol=until, err_msg=str(shape))
