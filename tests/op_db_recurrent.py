"""The records of recurrent layers and of packing.

Backward ops have their references by complex steps: the gradient of a real sum for x is the
imaginary part of its value at x + 1e-30i, exact to the last places.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from op_db import Array, Draw, case, record, sigmoid


def rows_of(sizes: Any, reverse: bool) -> list[slice]:
    """The rows of each step, in the order that a layer takes them."""
    ends = np.cumsum(sizes)
    found = [slice(int(b - n), int(b)) for b, n in zip(ends, sizes)]
    return found[::-1] if reverse else found


def product(input: Array, w_ih: Array, *biases: Any) -> Array:
    return input @ w_ih.T + sum(b for b in biases if b is not None)


def start(h0: Any, sizes: Any, width: int, dtype: Any) -> Array:
    h = np.zeros((sizes[0], width), dtype)
    if h0 is not None:
        h[:] = h0
    return h


# Each layer of its products with the input: the output, last states, and what is kept.

def lstm(z: Array, w_hh: Array, h0: Any, c0: Any, sizes: Any, reverse: bool) -> Any:
    width = w_hh.shape[1]
    h, c = (start(s, sizes, width, z.dtype) for s in (h0, c0))
    gates, cells, out = z.copy(), z[:, :width].copy(), z[:, :width].copy()
    for rows in rows_of(sizes, reverse):
        n = rows.stop - rows.start
        parts = np.split(z[rows] + h[:n] @ w_hh.T, 4, 1)
        i, f, g, o = (np.tanh(a) if k == 2 else sigmoid(a) for k, a in enumerate(parts))
        c[:n] = cells[rows] = f * c[:n] + i * g
        h[:n] = out[rows] = o * np.tanh(c[:n])
        gates[rows] = np.concatenate([i, f, g, o], 1)
    return out, h, c, gates, cells


def gru(x: Array, w_hh: Array, b_hh: Any, h0: Any, sizes: Any, reverse: bool,
        nudge: Any = 0) -> Any:
    """nudge is added to the products with w_hh."""
    width = w_hh.shape[1]
    nudge = np.broadcast_to(nudge, x.shape)
    h = start(h0, sizes, width, np.result_type(x, nudge))
    gates = x.astype(h.dtype)
    hidden, out = gates[:, :width].copy(), gates[:, :width].copy()
    for rows in rows_of(sizes, reverse):
        n = rows.stop - rows.start
        y = h[:n] @ w_hh.T + nudge[rows] + (0 if b_hh is None else b_hh)
        (xr, xz, xn), (yr, yz, yn) = np.split(x[rows], 3, 1), np.split(y, 3, 1)
        r, z = sigmoid(xr + yr), sigmoid(xz + yz)
        new = np.tanh(xn + r * yn)
        h[:n] = out[rows] = (1 - z) * new + z * h[:n]
        gates[rows], hidden[rows] = np.concatenate([r, z, new], 1), yn
    return out, h, gates, hidden


def rnn(z: Array, w_hh: Array, h0: Any, sizes: Any, reverse: bool, relu: bool) -> Any:
    h = start(h0, sizes, w_hh.shape[1], z.dtype)
    out = z.copy()
    for rows in rows_of(sizes, reverse):
        n = rows.stop - rows.start
        new = z[rows] + h[:n] @ w_hh.T
        h[:n] = out[rows] = np.where(new.real > 0, new, 0) if relu else np.tanh(new)
    return out, h


def slopes(f: Callable[[Array], Any], x: Array, gs: Any) -> Array:
    """The gradient for x of f's first results times gs, any of which may be None."""
    out = np.zeros(x.shape)
    for at in np.ndindex(*x.shape):
        nudged = x.astype(complex)
        nudged[at] += 1e-30j
        out[at] = sum((g * r.imag).sum() for g, r in zip(gs, f(nudged)) if g is not None) / 1e-30
    return out


def first_slopes(f: Callable[[Array], Any], x0: Any, gs: Any, sizes: Any, width: int) -> Array:
    return np.zeros((sizes[0], width)) if x0 is None else slopes(f, x0, gs)


def lstm_layer(input: Array, w_ih: Array, w_hh: Array, b_ih: Any = None, b_hh: Any = None,
               h0: Any = None, c0: Any = None, *, sizes: Any, reverse: bool = False) -> Any:
    return lstm(product(input, w_ih, b_ih, b_hh), w_hh, h0, c0, sizes, reverse)


def lstm_layer_backward(g_out: Any, g_h: Any, g_c: Any, input: Array, w_ih: Array, w_hh: Array,
                        b_ih: Any = None, b_hh: Any = None, h0: Any = None, c0: Any = None, *,
                        sizes: Any, reverse: bool = False) -> Any:
    z, gs, width = product(input, w_ih, b_ih, b_hh), (g_out, g_h, g_c), w_hh.shape[1]
    return (slopes(lambda v: lstm(v, w_hh, h0, c0, sizes, reverse), z, gs),
            first_slopes(lambda v: lstm(z + 0j, w_hh, v, c0, sizes, reverse), h0, gs, sizes, width),
            first_slopes(lambda v: lstm(z + 0j, w_hh, h0, v, sizes, reverse), c0, gs, sizes, width))


def gru_layer(input: Array, w_ih: Array, w_hh: Array, b_ih: Any = None, b_hh: Any = None,
              h0: Any = None, *, sizes: Any, reverse: bool = False) -> Any:
    return gru(product(input, w_ih, b_ih), w_hh, b_hh, h0, sizes, reverse)


