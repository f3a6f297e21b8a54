"""RNN, LSTM, GRU, their cells, and nn.utils.rnn: goldens of PyTorch, formulas, packing, errors."""
from __future__ import annotations

import copy
import pickle
import re
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn as nn
from gpugrad.autograd import gradcheck
from gpugrad.autograd.rules import tensors as T
from gpugrad.nn.utils import rnn as R

KINDS = ("RNN", "LSTM", "GRU")


def net(kind: str, *sizes: Any, seed: int = 0, **kw: Any) -> Any:
    torch.manual_seed(seed)
    return getattr(nn, kind)(*sizes, **kw)


def close(t: Any, a: Any, until: float = 1e-5) -> None:
    got = t.detach().cpu().double().numpy()
    np.testing.assert_allclose(got.reshape(np.shape(a)), a, rtol=until, atol=until)


def states_of(last: Any) -> list[Any]:
    return list(last) if isinstance(last, tuple) else [last]


# Goldens: two layers, two directions, dropout between them ---------------------------------------

GOLDENS = {
    "RNN": ([-0.313598, -0.025514],
            [0.157752, 0.930125, -0.54856, 0.795255, 0.559203, 0.487163, 0.539477, -0.009065,
             -0.903263, 0.822991, -0.398632, 0.208374, -0.984921, 0.950552, 0.054141, 0.107723],
            [0.668463, 0.477614], [0.505668, 1.563151]),
    "LSTM": ([-0.498778, 0.031537],
             [0.036017, -0.1007, 0.00632, 0.172184, 0.025425, -0.106072, 0.057243, 0.142931,
              0.042476, -0.145475, 0.008652, 0.107157, 0.041537, -0.156841, 0.049133, 0.098662],
             [-0.000715, -0.000465], [0.006088, 0.002643]),
    "GRU": ([-0.635209, -0.335223],
            [-0.120299, 0.042285, -0.194922, -0.259634, -0.072757, 0.199125, -0.17377, -0.434737,
             0.033506, 0.186958, -0.090054, -0.265709, 0.017887, 0.354796, -0.065564, -0.502626],
            [-0.004182, -0.003027], [0.162287, 0.006508])}


@pytest.mark.parametrize("kind", KINDS)
def test_goldens(kind: str) -> None:
    weights, outputs, g_weight, g_bias = GOLDENS[kind]
    m = net(kind, 2, 2, 2, dropout=0.5, bidirectional=True)
    close(m.weight_hh_l1_reverse[0], weights)
    torch.manual_seed(1)
    out, _ = m(torch.linspace(-1, 1, 8).reshape(2, 2, 2))
    close(out, np.reshape(outputs, (2, 2, 4)))
    out.square().sum().backward()
    close(m.weight_ih_l0.grad[0], g_weight)
    close(m.bias_hh_l0_reverse.grad[:2], g_bias)


def test_goldens_of_a_projection() -> None:
    m = net("LSTM", 2, 3, proj_size=1)
    out, (h, c) = m(torch.linspace(-1, 1, 8).reshape(2, 2, 2))
    close(out, [0.0621, 0.026008, 0.000664, -0.078458])
    close(c, [0.281724, -0.648366, -0.289189, 0.0528, -0.590034, 0.012299])
    assert h.shape == (1, 2, 1) and c.shape == (1, 2, 3)


def test_goldens_of_cells() -> None:
    x = torch.tensor([[1.0, -1.0]])
    close(net("RNNCell", 2, 2)(x), [-0.579072, -0.013476])
    close(torch.cat(net("LSTMCell", 2, 2)(x)), [-0.158475, 0.032563, -0.254882, 0.053594])
    close(net("GRUCell", 2, 2)(x), [-0.39387, -0.491127])


# Agreement of the forms --------------------------------------------------------------------------

