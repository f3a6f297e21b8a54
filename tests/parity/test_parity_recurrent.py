"""Recurrent layers, cells and nn.utils.rnn beside PyTorch: values, gradients, states, errors."""
from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest

import gpugrad
from gpugrad._tensor import Tensor

torch = pytest.importorskip("torch")
LIBRARIES = (torch, gpugrad)


def array(t: Any) -> Any:
    t = t.detach().cpu()
    return t.float().numpy() if str(t.dtype) == "torch.bfloat16" else t.numpy()


def flat(value: Any) -> list[Any]:
    if isinstance(value, (torch.Tensor, Tensor)):
        return [value]
    return [t for v in value for t in flat(v)] if isinstance(value, tuple | list) else []


def outcome(lib: Any, run: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return run(lib)
        except Exception as e:
            return type(e).__name__, str(e)


def agree(run: Any, until: float = 2e-5) -> None:
    """run(lib) gives texts and nested tensors, which must agree in values, dtypes and strides."""
    a, b = (outcome(lib, run) for lib in LIBRARIES)
    assert [v for v in a if isinstance(v, str)] == [v for v in b if isinstance(v, str)]
    ts, us = flat(a), flat(b)
    assert len(ts) == len(us)
    for t, u in zip(ts, us):
        assert t.shape == u.shape and str(t.dtype) == str(u.dtype)
        assert not t.numel() or t.stride() == u.stride()
        np.testing.assert_allclose(array(t), array(u), rtol=10 * until, atol=until)


def same_error(code: str) -> None:
    def run(lib: Any) -> Any:
        return eval(code, {"t": lib, "nn": lib.nn, "R": lib.nn.utils.rnn, "o": lib.ones})
    a, b = (outcome(lib, run) for lib in LIBRARIES)
    assert isinstance(a, tuple) and isinstance(a[0], str), f"torch takes {code}"
    assert a[0] == b[0], (a, b)
    start = min(24, len(a[1]))
    assert b[1][:start] == a[1][:start], (a, b)


# Layers ------------------------------------------------------------------------------------------

FORMS = list(itertools.product(
    ("RNN", "GRU", "LSTM", "projected"), (1, 2), (False, True), (False, True), (True, False),
    (0.0, 0.5), (False, True), ("batch", "alone", "packed", "unsorted")))
# every form would take long; a step that no count divides meets all pairs of choices
SOME = FORMS[::7]


def given_states(lib: Any, kind: str, shape: Any, size: int, cell: int) -> Any:
    h = lib.randn(*shape, size).requires_grad_()
    return (h, lib.randn(*shape, cell).requires_grad_()) if kind == "LSTM" else h


@pytest.mark.parametrize("kind, layers, two, first, bias, p, given, form", SOME)
def test_layers(kind: str, layers: int, two: bool, first: bool, bias: bool, p: float, given: bool,
                form: str) -> None:
    proj, name = (2, "LSTM") if kind == "projected" else (0, kind)

    def run(lib: Any) -> Any:
        lib.manual_seed(3)
        m = getattr(lib.nn, name)(4, 5, layers, bidirectional=two, batch_first=first, bias=bias,
                                  dropout=p, **({"proj_size": proj} if proj else {}))
        x = lib.randn(*((6, 4) if form == "alone" else (3, 6, 4) if first else (6, 3, 4)))
        count = layers * (2 if two else 1)
        shape = (count,) if form == "alone" else (count, 3)
        h = given_states(lib, name, shape, proj or 5, 5) if given else None
        x.requires_grad_()
        inputs = x if form in ("batch", "alone") else lib.nn.utils.rnn.pack_padded_sequence(
            x, [6, 4, 1] if form == "packed" else [4, 6, 1], first, form == "packed")
        out, last = m(inputs, h)
        loss = sum((t * t).sum() for t in flat((out, last)) if t.requires_grad)
        return (repr(m), *m.state_dict(), out, last,
                lib.autograd.grad(loss, [x, *m.parameters(), *flat(h)]))
    agree(run)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_second_derivatives(kind: str) -> None:
    def run(lib: Any) -> Any:
        lib.manual_seed(0)
        m = getattr(lib.nn, kind)(2, 3, 2, bidirectional=True, dtype=lib.float64)
        x = lib.randn(4, 2, 2, dtype=lib.float64, requires_grad=True)
        with torch.backends.mkldnn.flags(enabled=False):
            out, _ = m(x)
            grads = lib.autograd.grad((out * out).sum(), [x, *m.parameters()], create_graph=True)
            penalty = sum((g * g).sum() for g in grads)
            return (grads, lib.autograd.grad(penalty, [x, *m.parameters()]))
    agree(run, 1e-10)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_state_dicts_go_both_ways(kind: str) -> None:
    a, b = (getattr(lib.nn, kind)(2, 3, 2, bidirectional=True) for lib in LIBRARIES)
    x = np.random.default_rng(0).standard_normal((4, 2, 2)).astype(np.float32)

    def outputs() -> None:
        np.testing.assert_allclose(array(a(torch.from_numpy(x))[0]),
                                   array(b(gpugrad.from_numpy(x))[0]), rtol=1e-5, atol=1e-6)
    b.load_state_dict({k: gpugrad.from_numpy(array(v)) for k, v in a.state_dict().items()})
    outputs()
    b.reset_parameters()
    a.load_state_dict({k: torch.from_numpy(array(v)) for k, v in b.state_dict().items()})
    outputs()
    assert a._flat_weights_names == b._flat_weights_names and a._all_weights == b._all_weights
    assert {n for n in vars(a) if n[0] != "_"} <= set(vars(b))
    assert a.__constants__ == b.__constants__


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_dtypes(kind: str, dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")

    def run(lib: Any) -> Any:
        lib.manual_seed(0)
        m = getattr(lib.nn, kind)(2, 3).to(getattr(lib, dtype))
        x = lib.linspace(-2, 2, 16).reshape(4, 2, 2).to(getattr(lib, dtype)).requires_grad_()
        out, last = m(x)
        return out, last, lib.autograd.grad(out.sum(), [x, *m.parameters()])
    agree(run, {"float64": 1e-9, "float16": 3e-3, "bfloat16": 2e-2}[dtype])


def test_an_empty_batch() -> None:
    for kind in ("RNN", "LSTM", "GRU"):
        agree(lambda lib, kind=kind: getattr(lib.nn, kind)(2, 3, 2)(lib.zeros(4, 0, 2)))


# Functions and cells -----------------------------------------------------------------------------

def weights(lib: Any, gates: int) -> Any:
    return [lib.randn(gates * 3, *rest).requires_grad_() for rest in ((2,), (3,), (), ())]


@pytest.mark.parametrize("name, gates", [("rnn_tanh", 1), ("rnn_relu", 1), ("gru", 3), ("lstm", 4)])
def test_functions(name: str, gates: int) -> None:
    def run(lib: Any, packed: bool = False) -> Any:
        lib.manual_seed(0)
        ws, x, h = weights(lib, gates), lib.randn(4, 2, 2), lib.randn(1, 2, 3)
        h = (h, lib.randn(1, 2, 3)) if name == "lstm" else h
        f = getattr(lib, name)
        if packed:
            data, sizes = lib._pack_padded_sequence(x, lib.tensor([4, 2]), False)
            return f(data, sizes, h, ws, True, 1, 0.0, True, False)
        return (f(x, h, ws, True, 1, 0.0, True, False, False),
                f(x, h, ws[:2], has_biases=False, num_layers=1, dropout=0.0, train=False,
                  bidirectional=False, batch_first=False))
    agree(run)
    agree(lambda lib: run(lib, True))


@pytest.mark.parametrize("name, gates", [("rnn_tanh", 1), ("rnn_relu", 1), ("gru", 3), ("lstm", 4)])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_cell_functions(name: str, gates: int, count: int) -> None:
    def run(lib: Any) -> Any:
        lib.manual_seed(0)
        ws, x, h = weights(lib, gates)[:count], lib.randn(4, 2), lib.randn(4, 3)
        out = getattr(lib, name + "_cell")(x, (h, h.sin()) if name == "lstm" else h, *ws)
        return out, lib.autograd.grad(sum(t.square().sum() for t in flat(out)), ws)
    agree(run)


@pytest.mark.parametrize("name, kw", [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu"}),
                                      ("LSTMCell", {}), ("GRUCell", {}), ("GRUCell",
                                                                          {"bias": False})])
@pytest.mark.parametrize("batch", [(), (3,), (0,)])
@pytest.mark.parametrize("given", [False, True])
def test_cells(name: str, kw: Any, batch: Any, given: bool) -> None:
    def run(lib: Any) -> Any:
        lib.manual_seed(0)
        m = getattr(lib.nn, name)(2, 3, **kw)
        x, h = lib.randn(*batch, 2), lib.randn(*batch, 3)
        h = (h, lib.randn(*batch, 3)) if name == "LSTMCell" else h
        out = m(x, h) if given else m(x)
        return (repr(m), *m.state_dict(), out,
                lib.autograd.grad(sum(t.square().sum() for t in flat(out)), list(m.parameters())))
    agree(run)


# Packing -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("code", """
R.pack_padded_sequence(x, [4, 2, 2])
R.pack_padded_sequence(x, t.tensor([2, 4, 1]), enforce_sorted=False)
R.pack_padded_sequence(x.transpose(0, 1), [3, 2, 2], True)
R.pack_padded_sequence(x[..., 0].long(), t.tensor([4., 2, 2]))
R.pad_packed_sequence(R.pack_padded_sequence(x, [4, 2, 1]), padding_value=-1)
R.pad_packed_sequence(R.pack_padded_sequence(x, [1, 2, 3], enforce_sorted=False), True, 0.5, 6)
R.pad_packed_sequence(R.pack_padded_sequence(x.bool(), [3, 2, 1]))
R.pad_sequence([x[:2, 0], x[:, 1], x[:1, 2]])
R.pad_sequence([x[:2, 0], x[:, 1], x[:1, 2]], True, 3, "left")
R.pad_sequence([x[:2, 0, 0], x[:, 1, 0].double()], padding_value=1.5)
R.pad_sequence([x[:2, 0, 0].int(), x[:, 1, 0].int()], padding_value=1.5)
R.pad_sequence(x, True)
R.unpad_sequence(x.transpose(0, 1), t.tensor([2, 4, 0]), True)
R.pack_sequence([x[:, 0], x[:2, 1], x[:1, 2]])
R.pack_sequence([x[:1, 0], x[:2, 1], x[:, 2]], False)
R.unpack_sequence(R.pack_sequence([x[:1, 0], x[:2, 1], x[:, 2]], False))
R.invert_permutation(t.tensor([2, 0, 1]))
R.PackedSequence(x, t.tensor([4])).double()
t._pad_packed_sequence(x[:, 0], t.tensor([2, 1, 1]), True, 0.0, -1)
""".strip().splitlines())
def test_packing(code: str) -> None:
    def run(lib: Any) -> Any:
        x = lib.linspace(-2, 2, 24).reshape(4, 3, 2).requires_grad_()
        out = eval(code, {"t": lib, "R": lib.nn.utils.rnn, "x": x})
        live = [v for v in flat(out) if v.requires_grad]
        return out, lib.autograd.grad(sum((v * v.detach()).sum() for v in live), x) if live else ()
    agree(run)


# Errors ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("code", """
nn.LSTM(2, 3, dropout=1.5)
nn.LSTM(2, 3, dropout='x')
nn.LSTM(2, 3, bias=None)
nn.LSTM(2.0, 3)
nn.LSTM(2, -3)
nn.LSTM(2, 3, -1)
nn.LSTM(2, 3, proj_size=4)
nn.RNN(2, 3, nonlinearity='sigmoid')
nn.RNN(2, 3, proj_size=1)
nn.RNNBase('rnn', 2, 3)
nn.LSTM(2, 3)(o(1, 1, 1, 2))
nn.LSTM(2, 3)(o(4, 1, 3))
nn.LSTM(2, 3)(o(4, 1, 2).double())
nn.LSTM(2, 3)(o(4, 1, 2).long())
nn.LSTM(2, 3)(o(0, 1, 2))
nn.LSTM(2, 3)(o(4, 2), (o(1, 1, 3), o(1, 1, 3)))
nn.LSTM(2, 3)(o(4, 1, 2), (o(2, 1, 3), o(1, 1, 3)))
nn.GRU(2, 3)(o(4, 1, 2), o(1, 1, 4))
nn.GRU(2, 3)(o(4, 2), o(1, 1, 3))
nn.RNN(2, 3)(o(4, 1, 2), o(1, 3))
nn.GRU(2, 3)(R.pack_sequence([o(3, 2)]), o(1, 2, 3))
nn.GRU(2, 3)(R.pack_sequence([o(3, 4)]))
nn.GRU(2, 3)(R.pack_sequence([o(3)]))
nn.RNNCell(2, 3, nonlinearity='x')(o(2))
nn.RNNCell(2, 3)(o(1, 1, 2))
nn.LSTMCell(2, 3)(o(1, 2), (o(1, 1, 3), o(1, 3)))
nn.LSTMCell(2, 3)(o(1, 2), (o(2, 3), o(1, 3)))
nn.LSTMCell(2, 3)(o(1, 2), (o(1, 3), o(1, 4)))
nn.GRUCell(2, 3)(o(1, 3))
nn.GRUCell(2, 3)(o(1, 2).double())
t.lstm()
t.lstm(o(4, 1, 2), (o(1, 1, 3),), [o(12, 2), o(12, 3)], False, 1, 0., False, False, False)
t.gru(o(0, 1, 2), o(1, 1, 3), [o(9, 2), o(9, 3)], False, 1, 0., False, False, False)
t.gru(o(4, 1, 2), o(1, 1, 3), [o(9, 2), o(9, 3)] * 2, False, 2, 0., False, False, False)
t.gru(o(4, 1, 2), o(1, 1, 2), [o(9, 2), o(9, 3)], False, 1, 0., False, False, False)
t.gru(o(1, 2), o(1, 1, 3), [o(9, 2), o(9, 3)], False, 1, 0., False, False, False)
t.lstm_cell(o(1, 2), (o(1, 3),), o(12, 2), o(12, 3))
t.lstm_cell(o(1, 2), o(1, 3), o(12, 2), o(12, 3))
t.lstm_cell(o(2), (o(3), o(3)), o(12, 2), o(12, 3))
t.gru_cell(o(1, 2), o(1, 3), o(9, 2), o(12, 3))
t.rnn_tanh_cell(o(1, 2), o(1, 3), o(3, 4), o(3, 3))
t.rnn_tanh_cell(o(2), o(3), o(3, 2), o(3, 3))
t.rnn_tanh_cell(o(1, 2), None, o(3, 2), o(3, 3))
t.rnn_relu_cell(o(4, 2), o(1, 3), o(3, 2), o(3, 3))
t.rnn_relu_cell(o(1, 2), o(1, 4), o(3, 2), o(3, 3))
R.pack_padded_sequence(o(3, 2), [1, 3])
R.pack_padded_sequence(o(3, 2), [1])
R.pack_padded_sequence(o(3, 2), [3, 0])
R.pack_padded_sequence(o(3, 0), [])
R.pack_padded_sequence(o(3, 2), o(1, 2))
R.pack_padded_sequence(o(3), [1])
R.pad_packed_sequence(R.pack_sequence([o(3)]), total_length=2)
t._pad_packed_sequence(o(3), t.tensor([1, 1, 1]), False, 0., 2)
R.pad_sequence([])
R.pad_sequence(3)
R.pad_sequence([1])
R.pad_sequence([o(2)], padding_side='x')
R.pack_sequence([o(1), o(2)])
R.pack_sequence([])
R.unpad_sequence(o(3, 2), t.tensor([1]), True)
R.PackedSequence(o(2))
""".strip().splitlines())
def test_errors(code: str) -> None:
    same_error(code)