def gru_layer_backward(g_out: Any, g_h: Any, input: Array, w_ih: Array, w_hh: Array,
                       b_ih: Any = None, b_hh: Any = None, h0: Any = None, *, sizes: Any,
                       reverse: bool = False) -> Any:
    x, gs, width = product(input, w_ih, b_ih), (g_out, g_h), w_hh.shape[1]
    return (slopes(lambda v: gru(v, w_hh, b_hh, h0, sizes, reverse), x, gs),
            slopes(lambda v: gru(x, w_hh, b_hh, h0, sizes, reverse, v), 0 * x, gs),
            first_slopes(lambda v: gru(x + 0j, w_hh, b_hh, v, sizes, reverse), h0, gs, sizes,
                         width))


def rnn_layer(input: Array, w_ih: Array, w_hh: Array, b_ih: Any = None, b_hh: Any = None,
              h0: Any = None, *, sizes: Any, reverse: bool = False, relu: bool = False) -> Any:
    return rnn(product(input, w_ih, b_ih, b_hh), w_hh, h0, sizes, reverse, relu)


def rnn_layer_backward(g_out: Any, g_h: Any, input: Array, w_ih: Array, w_hh: Array,
                       b_ih: Any = None, b_hh: Any = None, h0: Any = None, *, sizes: Any,
                       reverse: bool = False, relu: bool = False) -> Any:
    z, gs, width = product(input, w_ih, b_ih, b_hh), (g_out, g_h), w_hh.shape[1]
    return (slopes(lambda v: rnn(v, w_hh, h0, sizes, reverse, relu), z, gs),
            first_slopes(lambda v: rnn(z + 0j, w_hh, v, sizes, reverse, relu), h0, gs, sizes,
                         width))


def arguments(d: Draw, gates: int, sizes: Any, biases: bool, states: int, size: int,
              width: int) -> list[Any]:
    """The inputs of a layer from ``size`` elements to ``width``."""
    n, b = sum(sizes), sizes[0]
    out = [d.real(n, size), d.small(gates * width, size), d.small(gates * width, width)]
    if biases or states:
        out += [d.small(gates * width), d.small(gates * width)] if biases else [None, None]
    return out + [d.real(b, width) for _ in range(states)]


def layer_records(name: str, gates: int, forward: Any, backward: Any, states: int = 1,
                  other: Any = None) -> None:
    """other: constants of the second sample of each op."""
    def cases(d: Draw, back: bool) -> list[Any]:
        size, width = 3, 2

        def one(sizes: Any, biases: bool, firsts: int, given: tuple[bool, ...], **kw: Any) -> Any:
            slopes = [d.real(sum(sizes) if k == 0 else sizes[0], width) if there else None
                      for k, there in enumerate(given[:1 + states])]
            return case(*(slopes if back else []),
                        *arguments(d, gates, sizes, biases, firsts, size, width), sizes=sizes, **kw)
        return [one((2, 1), True, states, (True, True, True)),
                one((2, 1), False, states, (True, False, False), reverse=True, **(other or {})),
                one((1, 1), True, 0, (False, True, True)),
                one((0, 0), True, states, (True, True, True))]
    record(name, forward, lambda d: cases(d, False), tolerance=2e-2)
    # its second derivative is the layer's third: test_recurrent.py has that, of a smaller one
    record(name + "_backward", backward, lambda d: cases(d, True), smooth=False, tolerance=2e-2)


layer_records("lstm_layer", 4, lstm_layer, lstm_layer_backward, states=2)
layer_records("gru_layer", 3, gru_layer, gru_layer_backward)
layer_records("rnn_layer", 1, rnn_layer, rnn_layer_backward, other={"relu": True})

# Packing -----------------------------------------------------------------------------------------


def pack_padded(input: Array, sizes: Any) -> Array:
    return np.concatenate([input[t, :n] for t, n in enumerate(sizes)])


def pad_packed(data: Array, sizes: Any, length: int, value: float = 0) -> Array:
    out = np.full((length, sizes[0], *data.shape[1:]), float(value))
    for t, rows in enumerate(rows_of(sizes, False)):
        out[t, :sizes[t]] = data[rows]
    return out


def pad_sequences(*xs: Array, length: int, value: float = 0, left: bool = False,
                  batch_first: bool = False) -> Array:
    rest = ((0, 0),) * (xs[0].ndim - 1)
    pads = [((length - len(x), 0) if left else (0, length - len(x)), *rest) for x in xs]
    return np.stack([np.pad(x, p, constant_values=value) for x, p in zip(xs, pads)],
                    0 if batch_first else 1)


record("pack_padded", pack_padded, lambda d: [
    case(d.real(4, 3, 2), sizes=(3, 3, 1)), case(d.real(3, 2), sizes=(2, 1, 1)),
    case(d.real(2, 2, 0), sizes=(2, 1))])
record("pad_packed", pad_packed, lambda d: [
    case(d.real(7, 2), sizes=(3, 3, 1), length=4, value=0.5),
    case(d.real(4), sizes=(2, 1, 1), length=3), case(d.real(3, 0), sizes=(2, 1), length=2)])
record("pad_sequences", pad_sequences, lambda d: [
    case(d.real(3, 2), d.real(1, 2), d.real(2, 2), length=3, value=-1.5),
    case(d.real(2), d.real(4), length=4, left=True),
    case(d.real(2, 2), d.real(3, 2), length=3, left=True, batch_first=True),
    case(d.real(0, 2), d.real(1, 2), length=1)])
