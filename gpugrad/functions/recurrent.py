"""Recurrent layers: rnn_tanh, rnn_relu, lstm and gru over sequences, and their cells."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpugrad._state import state
from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.creation import tensor
from gpugrad.functions.arguments import dim_of
from gpugrad.ops.dropout import dropout
from gpugrad.ops.matmul import check_dtypes
from gpugrad.ops.recurrent import lstm_small

# (input, w_ih, w_hh, b_ih, b_hh, states, steps' sizes, reverse) to (output, last states)
Layer = Callable[..., tuple[Tensor, tuple[Tensor, ...]]]


def _rnn_layer(relu: bool) -> Layer:
    def layer(x: Tensor, weights: Any, states: Any, sizes: Any, reverse: bool) -> Any:
        out, h = T.rnn_layer(x, *weights, states[0], sizes=sizes, reverse=reverse, relu=relu)
        return out, (h,)
    return layer


def _gru_layer(x: Tensor, weights: Any, states: Any, sizes: Any, reverse: bool) -> Any:
    out, h = T.gru_layer(x, *weights, states[0], sizes=sizes, reverse=reverse)[:2]
    return out, (h,)


def _lstm_layer(x: Tensor, weights: Any, states: Any, sizes: Any, reverse: bool) -> Any:
    if len(weights) == 5:
        (w_ih, w_hh, b_ih, b_hh, w_hr), (h0, c0) = weights, states
        (out, h, c), _ = lstm_small(x, w_ih, w_hh, b_ih, b_hh, h0, c0, w_hr, sizes=sizes,
                                    reverse=reverse)
    else:
        out, h, c = T.lstm_layer(x, *weights, *states, sizes=sizes, reverse=reverse)[:3]
    return out, (h, c)


class Kind:
    """One sort of layer: its name, gates, states, and what computes one direction."""

    def __init__(self, name: str, gates: int, layer: Layer, states: int = 1) -> None:
        self.name, self.gates, self.layer, self.states = name, gates, layer, states


RNN_TANH, RNN_RELU = Kind("rnn_tanh", 1, _rnn_layer(False)), Kind("rnn_relu", 1, _rnn_layer(True))
GRU, LSTM = Kind("gru", 3, _gru_layer), Kind("lstm", 4, _lstm_layer, 2)


# Sequences ---------------------------------------------------------------------------------------

def padded(kind: Kind, input: Tensor, hx: Any, params: Any, has_biases: bool, num_layers: int,
           p: float, train: bool, bidirectional: bool,
           batch_first: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Sequences of one length, (T, B, ...) or (B, T, ...): the output, and a tuple of last states.

    hx: a tuple of the first states, (layers * directions, B, ...) each; None for zeros.
    """
    dim_of(2, input.ndim)
    if batch_first:
        input = T.transpose(input, dim0=0, dim1=1)
    length, batch, size = input.shape
    if length == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    rows = input.reshape(length * batch, size)
    out, states = stacked(kind, rows, (batch,) * length, hx, params, has_biases, num_layers, p,
                          train, bidirectional)
    out = T.view(out, shape=(length, batch, out.shape[1]))
    return T.transpose(out, dim0=0, dim1=1) if batch_first else out, states


