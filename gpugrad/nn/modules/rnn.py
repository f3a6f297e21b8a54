"""Recurrent layers: RNN, LSTM and GRU over sequences, and RNNCell, LSTMCell, GRUCell, one step."""
from __future__ import annotations

import math
import numbers
import warnings
import weakref
from typing import TYPE_CHECKING, Any

from gpugrad._state import state
from gpugrad._tensor import Tensor
from gpugrad.creation import empty, zeros
from gpugrad.functions import recurrent
from gpugrad.nn import init
from gpugrad.nn.modules.module import Module
from gpugrad.nn.parameter import Parameter
from gpugrad.nn.utils.rnn import PackedSequence

if TYPE_CHECKING:
    from typing_extensions import Self

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
_KINDS = {"LSTM": recurrent.LSTM, "GRU": recurrent.GRU, "RNN_TANH": recurrent.RNN_TANH,
          "RNN_RELU": recurrent.RNN_RELU}


def apply_permutation(tensor: Tensor, permutation: Tensor, dim: int = 1) -> Tensor:
    """tensor.index_select(dim, permutation)"""
    warnings.warn("`apply_permutation` is deprecated, please use `tensor.index_select(dim, "
                  "permutation)` instead", FutureWarning, stacklevel=2)
    return tensor.index_select(dim, permutation)


