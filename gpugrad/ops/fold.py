"""Windows of images as columns, and back; pixels between channels and space."""
from __future__ import annotations

from gpugrad.autograd.op import op
from gpugrad.dtypes import HALF
from gpugrad.layouts import as_images, is_last


@op("Im2ColBackward0")
class im2col:
    """(n, c, h, w) to columns (n, c * kh * kw, windows)."""
    def forward(be, x, *, kernel, stride, padding, dilation):
        return be.im2col(x, kernel, stride, padding, dilation)
    def grad_x(o, g, x_shape, kernel, stride, padding, dilation):
        return o.col2im(g, shape=x_shape, kernel=kernel, stride=stride, padding=padding,
                        dilation=dilation)


@op("Col2ImBackward0")
class col2im:
    """im2col's transpose: columns added up where they were read, giving ``shape``."""
    def forward(be, x, *, shape, kernel, stride, padding, dilation):
        if x.dtype in HALF:
            return be.in_float32(col2im, x, shape=shape, kernel=kernel, stride=stride,
                                 padding=padding, dilation=dilation)
        return be.col2im(x, tuple(shape), kernel, stride, padding, dilation)
    def grad_x(o, g, kernel, stride, padding, dilation):
        return o.im2col(g, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


@op("PixelShuffleBackward0")
class pixel_shuffle:
    """(..., c * r * r, h, w) to (..., c, h * r, w * r)."""
    def forward(be, x, *, factor):
        *lead, c, h, w = x.shape
        r, c = factor, c // factor ** 2
        y = be.xp.moveaxis(x.reshape(*lead, c, r, r, h, w), (-4, -3), (-3, -1))
        if x.ndim == 4 and is_last(x):
            return as_images(be.copy(be.xp.moveaxis(y, 1, -1)).reshape(*lead, h * r, w * r, c))
        return be.copy(y).reshape(*lead, c, h * r, w * r)
    def grad_x(o, g, factor):
        return o.pixel_unshuffle(g, factor=factor)


@op("PixelUnshuffleBackward0")
class pixel_unshuffle:
    """(..., c, h * r, w * r) to (..., c * r * r, h, w)."""
    def forward(be, x, *, factor):
        *lead, c, h, w = x.shape
        r, h, w = factor, h // factor, w // factor
        y = be.xp.moveaxis(x.reshape(*lead, c, h, r, w, r), (-3, -1), (-4, -3))
        if x.ndim == 4 and is_last(x):
            return as_images(be.copy(be.xp.moveaxis(y, (1, 2, 3), (-3, -2, -1))).reshape(
                *lead, h, w, c * r * r))
        return be.copy(y).reshape(*lead, c * r * r, h, w)
    def grad_x(o, g, factor):
        return o.pixel_shuffle(g, factor=factor)
