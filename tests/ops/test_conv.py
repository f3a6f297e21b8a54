"""Convolution: every way of computing it against loops, and its gradients."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.autograd import gradcheck, gradgradcheck
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend import columns, cpu
from gpugrad.ops import conv
from gpugrad.ops import conv_ways as ways

KERNELS = [(1, 1), (2, 3), (3, 1), (3, 3)]
STRIDES = [(1, 1), (2, 1), (2, 3)]
PADDINGS = [(0, 0), (1, 2), (3, 0)]
DILATIONS = [(1, 1), (2, 2)]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def correlate(x, w, bias, stride, padding, dilation, groups):
    """The definition, an output element at a time, in float64."""
    n, c, h, width = x.shape
    c_out, cg, kh, kw = w.shape
    wide = np.zeros((n, c, h + 2 * padding[0], width + 2 * padding[1]))
    wide[:, :, padding[0]:padding[0] + h, padding[1]:padding[1] + width] = x
    oh = (wide.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (wide.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    out = np.zeros((n, c_out, oh, ow))
    for o, y, z in itertools.product(range(c_out), range(oh), range(ow)):
        first = o // (c_out // groups) * cg
        rows = y * stride[0] + dilation[0] * np.arange(kh)
        cols = z * stride[1] + dilation[1] * np.arange(kw)
        window = wide[:, first:first + cg][:, :, rows[:, None], cols]
        out[:, o, y, z] = (window * w[o]).sum((1, 2, 3))
    return out if bias is None else out + bias.reshape(-1, 1, 1)


def cases():
    for case in itertools.product(KERNELS, STRIDES, PADDINGS, DILATIONS):
        if min(columns.out_hw((7, 6), *case)) > 0:
            yield case


def arrays(rng, n, cg, og, groups, kernel, size=(7, 6)):
    x = rng.standard_normal((n, cg * groups, *size))
    w = rng.standard_normal((og * groups, cg, *kernel))
    return x, w, rng.standard_normal(og * groups)


def assert_new_close(actual, wanted, like, tol=1e-4):
    assert actual.dtype == like.dtype and actual.flags.c_contiguous
    np.testing.assert_allclose(actual, wanted, rtol=tol, atol=tol)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("channels", [(1, 3), (3, 2)])
def test_all_ways_against_the_definition(rng, channels, groups):
    for kernel, stride, padding, dilation in cases():
        x, w, b = arrays(rng, 3, *channels, groups, kernel)
        wanted = correlate(x, w, b, stride, padding, dilation, groups)
        g = rng.standard_normal(wanted.shape)
        x4, w4, b4, g4 = (a.astype(np.float32) for a in (x, w, b, g))
        args = stride, padding, dilation, groups
        assert_new_close(conv.forward(cpu, x4, w4, b4, *args), wanted, x4)
        assert_new_close(ways.forward_by_columns(cpu, x4, w4, b4, *args), wanted, x4)
        if stride == (1, 1):
            assert_new_close(ways.forward_by_rows(cpu, x4, w4, b4, *args[1:]), wanted, x4)
        gx = ways.grad_input_by_columns(cpu, g4, w4, x.shape, *args)
        gw = ways.grad_weight_by_columns(cpu, g4, x4, w.shape, *args)
        # the map is bilinear, so it checks its own gradients
        dx, dw = rng.standard_normal(x.shape), rng.standard_normal(w.shape)
        np.testing.assert_allclose((gx * dx).sum(), (g * correlate(dx, w, None, *args)).sum(),
                                   rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose((gw * dw).sum(), (g * correlate(x, dw, None, *args)).sum(),
                                   rtol=1e-3, atol=1e-3)
        assert_new_close(conv.grad_input(cpu, g4, w4, x.shape, *args), gx, x4)
        assert_new_close(conv.grad_weight(cpu, g4, x4, w.shape, *args), gw, x4, 1e-3)


@pytest.mark.parametrize("size,padding", [(3, 1), (8, 0), (8, 1)])
def test_merged_columns_and_many_channels(rng, size, padding):
    x, w, b = arrays(rng, 3, 128, 130, 1, (3, 3), (size, size))
    args = (1, 1), (padding, padding), (1, 1), 1
    wanted = correlate(x, w, b, *args)
    g = rng.standard_normal(wanted.shape)
    for merged in (False, True):
        np.testing.assert_allclose(ways.forward_by_columns(cpu, x, w, b, *args, merged), wanted)
        gx = ways.grad_input_by_columns(cpu, g, w, x.shape, *args, merged)
        gw = ways.grad_weight_by_columns(cpu, g, x, w.shape, *args, merged)
        np.testing.assert_allclose(gx, conv.grad_input(cpu, g, w, x.shape, *args), atol=1e-10)
        np.testing.assert_allclose(gw, conv.grad_weight(cpu, g, x, w.shape, *args), atol=1e-10)
        np.testing.assert_allclose((gx * x).sum(), (gw * w).sum())      # both are <g, f(x, w)>


def test_a_batch_in_several_parts(rng, monkeypatch):
    x, w, b = arrays(rng, 5, 2, 3, 1, (3, 3))
    args = (1, 1), (1, 1), (1, 1), 1
    g = rng.standard_normal((5, 3, 7, 6))

    def results():
        return [conv.forward(cpu, x, w, b, *args), ways.forward_by_rows(cpu, x, w, b, *args[1:]),
                conv.grad_input(cpu, g, w, x.shape, *args),
                conv.grad_weight(cpu, g, x, w.shape, *args)]

    once = results()
    monkeypatch.setattr(cpu, "column_bytes", 2 * 7 * 6 * 9 * 2 * 8)       # two images at a time
    parts = results()
    for a, p in zip(once, parts):
        np.testing.assert_allclose(a, p, atol=1e-12)


def test_im2col_and_col2im(rng):
    for kernel, stride, padding, dilation in cases():
        for n in (0, 1, 200):
            x = rng.standard_normal((n, 2, 7, 6)).astype(np.float32)
            oh, ow = columns.out_hw(x.shape, kernel, stride, padding, dilation)
            cols = cpu.im2col(x, kernel, stride, padding, dilation)
            assert cols.shape == (n, 2 * kernel[0] * kernel[1], oh * ow)
            wide = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
            row = cols.reshape(n, 2, *kernel, oh, ow)
            for i, j in itertools.product(range(kernel[0]), range(kernel[1])):
                y, z = i * dilation[0], j * dilation[1]
                part = wide[:, :, y:y + stride[0] * oh:stride[0], z:z + stride[1] * ow:stride[1]]
                assert (row[:, :, i, j] == part[:, :, :oh, :ow]).all()
            # the transpose: <cols, im2col(x)> == <col2im(cols), x>
            other = rng.standard_normal(cols.shape).astype(np.float32)
            back = cpu.col2im(other, x.shape, kernel, stride, padding, dilation)
            np.testing.assert_allclose((other * cols).sum(dtype=float), (back * x).sum(dtype=float),
                                       rtol=1e-3, atol=1e-2)


def test_out_is_overwritten_and_strided_input_is_read_in_place(rng):
    x = rng.standard_normal((2, 5, 6, 3)).transpose(0, 3, 1, 2)
    args = (3, 3), (1, 1), (1, 1), (1, 1)
    cols = cpu.im2col(np.ascontiguousarray(x), *args)
    assert (cpu.im2col(x, *args) == cols).all()
    out = np.full(cols.shape, np.nan)
    assert (cpu.im2col(x, *args, out) == cols).all() and (out == cols).all()
    image = np.full(x.shape, np.nan)
    cpu.col2im(cols, x.shape, *args, image)
    np.testing.assert_allclose(image, cpu.col2im(cols, x.shape, *args))


def test_empty_batch():
    x = torch.zeros(0, 2, 5, 5, requires_grad=True)
    w, b = torch.ones(3, 2, 3, 3, requires_grad=True), torch.ones(3, requires_grad=True)
    for stride in ((1, 1), (2, 2)):
        out = T.convolution(x, w, b, stride=stride, padding=(0, 0), dilation=(1, 1), groups=1)
        assert out.shape[:2] == (0, 3)
        gx, gw, gb = torch.autograd.grad(out.sum(), [x, w, b])
        assert gx.shape == x.shape and not gw.any() and not gb.any() and gw.shape == w.shape


def test_float16_sums_in_float32(rng):
    x, w, b = (a.astype(np.float16) for a in arrays(rng, 2, 40, 40, 1, (3, 3)))
    args = (1, 1), (1, 1), (1, 1), 1
    wanted = correlate(x.astype(float), w.astype(float), b.astype(float), *args)
    out = cpu.raw.convolution(x, w, b, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    assert out.dtype == np.float16
    np.testing.assert_allclose(out, wanted, rtol=2e-3, atol=2e-3)
    g = np.ones_like(out)
    gb = cpu.raw.channel_sum(np.ones((64, 1, 8, 8), np.float16))
    assert gb.dtype == np.float16 and gb == 4096
    for gradient in (cpu.raw.conv_grad_input(g, w, x_shape=x.shape, stride=(1, 1), padding=(1, 1),
                                             dilation=(1, 1), groups=1),
                     cpu.raw.conv_grad_weight(g, x, w_shape=w.shape, stride=(1, 1), padding=(1, 1),
                                              dilation=(1, 1), groups=1)):
        assert gradient.dtype == np.float16 and np.isfinite(gradient).all()


def test_only_wanted_gradients_are_computed(rng, monkeypatch):
    """The first layer's input needs no gradient, so none is computed."""
    called = []
    grad_input = conv.grad_input
    monkeypatch.setattr(conv, "grad_input", lambda *a: called.append(1) or grad_input(*a))
    x, w, _ = (torch.from_numpy(a) for a in arrays(rng, 2, 2, 3, 1, (3, 3)))
    kw = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    T.convolution(x, w.requires_grad_(), None, **kw).sum().backward()
    assert w.grad is not None and not called
    T.convolution(x.requires_grad_(), w, None, **kw).sum().backward()
    assert x.grad is not None and called


@pytest.mark.parametrize("stride,padding,dilation,groups", [
    ((1, 1), (1, 0), (1, 1), 1), ((2, 1), (1, 1), (1, 1), 2), ((1, 1), (2, 2), (2, 1), 1)])
def test_gradients_of_both_orders(rng, stride, padding, dilation, groups):
    kw = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    x, w, b = (torch.from_numpy(a).requires_grad_()
               for a in arrays(rng, 2, 2 // groups, 2, groups, (2, 3), (4, 5)))
    assert gradcheck(lambda *a: T.convolution(*a, **kw), (x, w, b))
    assert gradgradcheck(lambda *a: T.convolution(*a, **kw), (x, w, b))
    g = torch.randn(*T.convolution(x, w, b, **kw).shape, dtype=torch.float64, requires_grad=True)
    back = {"x_shape": tuple(x.shape), **kw}
    assert gradcheck(lambda *a: T.conv_grad_input(*a, **back), (g, w))
    back = {"w_shape": tuple(w.shape), **kw}
    assert gradcheck(lambda *a: T.conv_grad_weight(*a, **back), (g, x))