class RNNBase(Module):
    """What RNN, LSTM and GRU have in common: the parameters, and how inputs are checked.

    Of each layer and direction there are weight_ih_l<k>, weight_hh_l<k>, bias_ih_l<k> and
    bias_hh_l<k>, and with proj_size weight_hr_l<k>; those of the second direction end in _reverse.
    """

    __constants__ = ["mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first",
                     "dropout", "bidirectional", "proj_size"]

    def __init__(self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1,
                 bias: bool = True, batch_first: bool = False, dropout: float = 0.0,
                 bidirectional: bool = False, proj_size: int = 0, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__()
        self.mode, self.input_size, self.hidden_size = mode, input_size, hidden_size
        self.num_layers, self.bias, self.batch_first = num_layers, bias, batch_first
        self.dropout, self.bidirectional, self.proj_size = float(dropout), bidirectional, proj_size
        self._flat_weight_refs: list[Any] = []
        self._check_arguments(dropout)
        self._flat_weights_names: list[str] = []
        self._all_weights: list[list[str]] = []
        self._flat_weights: list[Any] = []
        self._make_parameters(device, dtype)
        self._init_flat_weights()
        self.reset_parameters()

    def _check_arguments(self, dropout: Any) -> None:
        if not isinstance(dropout, numbers.Number) or isinstance(dropout, bool) \
                or not 0 <= dropout <= 1:                       # type: ignore[operator]
            raise ValueError("dropout should be a number in range [0, 1] representing the "
                             "probability of an element being zeroed")
        if self.dropout > 0 and self.num_layers == 1:
            warnings.warn("dropout option adds dropout after all but last recurrent layer, so "
                          "non-zero dropout expects num_layers greater than 1, but got "
                          f"dropout={dropout} and num_layers={self.num_layers}", stacklevel=4)
        for name, kind in (("bias", bool), ("batch_first", bool), ("input_size", int),
                           ("hidden_size", int)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(f"{name} should be of type {kind.__name__}, got: "
                                f"{type(value).__name__}")
            if kind is int and value <= 0:
                raise ValueError(f"{name} must be greater than zero")
        if self.num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if self.proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable "
                             "projections")
        if self.proj_size >= self.hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        if self.mode not in _GATES:
            raise ValueError("Unrecognized RNN mode: " + self.mode)

    def _make_parameters(self, device: Any, dtype: Any) -> None:
        rows, width = _GATES[self.mode] * self.hidden_size, self.proj_size or self.hidden_size
        directions = 2 if self.bidirectional else 1
        for layer in range(self.num_layers):
            for direction in range(directions):
                columns = self.input_size if layer == 0 else width * directions
                shapes: dict[str, tuple[int, ...]] = {
                    "weight_ih": (rows, columns), "weight_hh": (rows, width)}
                if self.bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if self.proj_size:
                    shapes["weight_hr"] = self.proj_size, self.hidden_size
                ending = f"_l{layer}_reverse" if direction else f"_l{layer}"
                names = [name + ending for name in shapes]
                for name, shape in zip(names, shapes.values()):
                    self.register_parameter(name, Parameter(empty(shape, device=device,
                                                                  dtype=dtype)))
                self._flat_weights_names += names
                self._all_weights.append(names)

    # The parameters as one list, which what is assigned to the module takes its place in ----------

    def _init_flat_weights(self) -> None:
        self._flat_weights = [getattr(self, name, None) for name in self._flat_weights_names]
        self._flat_weight_refs = [None if w is None else weakref.ref(w)
                                  for w in self._flat_weights]
        self.flatten_parameters()

    def __setattr__(self, name: str, value: Any) -> None:
        names = self.__dict__.get("_flat_weights_names", ())
        if name in names and self._flat_weights:
            self._flat_weights[names.index(name)] = value
        super().__setattr__(name, value)

    def flatten_parameters(self) -> None:
        """Does nothing: weights are used where they lie. (cuDNN wants them in one piece.)"""

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._flat_weight_refs = []
        super()._apply(fn, recurse)
        self._init_flat_weights()
        return self

    def _weights_have_changed(self) -> bool:
        """Have parameters been replaced, as torch.func.functional_call does?"""
        return any([ref is not None and weight is not None and ref() is not weight
                    for ref, weight in zip(self._flat_weight_refs, [
                        getattr(self, name, None) for name in self._flat_weights_names])])

    def _update_flat_weights(self) -> None:
        if self._weights_have_changed():
            self._init_flat_weights()

    def __getstate__(self) -> dict[str, Any]:
        self._update_flat_weights()
        found = self.__dict__.copy()
        del found["_flat_weight_refs"]
        return found

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("proj_size", 0)
        self._flat_weight_refs = [None if w is None else weakref.ref(w)
                                  for w in self._flat_weights]

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def reset_parameters(self) -> None:
        """Draw all parameters evenly from +-1 / sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    # Checks --------------------------------------------------------------------------------------

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        own = self._flat_weights[0].dtype
        if input.dtype is not own and state.casting is None:
            raise ValueError(f"RNN input dtype ({input.dtype}) does not match weight dtype "
                             f"({own}). Convert input: input.to({own}), or convert model: "
                             f"model.to({input.dtype})")
        dims = 3 if batch_sizes is None else 2
        if input.dim() != dims:
            raise RuntimeError(f"input must have {dims} dimensions, got {input.dim()}")
        if self.input_size != input.size(-1):
            raise RuntimeError("input.size(-1) must be equal to input_size. Expected "
                               f"{self.input_size}, got {input.size(-1)}")

    def _expected_size(self, input: Tensor, batch_sizes: Tensor | None,
                       width: int) -> tuple[int, int, int]:
        batch = int(batch_sizes[0]) if batch_sizes is not None else \
            input.size(0 if self.batch_first else 1)
        return self.num_layers * (2 if self.bidirectional else 1), batch, width

    def get_expected_hidden_size(self, input: Tensor,
                                 batch_sizes: Tensor | None) -> tuple[int, int, int]:
        return self._expected_size(input, batch_sizes, self.proj_size or self.hidden_size)

    def check_hidden_size(self, hx: Tensor, expected_hidden_size: tuple[int, int, int],
                          msg: str = "Expected hidden size {}, got {}") -> None:
        if hx.size() != expected_hidden_size:
            raise RuntimeError(msg.format(expected_hidden_size, list(hx.size())))

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Tensor | None) -> None:
        self.check_input(input, batch_sizes)
        self.check_hidden_size(hidden, self.get_expected_hidden_size(input, batch_sizes))

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """The states of sequences in another order."""
        return hx if permutation is None else hx.index_select(1, permutation)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, usual in (("proj_size", 0), ("num_layers", 1), ("bias", True),
                            ("batch_first", False), ("dropout", 0), ("bidirectional", False)):
            value = getattr(self, name)
            if value != usual:
                text += f", {name}={value}"
        return text

    # What the layers' forward is -----------------------------------------------------------------

    def _states(self, hx: Any) -> tuple[Tensor, ...] | None:
        """The first states as a tuple."""
        return None if hx is None else (hx,)

    def _checked(self, input: Tensor, hx: Any, batch_sizes: Tensor | None) -> None:
        if hx is None:
            self.check_input(input, batch_sizes)
        else:
            self.check_forward_args(input, hx, batch_sizes)

    def _run(self, input: Any, hx: Any) -> tuple[Any, tuple[Tensor, ...]]:
        """The output for Tensors or a PackedSequence, and a tuple of the last states."""
        self._update_flat_weights()
        kind, rest = _KINDS[self.mode], (self._flat_weights, self.bias, self.num_layers,
                                         self.dropout, self.training, self.bidirectional)
        if isinstance(input, PackedSequence):
            data, batch_sizes, order, back = input
            hx = hx if hx is None else self.permute_hidden(hx, order)
            self._checked(data, hx, batch_sizes)
            out, last = recurrent.packed(kind, data, batch_sizes, self._states(hx), *rest)
            if back is not None:
                last = tuple([h.index_select(1, back) for h in last])
            return PackedSequence(out, batch_sizes, order, back), last
        if input.dim() not in (2, 3):
            what = "tensor instead" if self.mode.startswith("RNN") else "instead"
            raise ValueError(f"{self.mode.partition('_')[0]}: Expected input to be 2D or 3D, got "
                             f"{input.dim()}D {what}")
        batched, dim = input.dim() == 3, 0 if self.batch_first else 1
        if hx is not None:
            hx = self._batched_states(hx, batched)
        if not batched:
            input = input.unsqueeze(dim)
        self._checked(input, hx, None)
        out, last = recurrent.padded(kind, input, self._states(hx), *rest, self.batch_first)
        if not batched:
            out, last = out.squeeze(dim), tuple([h.squeeze(1) for h in last])
        return out, last

    def _batched_states(self, hx: Any, batched: bool) -> Any:
        """hx, with a batch of one if there is no batch."""
        dims = 3 if batched else 2
        if hx.dim() != dims:
            raise RuntimeError(f"For {'' if batched else 'un'}batched {dims}-D input, hx should "
                               f"also be {dims}-D but got {hx.dim()}-D tensor")
        return hx if batched else hx.unsqueeze(1)


_NO_PROJECTION = "proj_size argument is only supported for LSTM, not RNN or GRU"


class RNN(RNNBase):
    """Elman's layers: h' = tanh(weight_ih @ x + bias_ih + weight_hh @ h + bias_hh), or relu.

    Arguments: input_size, hidden_size, num_layers=1, nonlinearity="tanh" or "relu", bias=True,
    batch_first=False, dropout=0.0 (between layers), bidirectional=False, device, dtype. Input is
    (T, B, input_size), (B, T, input_size) if batch_first, (T, input_size) or a PackedSequence; hx
    (layers * directions, B, hidden_size), zeros by default. Returns the last layer's states of all
    steps, and all layers' last states.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError(_NO_PROJECTION)
        if len(args) > 3:
            nonlinearity, args = args[3], args[:3] + args[4:]
        else:
            nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or "
                             "'relu'.")
        super().__init__(f"RNN_{nonlinearity.upper()}", *args, **kwargs)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        out, (h,) = self._run(input, hx)
        return out, h