@pytest.fixture
def x(device: str) -> Any:
    return torch.tensor(np.random.default_rng(0).standard_normal((4, 3, 2)), dtype=torch.float32,
                        device=device)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_its_cell_step_by_step(kind: str, x: Any) -> None:
    m, cell = net(kind, 2, 3).to(x.device), net(kind + "Cell", 2, 3).to(x.device)
    for a, b in zip(cell.parameters(), m.parameters()):
        a.data.copy_(b.data)
    out, last = m(x)
    h: Any = None
    for t in range(4):
        h = cell(x[t], h)
        close(out[t], states_of(h)[0].tolist())
    for a, b in zip(states_of(last), states_of(h)):
        close(a[0], b.tolist())


@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences_are_the_sequences_one_by_one(kind: str, x: Any) -> None:
    m = net(kind, 2, 3, 2, bidirectional=True).to(x.device)
    lengths, leaf = [2, 4, 1], x.clone().requires_grad_()
    first = [torch.randn(4, 3, 3).to(x.device) for _ in range(2 if kind == "LSTM" else 1)]
    given = tuple(first) if kind == "LSTM" else first[0]
    packed = R.pack_padded_sequence(leaf, lengths, enforce_sorted=False)
    assert packed.batch_sizes.tolist() == [3, 2, 1, 1]
    out, last = m(packed, given)
    assert isinstance(out, R.PackedSequence) and out.batch_sizes is packed.batch_sizes
    padded, found = R.pad_packed_sequence(out)
    assert found.tolist() == lengths
    padded.square().sum().backward()
    got, grads = leaf.grad.clone(), [p.grad.clone() for p in m.parameters()]
    m.zero_grad()
    leaf.grad = None
    for i, n in enumerate(lengths):
        own = [h[:, i].contiguous() for h in first]
        alone, states = m(leaf[:n, i], tuple(own) if kind == "LSTM" else own[0])
        close(padded[:n, i], alone.tolist())
        assert not padded[n:, i].any()
        for a, b in zip(states_of(last), states_of(states)):
            close(a[:, i], b.tolist())
        alone.square().sum().backward()
    close(got, leaf.grad.tolist())
    for g, p in zip(grads, m.parameters()):
        close(g, p.grad.tolist(), 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_and_no_states_are_the_same(kind: str, x: Any) -> None:
    m = net(kind, 2, 3, batch_first=True, bias=False).to(x.device)
    zeros = torch.zeros(1, 4, 3, device=x.device)
    a = m(x, (zeros, zeros) if kind == "LSTM" else zeros)[0]
    b = m(x)[0]
    np.testing.assert_array_equal(a.detach().cpu().numpy(), b.detach().cpu().numpy())
    ga, gb = (torch.autograd.grad(t.square().sum(), list(m.parameters())) for t in (a, b))
    for u, v in zip(ga, gb):
        close(u, v.tolist())


def test_a_relu_layer(x: Any) -> None:
    m = net("RNN", 2, 3, nonlinearity="relu").to(x.device)
    h, w = np.zeros((3, 3)), [p.detach().cpu().numpy() for p in m.parameters()]
    out = m(x)[0]
    for t in range(4):
        h = np.maximum(x[t].cpu().numpy() @ w[0].T + w[2] + h @ w[1].T + w[3], 0)
        close(out[t], h)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits(kind: str, dtype: str, x: Any) -> None:
    m = net(kind, 2, 3).to(x.device)
    want = m(x)[0].detach().cpu().numpy()
    half = copy.deepcopy(m).to(getattr(torch, dtype))
    inputs = x.to(getattr(torch, dtype)).requires_grad_()
    out, last = half(inputs)
    assert out.dtype is getattr(torch, dtype) and states_of(last)[0].dtype is out.dtype
    close(out, want, 4e-2 if dtype == "bfloat16" else 5e-3)
    out.sum().backward()
    assert {p.grad.dtype for p in (inputs, *half.parameters())} == {out.dtype}


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch(kind: str, device: str) -> None:
    m = net(kind, 2, 3, 2, bidirectional=True).to(device)
    out, last = m(torch.zeros(4, 0, 2, device=device, requires_grad=True))
    assert out.shape == (4, 0, 6) and states_of(last)[0].shape == (4, 0, 3)
    out.sum().backward()
    assert all(not p.grad.any() for p in m.parameters())


# Gradients ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", KINDS)
def test_the_third_derivative(kind: str) -> None:
    """The second derivative of a layer's backward op, which the records leave out."""
    gates = {"RNN": 1, "LSTM": 4, "GRU": 3}[kind]
    rng = np.random.default_rng(0)
    x, w_ih, w_hh, h = (torch.tensor(rng.standard_normal(s)).requires_grad_()
                        for s in ((2, 1), (gates, 1), (gates, 1), (1, 1)))

    @torch.enable_grad()
    def second(w: Any, h: Any) -> Any:
        firsts = (h, None) if kind == "LSTM" else (h,)
        out = getattr(T, kind.lower() + "_layer")(x, w_ih, w, None, None, *firsts,
                                                  sizes=(1, 1))[0]
        (g,) = torch.autograd.grad(out.sin().sum(), w, create_graph=True)
        return torch.autograd.grad(g.square().sum(), (w, h), create_graph=True)
    assert gradcheck(second, (w_hh, h))


def test_only_gradients_that_are_asked_for_are_made() -> None:
    m, x = net("LSTM", 2, 3), torch.randn(4, 3, 2)
    for p in m.parameters():
        p.requires_grad_(False)
    assert not m(x)[0].requires_grad
    m.bias_hh_l0.requires_grad_()
    out = m(x)[0]
    assert [e is None for e in out.grad_fn.next_functions[0][0].edges] == [True] * 4 + [False] + \
        [True] * 2
    out.sum().backward()
    assert m.bias_hh_l0.grad is not None and m.weight_ih_l0.grad is None


def test_without_gradients_nothing_is_kept() -> None:
    m = net("GRU", 2, 3)
    with torch.no_grad():
        out, h = m(torch.randn(4, 3, 2))
    assert out.grad_fn is None and h.grad_fn is None


def test_the_output_and_the_last_state_have_their_own_memory(x: Any) -> None:
    m = net("GRU", 2, 3).to(x.device)
    out, h = m(x)
    want = h.tolist()
    with torch.no_grad():
        out.zero_()
    assert h.tolist() == want


# Modules -----------------------------------------------------------------------------------------

def test_parameters_and_repr() -> None:
    m = net("LSTM", 3, 4, 2, bidirectional=True, proj_size=2, batch_first=True, dropout=0.25)
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr"]
    want = [f"{n}_l{k}{d}" for k in range(2) for d in ("", "_reverse") for n in names]
    assert list(m.state_dict()) == want == m._flat_weights_names
    assert m.weight_ih_l1.shape == (16, 4) and m.weight_hr_l0.shape == (2, 4)
    assert repr(m) == ("LSTM(3, 4, proj_size=2, num_layers=2, batch_first=True, dropout=0.25, "
                       "bidirectional=True)")
    own = [p for weights in m.all_weights for p in weights]
    assert [p is q for p, q in zip(own, m.parameters())] == [True] * 20
    assert repr(nn.GRU(2, 3, bias=False)) == "GRU(2, 3, bias=False)"
    assert repr(nn.RNNCell(2, 3, nonlinearity="relu")) == "RNNCell(2, 3, nonlinearity=relu)"
    assert repr(nn.LSTMCell(2, 3, False)) == "LSTMCell(2, 3, bias=False)"
    assert nn.RNN(2, 3, 1, "relu", False).mode == "RNN_RELU"
    assert not any(n.startswith("bias") for n in nn.RNN(2, 3, 1, "relu", False).state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_copies_pickles_and_replaced_weights(kind: str) -> None:
    m, x = net(kind, 2, 3), torch.randn(4, 1, 2)
    want = m(x)[0].tolist()
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m)), copy.deepcopy(m).double()):
        close(other(x.to(other.weight_ih_l0.dtype))[0], want)
        assert other._flat_weights[0] is other.weight_ih_l0
        other.weight_hh_l0 = nn.Parameter(torch.zeros_like(other.weight_hh_l0))
        assert other._flat_weights[1] is other.weight_hh_l0
        assert other(x.to(other.weight_ih_l0.dtype))[0].tolist() != want
    zeros = {name: torch.zeros_like(p) for name, p in m.named_parameters()}
    assert not torch.func.functional_call(m, zeros, (x,))[0].any()
    close(m(x)[0], want)
    m.flatten_parameters()


