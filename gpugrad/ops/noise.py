"""Activations with noise."""
from __future__ import annotations

from gpugrad.autograd.op import op


@op("RreluWithNoiseBackward0", inplace=True)
class rrelu_with_noise:
    """x times its slope, which is 1 where x is positive."""
    def forward(be, x, slope):
        return be.xp.multiply(x, slope)
    grad_slope = None
    def grad_x(o, g, slope):
        return o.mul(g, slope)