def packed(kind: Kind, data: Tensor, batch_sizes: Tensor, hx: Any, params: Any, has_biases: bool,
           num_layers: int, p: float, train: bool,
           bidirectional: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The same of packed sequences, whose output is packed too."""
    sizes = tuple([int(n) for n in batch_sizes._be.to_host(batch_sizes._a)])
    if not sizes:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    if data.ndim != 2 or sum(sizes) != data.shape[0] or list(sizes) != sorted(sizes, reverse=True) \
            or sizes[-1] <= 0:
        raise RuntimeError(f"{kind.name}(): data must have two dims and a row for each element of "
                           "batch_sizes, which must be positive and not increase: got data of "
                           f"shape {list(data.shape)} and batch_sizes {list(sizes)}")
    return stacked(kind, data, sizes, hx, params, has_biases, num_layers, p, train, bidirectional)


def stacked(kind: Kind, rows: Tensor, sizes: tuple[int, ...], hx: Any, params: Any,
            has_biases: bool, num_layers: int, p: float, train: bool,
            bidirectional: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """All layers and directions on rows, those of a step together."""
    directions = 2 if bidirectional else 1
    count = num_layers * directions
    weights = _weights(kind, params, has_biases, count)
    firsts = _first_states(kind, hx, count)
    lasts: list[tuple[Tensor, ...]] = []
    for layer in range(num_layers):
        outs = []
        for direction in range(directions):
            k = len(lasts)
            _check_layer(kind, rows, weights[k], firsts[k], sizes[0])
            out, states = kind.layer(rows, weights[k], firsts[k], sizes, direction == 1)
            outs.append(out)
            lasts.append(states)
        rows = outs[0] if directions == 1 else T.cat(*outs, dim=1)
        if layer < num_layers - 1:
            rows = dropout(rows, p, train)
    return rows, tuple([T.unsqueeze(s[0], dim=0) if count == 1 else T.stack(*s, dim=0)
                        for s in zip(*lasts)])


def _weights(kind: Kind, params: Any, has_biases: bool, count: int) -> list[list[Any]]:
    """The parameters of each layer and direction: w_ih, w_hh, b_ih, b_hh, and w_hr if there is one.
    """
    params = list(params)
    each, rest = divmod(len(params), count)
    plain = 4 if has_biases else 2
    if rest or each not in ((plain, plain + 1) if kind is LSTM else (plain,)):
        raise RuntimeError(f"{kind.name}(): expected {plain} parameters for each of {count} layers "
                           f"and directions (has_biases={has_biases}), but got {len(params)}")
    groups = [params[i:i + each] for i in range(0, len(params), each)]
    return groups if has_biases else [[*g[:2], None, None, *g[2:]] for g in groups]


def _first_states(kind: Kind, hx: Any, count: int) -> list[tuple[Any, ...]]:
    """The first states of each layer and direction; Nones for zeros."""
    if hx is None:
        return [(None,) * kind.states] * count
    for h in hx:
        dim_of(2, h.ndim)
        if h.shape[0] < count:
            raise RuntimeError("Expected more hidden states in stacked_rnn: one for each of "
                               f"{count} layers and directions, but got shape {list(h.shape)}")
    if count == 1:
        return [tuple([T.select(h, dim=0, index=0) for h in hx])]
    return list(zip(*[T.unbind(h, dim=0) for h in hx]))


def _check_layer(kind: Kind, x: Tensor, weights: Any, states: Any, batch: int) -> None:
    w_ih, w_hh, b_ih, b_hh, *w_hr = weights
    tensors = [t for t in (*weights, *states) if t is not None]
    for t in tensors:
        if t._a.dtype != x._a.dtype and state.casting is None:
            check_dtypes(x._a, t._a, "mat1 and mat2")
    if not x.is_floating_point():
        raise NotImplementedError(f"{kind.name}() takes floating-point tensors, not {x.dtype}: "
                                  "convert them, as in x.float()")
    for w, size, what in ((w_ih, x.shape[1], "input"), (w_hh, w_hh.shape[-1], "hidden state")):
        if w.ndim != 2 or w.shape[1] != size or w.shape[0] != w_hh.shape[0]:
            raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({x.shape[0]}x{size} "
                               f"and {w.shape[-1]}x{w.shape[0]}): the weights of {kind.name}() "
                               f"for the {what} must have {w_hh.shape[0]} rows and {size} columns")
    width = w_hh.shape[0] // kind.gates
    sizes = [w_hr[0].shape[0] if w_hr else width, width][:kind.states]
    if w_hh.shape != (kind.gates * width, sizes[0]):
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({batch}x{sizes[0]} and "
                           f"{w_hh.shape[1]}x{w_hh.shape[0]}): {kind.name}()'s weight for the "
                           f"hidden state must be ({kind.gates} * hidden size, hidden size)")
    for b in (b_ih, b_hh):
        if b is not None and b.shape != (kind.gates * width,):
            raise RuntimeError(f"{kind.name}(): expected biases of shape [{kind.gates * width}], "
                               f"but got {list(b.shape)}")
    for h, size in zip(states, sizes):
        if h is not None and h.shape != (batch, size):
            raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({h.shape[0]}x"
                               f"{h.shape[1]} and {size}x{w_hh.shape[0]}): {kind.name}() expects "
                               f"states of shape {[batch, size]} for each layer and direction")


_PADDED = ("input", "hx", "params", "has_biases", "num_layers", "dropout", "train",
           "bidirectional", "batch_first")
_PACKED = ("data", "batch_sizes", *_PADDED[1:-1])
_TYPES = {"has_biases": "bool", "num_layers": "int", "dropout": "float", "train": "bool",
          "bidirectional": "bool", "batch_first": "bool", "params": "tuple of Tensors"}


def _entry(kind: Kind) -> Any:
    """torch.<name>, which has two signatures: for sequences of one length, and for packed ones."""
    def hx_is(value: Any) -> bool:
        return isinstance(value, Sequence) if kind.states > 1 else isinstance(value, Tensor)

    def chosen(names: tuple[str, ...], args: Any, kw: Any) -> dict[str, Any] | None:
        """The arguments by name if they suit a signature."""
        found = {**dict(zip(names, args)), **kw}
        fits = len(args) + len(kw) == len(found) == len(names) and set(found) == set(names)
        return found if fits and hx_is(found["hx"]) and all(
            isinstance(found[k], Tensor) for k in names[:2] if k != "hx") and isinstance(
                found["params"], Sequence) else None

    def run(*args: Any, **kw: Any) -> tuple[Tensor, ...]:
        found = chosen(_PADDED, args, kw)
        names = _PACKED if found is None else _PADDED
        if found is None:
            found = chosen(_PACKED, args, kw)
        if found is None:
            given = ", ".join([*[type(v).__name__ for v in args],
                               *[f"{k}={type(v).__name__}" for k, v in kw.items()]])
            hidden = {"hx": "tuple of Tensors" if kind.states > 1 else "Tensor", **_TYPES}
            forms = "\n".join(f" * ({', '.join(hidden.get(n, 'Tensor') + ' ' + n for n in form)})"
                              for form in (_PACKED, _PADDED))
            raise TypeError(f"{kind.name}() received an invalid combination of arguments - got "
                            f"({given}), but expected one of:\n{forms}\n")
        hx = found["hx"]
        if kind.states > 1 and len(hx) != kind.states:
            raise RuntimeError(f"{kind.name} expects two hidden states")
        found["hx"] = hx if kind.states > 1 else (hx,)
        out, states = (padded if names is _PADDED else packed)(
            kind, *[found[name] for name in names])
        return out, *states
    run.__name__ = run.__qualname__ = kind.name
    run.__doc__ = (f"{kind.name}({', '.join(_PADDED)}), or for packed sequences ({kind.name})"
                   f"({', '.join(_PACKED)}): the output and the last states.")
    return run


rnn_tanh, rnn_relu, gru, lstm = (_entry(kind) for kind in (RNN_TANH, RNN_RELU, GRU, LSTM))


# Cells -------------------------------------------------------------------------------------------

def _cell(kind: Kind, input: Tensor, states: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Any,
          b_hh: Any) -> tuple[Tensor, ...]:
    """One step: its new states."""
    dim_of(1, input.ndim)
    if input.shape[1] != w_ih.shape[1]:
        raise RuntimeError(f"input has inconsistent input_size: got {input.shape[1]} expected "
                           f"{w_ih.shape[1]}")
    width = w_hh.shape[1]
    for i, h in enumerate(states):
        dim_of(1, h.ndim)
        if h.shape[0] != input.shape[0]:
            raise RuntimeError(f"Input batch size {input.shape[0]} doesn't match hidden{i} batch "
                               f"size {h.shape[0]}")
        if h.shape[1] != width:
            raise RuntimeError(f"hidden{i} has inconsistent hidden_size: got {h.shape[1]}, "
                               f"expected {width}")
    for w, name in ((w_ih, "weight_ih"), (w_hh, "weight_hh")):
        if w.shape[0] != kind.gates * width:
            raise RuntimeError(f"{name} first dim must be {kind.gates} * hidden_size = "
                               f"{kind.gates * width}, but got {w.shape[0]}")
    weights = (w_ih, w_hh, b_ih, b_hh)
    _check_layer(kind, input, weights, states, input.shape[0])
    out, last = kind.layer(input, weights, states, (input.shape[0],), False)
    return out, *last[1:]


def rnn_tanh_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor,
                  b_ih: Tensor | None = None, b_hh: Tensor | None = None) -> Tensor:
    """tanh(w_ih @ input + b_ih + w_hh @ hx + b_hh) for each of a batch."""
    return _cell(RNN_TANH, input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


def rnn_relu_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor,
                  b_ih: Tensor | None = None, b_hh: Tensor | None = None) -> Tensor:
    """relu(w_ih @ input + b_ih + w_hh @ hx + b_hh) for each of a batch."""
    return _cell(RNN_RELU, input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


def gru_cell(input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
             b_hh: Tensor | None = None) -> Tensor:
    """The new state of a GRU, (B, H); the weights are those of its gates r, z, n."""
    return _cell(GRU, input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


def lstm_cell(input: Tensor, hx: Sequence[Tensor], w_ih: Tensor, w_hh: Tensor,
              b_ih: Tensor | None = None, b_hh: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The new states h and c of an LSTM, (B, H) each; the weights are those of i, f, g, o."""
    if not isinstance(hx, Sequence):
        raise TypeError("lstm_cell(): argument 'hx' (position 2) must be tuple of Tensors, not "
                        f"{type(hx).__name__}")
    if len(hx) != 2:
        raise RuntimeError("lstm_cell expects two hidden states")
    h, c = _cell(LSTM, input, hx, w_ih, w_hh, b_ih, b_hh)
    return h, c


# Packing -----------------------------------------------------------------------------------------

def _pack_padded_sequence(input: Tensor, lengths: Tensor,
                          batch_first: bool) -> tuple[Tensor, Tensor]:
    """(T, B, ...) and the lengths of its sequences, longest first: packed rows, and how many of
    them each step has.
    """
    if lengths.ndim != 1 or lengths.device.type != "cpu" or lengths._a.dtype.name != "int64":
        raise RuntimeError("'lengths' argument should be a 1D CPU int64 tensor, but got "
                           f"{lengths.ndim}D {lengths.device} {_type_name(lengths)} tensor")
    dim_of(1, input.ndim)
    if batch_first:
        input = T.transpose(input, dim0=0, dim1=1)
    counts = lengths._a.tolist()
    if input.numel() == 0:
        raise RuntimeError("Cannot pack empty tensors.")
    if len(counts) != input.shape[1]:
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, but got "
                           f"{len(counts)} (batch_size={input.shape[1]})")
    if min(counts) <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element "
                           "in 'lengths' that is <= 0")
    if counts != sorted(counts, reverse=True):
        raise RuntimeError("`lengths` array must be sorted in decreasing order when "
                           "`enforce_sorted` is True. You can pass `enforce_sorted=False` to "
                           "pack_padded_sequence and/or pack_sequence to sidestep this "
                           "requirement if you do not need ONNX exportability.")
    if counts[0] > input.shape[0]:
        raise RuntimeError(f"pack_padded_sequence: a length of {counts[0]} is greater than the "
                           f"{input.shape[0]} steps of the input of shape {list(input.shape)} "
                           "(steps first)")
    sizes: list[int] = []
    for i in range(len(counts) - 1, -1, -1):
        sizes += [i + 1] * (counts[i] - len(sizes))
    return T.pack_padded(input, sizes=tuple(sizes)), tensor(sizes)


def _pad_packed_sequence(data: Tensor, batch_sizes: Tensor, batch_first: bool,
                         padding_value: float, total_length: int) -> tuple[Tensor, Tensor]:
    """The way back: padded sequences of total_length steps, or as many as the longest has if that
    is not positive, and the lengths of all.
    """
    sizes = tuple([int(n) for n in batch_sizes._be.to_host(batch_sizes._a)])
    length = len(sizes)
    if total_length > 0:
        if total_length < length:
            raise RuntimeError("Expected total_length to be at least the length of the longest "
                               f"sequence in input, but got total_length={total_length} and max "
                               f"sequence length being {length}")
        length = total_length
    out = T.pad_packed(data, sizes=sizes, length=length, value=padding_value)
    counts: list[int] = []
    for t in range(len(sizes), 0, -1):
        counts += [t] * (sizes[t - 1] - len(counts))
    return T.transpose(out, dim0=0, dim1=1) if batch_first else out, tensor(counts)


def _type_name(t: Tensor) -> str:
    return str(t.type()).rpartition(".")[2].removesuffix("Tensor")