def test_a_replaced_part_of_the_state_dict_is_used() -> None:
    a, b, x = net("LSTM", 2, 3), net("LSTM", 2, 3, seed=5), torch.randn(4, 1, 2)
    b.load_state_dict(a.state_dict())
    assert a(x)[0].tolist() == b(x)[0].tolist()


@pytest.mark.parametrize("code, error, text", [
    ("nn.LSTM(2, 3, dropout=2)", ValueError, "dropout should be a number in range [0, 1] represen"),
    ("nn.LSTM(2, 3, dropout=True)", ValueError, "dropout should be a number"),
    ("nn.GRU(2, 3, bias=1)", TypeError, "bias should be of type bool, got: int"),
    ("nn.GRU(2, 3, batch_first=0)", TypeError, "batch_first should be of type bool, got: int"),
    ("nn.GRU(2., 3)", TypeError, "input_size should be of type int, got: float"),
    ("nn.GRU(2, 0)", ValueError, "hidden_size must be greater than zero"),
    ("nn.GRU(2, 3, 0)", ValueError, "num_layers must be greater than zero"),
    ("nn.LSTM(2, 3, proj_size=3)", ValueError, "proj_size has to be smaller than hidden_size"),
    ("nn.LSTM(2, 3, proj_size=-1)", ValueError, "proj_size should be a positive integer or zero"),
    ("nn.RNN(2, 3, proj_size=1)", ValueError, "proj_size argument is only supported for LSTM"),
    ("nn.GRU(2, 3, proj_size=1)", ValueError, "proj_size argument is only supported for LSTM"),
    ("nn.RNN(2, 3, nonlinearity='x')", ValueError, "Unknown nonlinearity 'x'. Select from 'tanh'"),
    ("nn.RNNBase('X', 2, 3)", ValueError, "Unrecognized RNN mode: X"),
    ("nn.RNN(2, 3)(o(2))", ValueError, "RNN: Expected input to be 2D or 3D, got 1D tensor instead"),
    ("nn.GRU(2, 3)(o(2))", ValueError, "GRU: Expected input to be 2D or 3D, got 1D instead"),
    ("nn.GRU(2, 3)(o(4, 1, 5))", RuntimeError, "input.size(-1) must be equal to input_size. Expe"),
    ("nn.GRU(2, 3)(o(4, 1, 2).double())", ValueError, "RNN input dtype (torch.float64) does not m"),
    ("nn.GRU(2, 3)(o(0, 1, 2))", RuntimeError, "Expected sequence length to be larger than 0 in"),
    ("nn.GRU(2, 3)(o(4, 2), o(1, 1, 3))", RuntimeError, "For unbatched 2-D input, hx should also"),
    ("nn.GRU(2, 3)(o(4, 1, 2), o(1, 3))", RuntimeError, "For batched 3-D input, hx should also be"),
    ("nn.GRU(2, 3)(o(4, 1, 2), o(1, 2, 3))", RuntimeError, "Expected hidden size (1, 1, 3), got ["),
    ("nn.LSTM(2, 3)(o(4, 1, 2), (o(1, 1, 3), o(1, 1, 4)))", RuntimeError,
     "Expected hidden[1] size (1, 1, 3), got [1, 1, 4]"),
    ("nn.LSTM(2, 3)(o(4, 1, 2), (o(1, 3), o(1, 3)))", RuntimeError,
     "For batched 3-D input, hx and cx should also be 3-D but got (2-D, 2-D) tensors"),
    ("nn.RNNCell(2, 3)(o(1, 1, 2))", ValueError, "RNNCell: Expected input to be 1D or 2D, got 3D"),
    ("nn.GRUCell(2, 3)(o(1, 2), o(1, 1, 3))", ValueError, "GRUCell: Expected hidden to be 1D or"),
    ("nn.LSTMCell(2, 3)(o(2), (o(3), o(1, 1, 3)))", ValueError, "LSTMCell: Expected hx[1] to be "),
    ("nn.RNNCell(2, 3, nonlinearity='x')(o(2))", RuntimeError, "Unknown nonlinearity: x"),
    ("nn.GRUCell(2, 3)(o(1, 5))", RuntimeError, "input has inconsistent input_size: got 5 expect"),
    ("nn.GRUCell(2, 3)(o(1, 2), o(2, 3))", RuntimeError, "Input batch size 1 doesn't match hidden"),
    ("torch.lstm_cell(o(1, 2), (o(1, 3),), o(12, 2), o(12, 3))", RuntimeError, "lstm_cell expects"),
    ("torch.lstm_cell(o(1, 2), o(1, 3), o(12, 2), o(12, 3))", TypeError, "argument 'hx' (position"),
    ("torch.gru_cell(o(1, 2), o(1, 3), o(12, 2), o(12, 3))", RuntimeError, "weight_ih first dim m"),
    ("torch.lstm(o(4, 1, 2), o(1, 1, 3), [], True, 1, 0., False, False, False)", TypeError,
     "lstm() received an invalid combination of arguments - got (Tensor, Tensor, list, bool, int"),
    ("torch.gru(o(4, 1, 2), o(1, 1, 3), [o(9, 2)], True, 1, 0., False, False, False)",
     RuntimeError, "gru(): expected 4 parameters for each of 1 layers and directions"),
    ("torch.gru(o(4, 1, 2), o(1, 1, 3), [o(9, 2), o(8, 3)], False, 1, 0., False, False, False)",
     RuntimeError, "mat1 and mat2 shapes cannot be multiplied"),
    ("torch.gru(o(4, 2), tensor([1, 2, 1]), o(1, 2, 3), [o(9, 2), o(9, 3)], False, 1, 0., False, "
     "False)", RuntimeError, "batch_sizes, which must be positive and not increase"),
])
def test_bad_arguments(code: str, error: Any, text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        eval(code, {"nn": nn, "torch": torch, "o": torch.ones, "tensor": torch.tensor})


def test_dropout_with_one_layer_warns() -> None:
    with pytest.warns(UserWarning, match="got dropout=0.5 and num_layers=1"):
        nn.GRU(2, 3, dropout=0.5)


# nn.utils.rnn ------------------------------------------------------------------------------------

def test_packing_and_back(device: str) -> None:
    a = [torch.arange(1, 1 + n, device=device) for n in (2, 4, 1)]
    packed = R.pack_sequence(a, enforce_sorted=False)
    assert packed.data.tolist() == [1, 1, 1, 2, 2, 3, 4]
    assert packed.batch_sizes.tolist() == [3, 2, 1, 1] and not packed.batch_sizes.is_cuda
    assert packed.sorted_indices.tolist() == [1, 0, 2] == packed.unsorted_indices.tolist()
    assert packed.sorted_indices.device == packed.data.device
    assert [t.tolist() for t in R.unpack_sequence(packed)] == [t.tolist() for t in a]
    padded, lengths = R.pad_packed_sequence(packed, True, -1, 5)
    assert padded.tolist() == [[1, 2, -1, -1, -1], [1, 2, 3, 4, -1], [1, -1, -1, -1, -1]]
    assert lengths.tolist() == [2, 4, 1]
    with pytest.raises(ValueError, match="total_length=3 and max sequence length being 4"):
        R.pad_packed_sequence(packed, total_length=3)


def test_pad_sequence(device: str) -> None:
    a = [torch.ones(2, 3, device=device), torch.zeros(1, 3, dtype=torch.int64, device=device)]
    assert R.pad_sequence(a).shape == (2, 2, 3) and R.pad_sequence(a).dtype is torch.float32
    left = R.pad_sequence(a, True, 7.0, padding_side="left")
    assert left[1].tolist() == [[7] * 3, [0] * 3]
    back = R.unpad_sequence(R.pad_sequence(a), torch.tensor([2, 1]))
    assert [t.shape for t in back] == [(2, 3), (1, 3)]
    assert R.pad_sequence(torch.ones(2, 3)).shape == (3, 2)
    x = torch.ones(2, 3, device=device, requires_grad=True)
    (R.pad_sequence([x, x[:1]]) * 2).sum().backward()
    assert x.grad.tolist() == [[4] * 3, [2] * 3]


def test_a_packed_sequence_as_a_tuple(device: str) -> None:
    packed = R.pack_padded_sequence(torch.ones(3, 2, device=device), [3, 1])
    data, batch_sizes, order, back = packed
    assert order is None and back is None and batch_sizes.tolist() == [2, 1, 1]
    assert packed.to(torch.float32) is packed and packed.double().data.dtype is torch.float64
    assert R.PackedSequence((data, batch_sizes)).data is data
    assert packed.is_cuda == (device == "cuda") and packed.cpu().data.device.type == "cpu"
    assert packed.is_pinned() is False and packed.int().data.dtype is torch.int32
    assert repr(R.pack_sequence([torch.tensor([4])])) == (
        "PackedSequence(data=tensor([4]), batch_sizes=tensor([1]), sorted_indices=None, "
        "unsorted_indices=None)")
    moved = R.pack_sequence([torch.ones(1), torch.ones(2)], False).to(device)
    assert moved.sorted_indices.device == moved.data.device and not moved.batch_sizes.is_cuda
    assert R.invert_permutation(torch.tensor([2, 0, 1])).tolist() == [1, 2, 0]
    assert R.invert_permutation(None) is None


@pytest.mark.parametrize("code, error, text", [
    ("R.pack_padded_sequence(o(3, 2), [1, 3])", RuntimeError, "`lengths` array must be sorted in"),
    ("R.pack_padded_sequence(o(3, 2), [1])", RuntimeError, "Expected `len(lengths)` to be equal t"),
    ("R.pack_padded_sequence(o(3, 2), [3, 0])", RuntimeError, "Length of all samples has to be gr"),
    ("R.pack_padded_sequence(o(3, 2), [4, 1])", RuntimeError, "a length of 4 is greater than the "),
    ("R.pack_padded_sequence(o(3, 0), [])", RuntimeError, "Cannot pack empty tensors."),
    ("R.pack_padded_sequence(o(3, 2), o(1, 2))", RuntimeError, "argument should be a 1D CPU int64"),
    ("R.pack_padded_sequence(o(3), [1])", IndexError, "Dimension out of range"),
    ("R.pad_sequence([])", RuntimeError, "received an empty list of sequences"),
    ("R.pad_sequence(3)", RuntimeError, "Expected iterable for input sequences, but got arg of ty"),
    ("R.pad_sequence([1])", TypeError, "expected Tensor as element 0 in argument 0, but got int"),
    ("R.pad_sequence([o(2)], padding_side='x')", RuntimeError, "padding_side to be one of left or"),
    ("R.pad_sequence([o(2, 3), o(2, 4)])", RuntimeError, "all sequences must have the shape"),
    ("R.unpad_sequence(o(3, 2), t([1]))", ValueError, "zip() argument 2 is shorter"),
    ("R.PackedSequence(o(2))", AssertionError, "Expected data to be a list or tuple of length 2"),
])
def test_bad_sequences(code: str, error: Any, text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        eval(code, {"R": R, "o": torch.ones, "t": torch.tensor})


def test_the_deprecated_name() -> None:
    from gpugrad.nn.modules.rnn import apply_permutation

    with pytest.warns(FutureWarning, match="apply_permutation"):
        assert apply_permutation(torch.tensor([[1, 2]]), torch.tensor([1, 0])).tolist() == [[2, 1]]
