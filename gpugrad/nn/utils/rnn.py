"""Sequences of several lengths in one batch: padded, packed, and the way from one to the other."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from gpugrad import dtypes
from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.creation import arange, empty_like, tensor
from gpugrad.functions.arguments import cast
from gpugrad.functions.conversion import parse_to
from gpugrad.functions.recurrent import _pack_padded_sequence, _pad_packed_sequence
from gpugrad.functions.sorting import sort

__all__ = ["PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence",
           "pad_packed_sequence", "pad_sequence", "unpack_sequence", "unpad_sequence"]


class PackedSequence_(NamedTuple):
    """The fields of a PackedSequence."""

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(PackedSequence_):
    """A batch of sequences without padding: what pack_padded_sequence and pack_sequence make.

    data: the elements, (sum of lengths, ...), all first ones, then all second ones... batch_sizes:
    how many sequences have each step, int64, always on the CPU. sorted_indices: where each of the
    sequences, the longest first, was in the batch; unsorted_indices: its inverse; both None if they
    came so.
    """

    def __new__(cls, data: Any, batch_sizes: Tensor | None = None,
                sorted_indices: Tensor | None = None,
                unsorted_indices: Tensor | None = None) -> PackedSequence:
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        if batch_sizes is None:
            if not (isinstance(data, list | tuple) and len(data) == 2):
                raise AssertionError("Expected data to be a list or tuple of length 2")
            data, batch_sizes = data
        elif batch_sizes.device.type != "cpu":
            raise ValueError("batch_sizes should always be on CPU. Instances of PackedSequence "
                             "should never be created manually. They should be instantiated by "
                             "functions like pack_sequence and pack_padded_sequences in "
                             "nn.utils.rnn. https://pytorch.org/docs/stable/nn.html#torch.nn.utils"
                             ".rnn.pack_sequence")
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def _with(self, change: Any, data: Tensor) -> PackedSequence:
        """The same with other data, and indices changed to go along."""
        return type(self)(data, self.batch_sizes, *[
            None if t is None else change(t)
            for t in (self.sorted_indices, self.unsorted_indices)])

    def pin_memory(self) -> PackedSequence:
        return self._with(lambda t: t.pin_memory(), self.data.pin_memory())

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Tensor.to of the data, with the indices on its device; itself if nothing changes."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        non_blocking = parse_to(*args, **kwargs)[2]
        return self._with(lambda t: t.to(data.device, non_blocking=non_blocking), data)

    def _on(self, device: str, args: Any, kwargs: Any) -> PackedSequence:
        if tensor((), dtype=self.data.dtype,
                  device=self.data.device).to(*args, **kwargs).device.type != device:
            kwargs["device"] = device
        return self.to(*args, **kwargs)

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        return self._on("cuda", args, kwargs)

    def cpu(self, *args: Any, **kwargs: Any) -> PackedSequence:
        return self._on("cpu", args, kwargs)

    def double(self) -> PackedSequence:
        return self.to(dtype=dtypes.float64)

    def float(self) -> PackedSequence:
        return self.to(dtype=dtypes.float32)

    def half(self) -> PackedSequence:
        return self.to(dtype=dtypes.float16)

    def long(self) -> PackedSequence:
        return self.to(dtype=dtypes.int64)

    def int(self) -> PackedSequence:
        return self.to(dtype=dtypes.int32)

    def short(self) -> PackedSequence:
        return self.to(dtype=dtypes.int16)

    def char(self) -> PackedSequence:
        return self.to(dtype=dtypes.int8)

    def byte(self) -> PackedSequence:
        return self.to(dtype=dtypes.uint8)

    @property
    def is_cuda(self) -> bool:
        return bool(self.data.is_cuda)

    def is_pinned(self) -> bool:
        return bool(self.data.is_pinned())


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes one, a 1-D tensor of indices; None for None."""
    if permutation is None:
        return None
    out: Tensor = empty_like(permutation)
    return out.scatter_(0, permutation, arange(0, permutation.numel(), device=permutation.device))


