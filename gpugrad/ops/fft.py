"""Discrete Fourier transforms. Each one's gradient is the transform the other way.

The gradient of a transform that is scaled by s is the opposite one with the same s. A ``norm`` says
which direction has 1 / n: "backward" the inverse, "forward" the other, "ortho" both the root of it.
"""
from __future__ import annotations

from gpugrad.autograd.conjugate import complex_gradients_ahead
from gpugrad.autograd.op import op

SAME_SCALE = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


def one_sided(n):
    """How many of the n frequencies of real numbers say it all."""
    return n // 2 + 1


@op("FftC2CBackward0", holomorphic=False)
class fft_c2c:
    """Complex to complex over some dims."""
    def forward(be, x, *, dims, norm="backward", inverse=False):
        function = be.xp.fft.ifftn if inverse else be.xp.fft.fftn
        return function(x, None, dims, norm).astype(x.dtype, copy=False)
    def grad_x(o, g, dims, norm, inverse):
        return o.fft_c2c(g, dims=dims, norm=SAME_SCALE[norm], inverse=not inverse)


@op("FftR2CBackward0", holomorphic=False)
class fft_r2c:
    """Real to half of the frequencies of one dim."""
    def forward(be, x, *, dim, norm="backward"):
        complex_gradients_ahead()
        out = be.xp.fft.rfft(x, None, dim, norm)
        return out.astype("c8" if x.dtype.itemsize == 4 else "c16", copy=False)
    def grad_x(o, g, x_shape, dim, norm):
        n = x_shape[dim]
        shape = (*g.shape[:dim], n, *g.shape[dim + 1:])
        full = o.slice_backward(g, shape=shape, dim=dim, start=0, stop=one_sided(n), step=1)
        return o.real(o.fft_c2c(full, dims=(dim,), norm=SAME_SCALE[norm], inverse=True))


@op("FftC2RBackward0", holomorphic=False)
class fft_c2r:
    """Half of the frequencies of one dim to n real numbers."""
    def forward(be, x, *, dim, n, norm="backward"):
        out = be.xp.fft.irfft(x, n, dim, norm)
        return out.astype("f4" if x.dtype.itemsize == 8 else "f8", copy=False)
    def grad_x(o, g, x_shape, dim, n, norm):
        half = o.fft_r2c(g, dim=dim, norm=SAME_SCALE[norm])
        twice = n - one_sided(n)                 # those frequencies that stand for two
        return o.add(half, o.double_middle(half, dim=dim, count=twice))


@op("SliceBackwardBackward0")
class double_middle:
    """x at the ``count`` indices of a dim after the first one, else 0."""
    def forward(be, x, *, dim, count):
        out = be.xp.zeros(x.shape, x.dtype)
        at = (slice(None),) * dim + (slice(1, 1 + count),)
        out[at] = x[at]
        return out
    def grad_x(o, g, dim, count):
        return o.double_middle(g, dim=dim, count=count)