class LSTM(RNNBase):
    """Long short-term memory: gates i, f, g, o of weight_ih @ x + weight_hh @ h and the biases,
    c' = f * c + i * g, h' = o * tanh(c').

    Arguments: input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0
    (between layers), bidirectional=False, proj_size=0 (h' becomes weight_hr @ h', of this size),
    device, dtype. Input is as RNN's; hx is a pair, h and c. Returns the last layer's h of all
    steps, and all layers' last h and c.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def get_expected_cell_size(self, input: Tensor,
                               batch_sizes: Tensor | None) -> tuple[int, int, int]:
        return self._expected_size(input, batch_sizes, self.hidden_size)

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Tensor | None) -> None:
        self.check_input(input, batch_sizes)
        self.check_hidden_size(hidden[0], self.get_expected_hidden_size(input, batch_sizes),
                               "Expected hidden[0] size {}, got {}")
        self.check_hidden_size(hidden[1], self.get_expected_cell_size(input, batch_sizes),
                               "Expected hidden[1] size {}, got {}")

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """The states of sequences in another order."""
        return hx if permutation is None else tuple([h.index_select(1, permutation)
                                                     for h in hx[:2]])

    def _states(self, hx: Any) -> tuple[Tensor, ...] | None:
        return None if hx is None else tuple(hx)

    def _batched_states(self, hx: Any, batched: bool) -> Any:
        dims = 3 if batched else 2
        if hx[0].dim() != dims or hx[1].dim() != dims:
            raise RuntimeError(f"For {'' if batched else 'un'}batched {dims}-D input, hx and cx "
                               f"should also be {dims}-D but got ({hx[0].dim()}-D, "
                               f"{hx[1].dim()}-D) tensors")
        return hx if batched else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))

    def forward(self, input: Any,
                hx: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        out, (h, c) = self._run(input, hx)
        return out, (h, c)


class GRU(RNNBase):
    """Gated recurrent units: r and z are sigmoids of weight_ih @ x + weight_hh @ h and the biases,
    n = tanh(W_in x + b_in + r * (W_hn h + b_hn)), h' = (1 - z) * n + z * h.

    Arguments: input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0
    (between layers), bidirectional=False, device, dtype. Input, hx and results are as RNN's.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if "proj_size" in kwargs:
            raise ValueError(_NO_PROJECTION)
        super().__init__("GRU", *args, **kwargs)

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        out, (h,) = self._run(input, hx)
        return out, h