def pack_padded_sequence(input: Tensor, lengths: Any, batch_first: bool = False,
                         enforce_sorted: bool = True) -> PackedSequence:
    """Padded sequences (T, B, ...), or (B, T, ...) if batch_first, packed.

    lengths: of each, a list or a tensor on the CPU; longest first, unless enforce_sorted is False:
    then the sequences are sorted, and the result knows their order.
    """
    if isinstance(lengths, Tensor):
        lengths = lengths.to(dtype=dtypes.int64)
    else:
        lengths = tensor(lengths, dtype=dtypes.int64, device="cpu")
    order = None
    if not enforce_sorted:
        lengths, order = sort(lengths, descending=True)
        order = order.to(input.device)
        input = input.index_select(0 if batch_first else 1, order)
    data, batch_sizes = _pack_padded_sequence(input, lengths, batch_first)
    return PackedSequence(data, batch_sizes, order, None)


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False,
                        padding_value: float = 0.0,
                        total_length: int | None = None) -> tuple[Tensor, Tensor]:
    """A PackedSequence as padded sequences (T, B, ...), or (B, T, ...), and their lengths.

    In the order that they had before they were packed. total_length: how many steps the result has,
    by default as many as the longest sequence.
    """
    length = sequence.batch_sizes.size(0)
    if total_length is not None:
        if total_length < length:
            raise ValueError("Expected total_length to be at least the length of the longest "
                             f"sequence in input, but got total_length={total_length} and max "
                             f"sequence length being {length}")
        length = total_length
    padded, lengths = _pad_packed_sequence(sequence.data, sequence.batch_sizes, batch_first,
                                           padding_value, length)
    order = sequence.unsorted_indices
    if order is None:
        return padded, lengths
    return padded.index_select(0 if batch_first else 1, order), lengths[order.cpu()]


def pad_sequence(sequences: Any, batch_first: bool = False, padding_value: float = 0.0,
                 padding_side: str = "right") -> Tensor:
    """Sequences (length, ...) as one tensor (T, B, ...), or (B, T, ...) if batch_first.

    The shorter ones are filled up with padding_value on the "right" or the "left". All become of
    the first one's dtype.
    """
    if not isinstance(sequences, Iterable):
        raise RuntimeError("pad_sequence: Expected iterable for input sequences, but got arg of "
                           f"type: {type(sequences)}")
    tensors = list(sequences)
    if not tensors:
        raise RuntimeError("received an empty list of sequences")
    for i, t in enumerate(tensors):
        if not isinstance(t, Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got "
                            f"{type(t).__name__}")
    if padding_side not in ("left", "right"):
        raise RuntimeError("Expected padding_side to be one of left or right, but got "
                           f"{padding_side}.")
    rest = tensors[0].shape[1:]
    for t in tensors:
        if not t.ndim or t.shape[1:] != rest:
            raise RuntimeError("pad_sequence: all sequences must have the shape (length, "
                               f"{str(list(rest))[1:-1]}) of the first one but for their length, "
                               f"but got {[list(t.shape) for t in tensors]}")
    dtype, length = tensors[0]._a.dtype, max(t.shape[0] for t in tensors)
    out: Tensor = T.pad_sequences(*[cast(t, dtype) for t in tensors], length=length,
                                  value=padding_value, left=padding_side == "left",
                                  batch_first=batch_first)
    return out


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor,
                   batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded tensor (T, B, ...), or (B, T, ...), each of its own length."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [T.clone(sequence[:max(0, n)])
            for sequence, n in zip(padded_sequences, lengths.tolist(), strict=True)]


def pack_sequence(sequences: Any, enforce_sorted: bool = True) -> PackedSequence:
    """Sequences (length, ...) packed; longest first, unless enforce_sorted is False."""
    lengths = tensor([v.size(0) for v in sequences])
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a PackedSequence, in the order that they had before they were packed."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
