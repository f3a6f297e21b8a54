"""One direction of a recurrent layer over all its steps: LSTM, GRU, Elman's; packed sequences.

Sequences lie as rows, those of one step together: of step t there are ``sizes[t]``, which never
grow, and row i of any step belongs to sequence i. So sequences of one length, (T, B, ...), are
their T * B rows, and packed ones are as PackedSequence has them. ``reverse`` takes the last step
first. h0 and c0 are (B, ...), or None for zeros.

All products with the inputs are one product, then each step is a product and a few elementwise
operations, on a GPU one kernel. What is kept for backward are the gates, in the memory of that
product, and the cells' states. Backward of all steps is one op too; the gradients of the weights
are products over all rows. Its own derivative is that of the same layer written in small ops.

States live in arrays of B rows: the first sizes[t] of them are step t's, the others have ended, or
not yet begun.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from gpugrad.autograd.op import op
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend.compiled import FLOAT, dense, for_floats
from gpugrad.dtypes import wide
from gpugrad.ops.recurrent_parts import (
    add_slope,
    advanced,
    asked,
    by_small_ops,
    columns,
    in_order,
    kernel_products,
    layer_grads,
    linear,
    narrowed,
    products,
    slope_rows,
    state,
    step_rows,
    step_table,
    steps,
    takes,
    total,
    transposed,
    zeros_for,
)

# LSTM --------------------------------------------------------------------------------------------

def lstm_small(input: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, h0: Any, c0: Any,
               w_hr: Any = None, *, sizes: Any, reverse: bool) -> Any:
    """lstm_layer in small ops; w_hr, (projected size, H), projects each new h."""
    z = linear(input, w_ih, total(b_ih, b_hh))
    h = zeros_for(h0, z, sizes, w_hh.shape[1])
    c = zeros_for(c0, z, sizes, w_hh.shape[0] // 4)
    outs: dict[int, Any] = {}
    for a, n in steps(sizes, reverse):
        i, f, g, q = columns(T.add(step_rows(z, a, n), linear(step_rows(h, 0, n), w_hh, None)), 4)
        cell = T.add(T.mul(T.sigmoid(f), step_rows(c, 0, n)), T.mul(T.sigmoid(i), T.tanh(g)))
        new = T.mul(T.sigmoid(q), T.tanh(cell))
        outs[a] = new if w_hr is None else linear(new, w_hr, None)
        h, c = advanced(h, outs[a]), advanced(c, cell)
    groups = [[z], None if h0 is None else [h0], None if c0 is None else [c0]]
    return (T.cat(*in_order(outs), dim=0), h, c), groups


@op("MkldnnRnnLayerBackward0", outputs=5, diff=3)
class lstm_layer:
    """(output, h_n, c_n), and for backward the gates i, f, g, o of each row and its new cells.

    input is (rows, input size), the weights (4H, input size) and (4H, H), the biases (4H).
    """
    def forward(be, input, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, c0=None, *, sizes,
                reverse=False):
        xp, own, dtype = be.xp, input.dtype, wide(input.dtype)
        width, b = w_hh.shape[1], sizes[0]
        gates = products(be, input, w_ih, b_ih, b_hh)
        out, cells = (be.empty((len(gates), width), dtype) for _ in range(2))
        h, c = state(be, h0, (b, width), dtype), state(be, c0, (b, width), dtype)
        y, part = be.empty((b, 4 * width), dtype), be.empty((b, width), dtype)
        w = transposed(be, w_hh, sizes)
        # sigmoid(x) is tanh(x / 2) / 2 + 1 / 2, so that all gates are one call of tanh
        slope, rest = xp.full(4 * width, 0.5, dtype), xp.full(4 * width, 0.5, dtype)
        slope[2 * width:3 * width], rest[2 * width:3 * width] = 1, 0
        for k, (a, n) in enumerate(steps(sizes, reverse)):
            z, cell, new = gates[a:a + n], c[:n], out[a:a + n]
            if k or h0 is not None:
                z += be.matmul(h[:n], w, y[:n])
            z *= slope
            xp.tanh(z, out=z)
            z *= slope
            z += rest
            cell *= z[:, width:2 * width]
            cell += xp.multiply(z[:, :width], z[:, 2 * width:3 * width], out=part[:n])
            cells[a:a + n] = cell
            xp.tanh(cell, out=new)
            new *= z[:, 3 * width:]
            h[:n] = new
        return (*(narrowed(v, own) for v in (out, h, c)), gates, cells)
    def cpu(be, input, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, c0=None, *, sizes,
            reverse=False):
        helper = for_floats(input, w_ih, w_hh, b_ih, b_hh, h0, c0)
        width, b = w_hh.shape[1], sizes[0]
        if helper is None or width % 16 or not len(w_ih) == len(w_hh) == 4 * width:
            return NotImplemented
        gates = products(be, input, w_ih)
        out, cells = (np.empty((len(gates), width), FLOAT) for _ in range(2))
        # four rows at a time
        h, c = np.zeros((-(-b // 4) * 4, width), FLOAT), state(be, c0, (b, width), FLOAT)
        if h0 is not None:
            h[:b] = h0
        helper.lstm(gates, dense(total(b_ih, b_hh)), dense(w_hh), np.empty(w_hh.shape, FLOAT), h,
                    c, out, cells, step_table(sizes, reverse), h0 is not None)
        return out, h[:b], c, gates, cells
    def cuda(be, input, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, c0=None, *, sizes,
             reverse=False):
        if not takes(be, input, w_ih, w_hh, b_ih, b_hh, h0, c0):
            return NotImplemented
        dtype, width, b = input.dtype, w_hh.shape[1], sizes[0]
        gates = kernel_products(be, input, w_ih, total(b_ih, b_hh))
        out, cells = be.empty((len(gates), width), dtype), be.empty((len(gates), width),
                                                                   wide(dtype))
        h, c = state(be, h0, (b, width), dtype), state(be, c0, (b, width), wide(dtype))
        y = be.xp.zeros((b, 4 * width), dtype)
        for k, (a, n) in enumerate(steps(sizes, reverse)):
            if k or h0 is not None:
                be.matmul(h[:n], w_hh.T, y[:n])
            be.kernels.each("recurrent", "lstm_step", dtype, n * width,
                            (gates, y, h, c, out, cells), np.int64(width), np.int64(a))
        return out, h, narrowed(c, dtype), gates, cells
    def grads(o, g0, g1, g2, needs, input, w_ih, w_hh, b_ih, b_hh, h0, c0, result0, result3,
              result4, sizes, reverse):
        gz, gh, gc = o.lstm_layer_backward(g0, g1, g2, input, w_ih, w_hh, b_ih, b_hh, h0, c0,
                                           result3, result4, sizes=sizes, reverse=reverse)
        found = layer_grads(o, needs, gz, gz, gh, input, w_ih, result0, h0, sizes, reverse)
        return [*found, gc if needs[6] else None]


@op("MkldnnRnnLayerBackwardBackward0", outputs=3, diff=3)
class lstm_layer_backward:
    """The gradients of lstm_layer for the gates before their activation, h0 and c0.

    gates and cells are what lstm_layer kept; without them they are made again. The gradients for h0
    and c0 are zeros if h0 is None.
    """
    def forward(be, g_out, g_h, g_c, input, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, c0=None,
                gates=None, cells=None, *, sizes, reverse=False):
        xp, own, dtype = be.xp, input.dtype, wide(input.dtype)
        width, b = w_hh.shape[1], sizes[0]
        if gates is None:
            *_, gates, cells = be.raw.lstm_layer(input, w_ih, w_hh, b_ih, b_hh, h0, c0,
                                                 sizes=sizes, reverse=reverse)
        gates = narrowed(gates, dtype).reshape(len(gates), 4, width)
        i, f, g, q = (gates[:, k] for k in range(4))
        top, one = xp.tanh(cells), be.number[1, dtype]
        # what dc, and for the last gate dh, is multiplied by
        gz = one - gates
        gz *= gates
        xp.multiply(g, g, out=gz[:, 2])
        xp.subtract(one, gz[:, 2], out=gz[:, 2])
        gz[:, 0] *= g
        first = None if c0 is None else narrowed(c0, dtype)
        gz[:, 1] *= be.raw.states_before(cells, first, sizes, reverse)
        gz[:, 2] *= i
        gz[:, 3] *= top
        through = one - top * top
        through *= q
        dh, dc = state(be, g_h, (b, width), dtype), state(be, g_c, (b, width), dtype)
        w, part = narrowed(w_hh, dtype), be.empty((b, width), dtype)
        for k, (a, n) in enumerate(reversed(steps(sizes, reverse)), 1):
            slope, cell, z = add_slope(dh, g_out, a, n), dc[:n], gz[a:a + n]
            cell += xp.multiply(slope, through[a:a + n], out=part[:n])
            z[:, :3] *= cell[:, None]
            z[:, 3] *= slope
            cell *= f[a:a + n]
            if k < len(sizes) or h0 is not None:
                be.matmul(z.reshape(n, 4 * width), w, slope)
        gz = gz.reshape(len(gates), 4 * width)
        return narrowed(gz, own), asked(be, dh, h0, own), asked(be, dc, c0, own)
    def cpu(be, g_out, g_h, g_c, input, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, c0=None,
            gates=None, cells=None, *, sizes, reverse=False):
        helper = None if gates is None else for_floats(gates, cells, w_hh, g_out, g_h, g_c, c0)
        width, b = w_hh.shape[1], sizes[0]
        if helper is None or width % 16:
            return NotImplemented
        dh, dc = state(be, g_h, (b, width), FLOAT), state(be, g_c, (b, width), FLOAT)
        gz = np.empty((len(gates) + 3, 4 * width), FLOAT)
        gz[-3:] = 0
        helper.lstm_backward(dense(gates), dense(cells), dense(c0), dense(g_out), dense(w_hh), dh,
                             dc, gz, step_table(sizes, reverse), h0 is not None)
        return gz[:-3], asked(be, dh, h0, FLOAT), asked(be, dc, c0, FLOAT)
    def cuda(be, g_out, g_h, g_c, input, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, c0=None,
             gates=None, cells=None, *, sizes, reverse=False):
        if gates is None or not takes(be, input, w_hh, gates):
            return NotImplemented
        dtype, width, b = input.dtype, w_hh.shape[1], sizes[0]
        gates, cells = be._dense(gates), be._dense(narrowed(cells, wide(dtype)))
        g_out, has = slope_rows(be, g_out, dtype, gates)
        first = None if c0 is None else narrowed(c0, cells.dtype)
        previous = be.raw.states_before(cells, first, sizes, reverse)
        dh, dc = state(be, g_h, (b, width), dtype), state(be, g_c, (b, width), wide(dtype))
        gz = be.empty(gates.shape, dtype)
        for k, (a, n) in enumerate(reversed(steps(sizes, reverse)), 1):
            be.kernels.each("recurrent", "lstm_step_backward", dtype, n * width,
                            (gates, cells, previous, g_out, dh, dc, gz), np.int64(width),
                            np.int64(a), has)
            if k < len(sizes) or h0 is not None:
                be.matmul(gz[a:a + n], w_hh, dh[:n])
        return gz, asked(be, dh, h0, dtype), asked(be, dc, c0, dtype)
    grad_gates = grad_cells = None
    def grads(o, g0, g1, g2, needs, g_out, g_h, g_c, input, w_ih, w_hh, b_ih, b_hh, h0, c0, sizes,
              reverse):
        return by_small_ops(o, lstm_small, (g_out, g_h, g_c),
                            (input, w_ih, w_hh, b_ih, b_hh, h0, c0), (g0, g1, g2), needs, sizes,
                            reverse)


# GRU ---------------------------------------------------------------------------------------------

def gru_small(input: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, h0: Any, *, sizes: Any,
              reverse: bool) -> Any:
    """gru_layer in small ops."""
    x = linear(input, w_ih, b_ih)
    h = zeros_for(h0, x, sizes, w_hh.shape[1])
    outs: dict[int, Any] = {}
    hidden: dict[int, Any] = {}
    for a, n in steps(sizes, reverse):
        old = step_rows(h, 0, n)
        hidden[a] = linear(old, w_hh, b_hh)
        (xr, xz, xn), (yr, yz, yn) = columns(step_rows(x, a, n), 3), columns(hidden[a], 3)
        z = T.sigmoid(T.add(xz, yz))
        new = T.tanh(T.add(xn, T.mul(T.sigmoid(T.add(xr, yr)), yn)))
        outs[a] = T.add(new, T.mul(z, T.sub(old, new)))
        h = advanced(h, outs[a])
    groups = [[x], in_order(hidden), None if h0 is None else [h0]]
    return (T.cat(*in_order(outs), dim=0), h), groups


@op("CudnnRnnBackward0", outputs=4, diff=2)
class gru_layer:
    """(output, h_n), and for backward the gates r, z, n of each row and w_hh's product for n.

    input is (rows, input size), the weights (3H, input size) and (3H, H), the biases (3H).
    """
    def forward(be, input, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, *, sizes, reverse=False):
        xp, own, dtype = be.xp, input.dtype, wide(input.dtype)
        width, b = w_hh.shape[1], sizes[0]
        gates = products(be, input, w_ih, b_ih)
        out, hidden = (be.empty((len(gates), width), dtype) for _ in range(2))
        h, y = state(be, h0, (b, width), dtype), xp.zeros((b, 3 * width), dtype)
        w, half, one = transposed(be, w_hh, sizes), be.number[0.5, dtype], be.number[1, dtype]
        bias = None if b_hh is None else narrowed(b_hh, dtype)
        for k, (a, n) in enumerate(steps(sizes, reverse)):
            z, new, old, product = gates[a:a + n], out[a:a + n], h[:n], y[:n]
            if k or h0 is not None:
                be.matmul(old, w, product)
            if bias is not None:
                product += bias
            switches, fresh = z[:, :2 * width], z[:, 2 * width:]
            switches += product[:, :2 * width]
            switches *= half                        # sigmoid(x) is (tanh(x / 2) + 1) / 2
            xp.tanh(switches, out=switches)
            switches += one
            switches *= half
            hidden[a:a + n] = product[:, 2 * width:]
            fresh += xp.multiply(z[:, :width], hidden[a:a + n], out=new)
            xp.tanh(fresh, out=fresh)
            xp.subtract(old, fresh, out=new)
            new *= z[:, width:2 * width]
            new += fresh
            old[...] = new
        return narrowed(out, own), narrowed(h, own), gates, hidden
    def cuda(be, input, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, *, sizes, reverse=False):
        if not takes(be, input, w_ih, w_hh, b_ih, b_hh, h0):
            return NotImplemented
        dtype, width, b = input.dtype, w_hh.shape[1], sizes[0]
        gates = kernel_products(be, input, w_ih, b_ih)
        out, hidden = (be.empty((len(gates), width), dtype) for _ in range(2))
        h, y = state(be, h0, (b, width), dtype), be.xp.zeros((b, 3 * width), dtype)
        bias = be.xp.zeros(3 * width, dtype) if b_hh is None else be._dense(b_hh)
        for k, (a, n) in enumerate(steps(sizes, reverse)):
            if k or h0 is not None:
                be.matmul(h[:n], w_hh.T, y[:n])
            be.kernels.each("recurrent", "gru_step", dtype, n * width,
                            (gates, y, bias, h, out, hidden), np.int64(width), np.int64(a))
        return out, h, gates, hidden
    def grads(o, g0, g1, needs, input, w_ih, w_hh, b_ih, b_hh, h0, result0, result2, result3,
              sizes, reverse):
        gx, gy, gh = o.gru_layer_backward(g0, g1, input, w_ih, w_hh, b_ih, b_hh, h0, result0,
                                          result2, result3, sizes=sizes, reverse=reverse)
        return layer_grads(o, needs, gx, gy, gh, input, w_ih, result0, h0, sizes, reverse)


@op("CudnnRnnBackwardBackward0", outputs=3, diff=3)
class gru_layer_backward:
    """The gradients of gru_layer for both products, with w_ih and with w_hh, and for h0.

    out, gates and hidden are its results; without them they are made again. The gradient for h0 is
    zeros if that is None.
    """
    def forward(be, g_out, g_h, input, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, out=None,
                gates=None, hidden=None, *, sizes, reverse=False):
        xp, own, dtype = be.xp, input.dtype, wide(input.dtype)
        width, b = w_hh.shape[1], sizes[0]
        if gates is None:
            out, _, gates, hidden = be.raw.gru_layer(input, w_ih, w_hh, b_ih, b_hh, h0,
                                                     sizes=sizes, reverse=reverse)
        gates = narrowed(gates, dtype).reshape(len(gates), 3, width)
        r, z, fresh = (gates[:, k] for k in range(3))
        one = be.number[1, dtype]
        # what dh, and for the first gate the third's gradient, is multiplied by
        gx = one - gates
        gx *= gates
        gx[:, 0] *= narrowed(hidden, dtype)
        rest = narrowed(be.raw.states_before(out, h0, sizes, reverse), dtype) - fresh
        gx[:, 1] *= rest
        xp.multiply(fresh, fresh, out=rest)
        xp.subtract(one, rest, out=rest)
        xp.subtract(one, z, out=gx[:, 2])
        gx[:, 2] *= rest
        gy = be.empty(gx.shape, dtype)
        dh, product = state(be, g_h, (b, width), dtype), be.empty((b, width), dtype)
        w = narrowed(w_hh, dtype)
        for k, (a, n) in enumerate(reversed(steps(sizes, reverse)), 1):
            slope, x, y = add_slope(dh, g_out, a, n), gx[a:a + n], gy[a:a + n]
            x[:, 1:] *= slope[:, None]
            x[:, 0] *= x[:, 2]
            y[:, :2] = x[:, :2]
            xp.multiply(x[:, 2], r[a:a + n], out=y[:, 2])
            slope *= z[a:a + n]
            if k < len(sizes) or h0 is not None:
                slope += be.matmul(y.reshape(n, 3 * width), w, product[:n])
        gx, gy = (narrowed(v.reshape(len(gates), 3 * width), own) for v in (gx, gy))
        return gx, gy, asked(be, dh, h0, own)
    def cuda(be, g_out, g_h, input, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, out=None,
             gates=None, hidden=None, *, sizes, reverse=False):
        if gates is None or not takes(be, input, w_hh, gates):
            return NotImplemented
        dtype, width, b = input.dtype, w_hh.shape[1], sizes[0]
        gates, hidden = be._dense(gates), be._dense(hidden)
        g_out, has = slope_rows(be, g_out, dtype, gates)
        previous = be._dense(be.raw.states_before(out, h0, sizes, reverse))
        direct = state(be, g_h, (b, width), wide(dtype))
        product = be.xp.zeros((b, width), dtype)
        gx, gy = (be.empty(gates.shape, dtype) for _ in range(2))
        for k, (a, n) in enumerate(reversed(steps(sizes, reverse)), 1):
            be.kernels.each("recurrent", "gru_step_backward", dtype, n * width,
                            (gates, hidden, previous, g_out, product, direct, gx, gy),
                            np.int64(width), np.int64(a), has)
            if k < len(sizes) or h0 is not None:
                be.matmul(gy[a:a + n], w_hh, product[:n])
        direct += product
        return gx, gy, asked(be, direct, h0, dtype)
    grad_out = grad_gates = grad_hidden = None
    def grads(o, g0, g1, g2, needs, g_out, g_h, input, w_ih, w_hh, b_ih, b_hh, h0, sizes, reverse):
        return by_small_ops(o, gru_small, (g_out, g_h), (input, w_ih, w_hh, b_ih, b_hh, h0),
                            (g0, g1, g2), needs, sizes, reverse)


# Elman's -----------------------------------------------------------------------------------------

def rnn_small(input: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any, h0: Any, *, sizes: Any,
              reverse: bool, relu: bool) -> Any:
    """rnn_layer in small ops."""
    z = linear(input, w_ih, total(b_ih, b_hh))
    h = zeros_for(h0, z, sizes, w_hh.shape[1])
    outs: dict[int, Any] = {}
    for a, n in steps(sizes, reverse):
        new = T.add(step_rows(z, a, n), linear(step_rows(h, 0, n), w_hh, None))
        outs[a] = T.relu(new) if relu else T.tanh(new)
        h = advanced(h, outs[a])
    groups = [[z], None if h0 is None else [h0]]
    return (T.cat(*in_order(outs), dim=0), h), groups


@op("CudnnRnnBackward0", outputs=2, diff=2)
class rnn_layer:
    """(output, h_n) of h = tanh(w_ih @ x + b_ih + w_hh @ h + b_hh), or relu of it.

    input is (rows, input size), the weights (H, input size) and (H, H), the biases (H).
    """
    def forward(be, input, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, *, sizes, reverse=False,
                relu=False):
        xp, own, dtype = be.xp, input.dtype, wide(input.dtype)
        width, b = w_hh.shape[1], sizes[0]
        out = products(be, input, w_ih, b_ih, b_hh)
        h, y = state(be, h0, (b, width), dtype), be.empty((b, width), dtype)
        w, zero = transposed(be, w_hh, sizes), be.number[0, dtype]
        for k, (a, n) in enumerate(steps(sizes, reverse)):
            new = out[a:a + n]
            if k or h0 is not None:
                new += be.matmul(h[:n], w, y[:n])
            xp.maximum(new, zero, out=new) if relu else xp.tanh(new, out=new)
            h[:n] = new
        return narrowed(out, own), narrowed(h, own)
    def cuda(be, input, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, *, sizes, reverse=False,
             relu=False):
        if not takes(be, input, w_ih, w_hh, b_ih, b_hh, h0):
            return NotImplemented
        dtype, width, b = input.dtype, w_hh.shape[1], sizes[0]
        out = kernel_products(be, input, w_ih, total(b_ih, b_hh))
        h, y = state(be, h0, (b, width), dtype), be.xp.zeros((b, width), dtype)
        for k, (a, n) in enumerate(steps(sizes, reverse)):
            if k or h0 is not None:
                be.matmul(h[:n], w_hh.T, y[:n])
            be.kernels.each("recurrent", "rnn_step", dtype, n * width, (out, y, h),
                            np.int64(width), np.int64(a), np.int32(relu))
        return out, h
    def grads(o, g0, g1, needs, input, w_ih, w_hh, b_ih, b_hh, h0, result0, sizes, reverse, relu):
        gz, gh = o.rnn_layer_backward(g0, g1, input, w_ih, w_hh, b_ih, b_hh, h0, result0,
                                      sizes=sizes, reverse=reverse, relu=relu)
        return layer_grads(o, needs, gz, gz, gh, input, w_ih, result0, h0, sizes, reverse)


@op("CudnnRnnBackwardBackward1", outputs=2, diff=2)
class rnn_layer_backward:
    """The gradients of rnn_layer before its activation, and for h0: zeros if that is None.

    out is its output; without it that is made again.
    """
    def forward(be, g_out, g_h, input, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, out=None, *,
                sizes, reverse=False, relu=False):
        own, dtype = input.dtype, wide(input.dtype)
        width, b = w_hh.shape[1], sizes[0]
        if out is None:
            out = be.raw.rnn_layer(input, w_ih, w_hh, b_ih, b_hh, h0, sizes=sizes, reverse=reverse,
                                   relu=relu)[0]
        out = narrowed(out, dtype)
        gz = (out > be.number[0, dtype]).astype(dtype) if relu else be.number[1, dtype] - out * out
        dh, w = state(be, g_h, (b, width), dtype), narrowed(w_hh, dtype)
        for k, (a, n) in enumerate(reversed(steps(sizes, reverse)), 1):
            slope, z = add_slope(dh, g_out, a, n), gz[a:a + n]
            z *= slope
            if k < len(sizes) or h0 is not None:
                be.matmul(z, w, slope)
        return narrowed(gz, own), asked(be, dh, h0, own)
    def cuda(be, g_out, g_h, input, w_ih, w_hh, b_ih=None, b_hh=None, h0=None, out=None, *,
             sizes, reverse=False, relu=False):
        if out is None or not takes(be, input, w_hh, out):
            return NotImplemented
        dtype, width, b = input.dtype, w_hh.shape[1], sizes[0]
        out = be._dense(out)
        g_out, has = slope_rows(be, g_out, dtype, out)
        dh, gz = state(be, g_h, (b, width), dtype), be.empty(out.shape, dtype)
        for k, (a, n) in enumerate(reversed(steps(sizes, reverse)), 1):
            be.kernels.each("recurrent", "rnn_step_backward", dtype, n * width,
                            (out, g_out, dh, gz), np.int64(width), np.int64(a), has,
                            np.int32(relu))
            if k < len(sizes) or h0 is not None:
                be.matmul(gz[a:a + n], w_hh, dh[:n])
        return gz, asked(be, dh, h0, dtype)
    grad_out = None
    def grads(o, g0, g1, needs, g_out, g_h, input, w_ih, w_hh, b_ih, b_hh, h0, sizes, reverse,
              relu):
        return by_small_ops(o, rnn_small, (g_out, g_h), (input, w_ih, w_hh, b_ih, b_hh, h0),
                            (g0, g1), needs, sizes, reverse, relu=relu)