# Cells -------------------------------------------------------------------------------------------

class RNNCellBase(Module):
    """What the cells have in common: weight_ih, weight_hh, bias_ih, bias_hh."""

    __constants__ = ["input_size", "hidden_size", "bias"]

    def __init__(self, input_size: int, hidden_size: int, bias: bool, num_chunks: int,
                 device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = num_chunks * hidden_size
        for name, shape in (("weight_ih", (rows, input_size)), ("weight_hh", (rows, hidden_size)),
                            ("bias_ih", (rows,)), ("bias_hh", (rows,))):
            self.register_parameter(name, Parameter(empty(shape, device=device, dtype=dtype))
                                    if bias or name.startswith("weight") else None)
        self.reset_parameters()

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        for name, usual in (("bias", True), ("nonlinearity", "tanh")):
            value = self.__dict__.get(name, usual)
            if value != usual:
                text += f", {name}={value}"
        return text

    def reset_parameters(self) -> None:
        """Draw all parameters evenly from +-1 / sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _check(self, what: str, x: Tensor) -> None:
        if x.dim() not in (1, 2):
            raise ValueError(f"{type(self).__name__}: Expected {what} to be 1D or 2D, got "
                             f"{x.dim()}D instead")

    def _step(self, function: Any, input: Tensor, states: Any) -> tuple[Tensor, ...]:
        """The new states; ``function`` takes batches, and the states as a tuple, zeros for None."""
        batched = input.dim() == 2
        if not batched:
            input = input.unsqueeze(0)
            states = [h if h is None else h.unsqueeze(0) for h in states]
        zero = zeros((input.size(0), self.hidden_size), dtype=input.dtype, device=input.device) \
            if states[0] is None else None
        found = function(input, tuple([zero if h is None else h for h in states]), self.weight_ih,
                         self.weight_hh, self.bias_ih, self.bias_hh)
        return found if batched else tuple([h.squeeze(0) for h in found])


class RNNCell(RNNCellBase):
    """One step of RNN: input (B, input_size) or (input_size), hx alike, to the new state."""

    __constants__ = ["input_size", "hidden_size", "bias", "nonlinearity"]

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True,
                 nonlinearity: str = "tanh", device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        self._check("input", input)
        if hx is not None:
            self._check("hidden", hx)
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        cell = recurrent.rnn_relu_cell if self.nonlinearity == "relu" else recurrent.rnn_tanh_cell
        return self._step(lambda x, hx, *weights: (cell(x, hx[0], *weights),), input, (hx,))[0]


class LSTMCell(RNNCellBase):
    """One step of LSTM: input (B, input_size) or (input_size), and hx, a pair h and c alike."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor,
                hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        self._check("input", input)
        for i, h in enumerate(() if hx is None else hx):
            self._check(f"hx[{i}]", h)
        h, c = self._step(recurrent.lstm_cell, input, (None, None) if hx is None else hx)
        return h, c


class GRUCell(RNNCellBase):
    """One step of GRU: input (B, input_size) or (input_size), hx alike, to the new state."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None,
                 dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        self._check("input", input)
        if hx is not None:
            self._check("hidden", hx)
        return self._step(lambda x, hx, *weights: (recurrent.gru_cell(x, hx[0], *weights),),
                          input, (hx,))[0]
