"""DataLoader and collation."""
from __future__ import annotations

import collections
import sys
import types
import warnings

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    default_collate,
    default_convert,
    random_split,
)
from gpugrad.utils.data import fetching as module

Point = collections.namedtuple("Point", "x y")


def pairs(n=10):
    return TensorDataset(torch.arange(2.0 * n).reshape(n, 2), torch.arange(n))


class Count(IterableDataset):
    def __init__(self, n, length=None):
        self.n, self.length = n, length

    def __iter__(self):
        return iter(range(self.n))


class Sized(Count):
    def __len__(self):
        return self.length


# Passes -------------------------------------------------------------------------------------------

def test_batches_in_order():
    loader = DataLoader(pairs(), batch_size=4)
    for _ in range(2):
        batches = list(loader)
        assert [type(b) for b in batches] == [list] * 3 and len(loader) == 3
        assert [b[1].tolist() for b in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
        assert [b[0].shape for b in batches] == [(4, 2), (4, 2), (2, 2)]
        assert batches[0][0].dtype is torch.float32 and batches[0][1].dtype is torch.int64
    dropped = DataLoader(pairs(), batch_size=4, drop_last=True)
    assert len(dropped) == 2 == len(list(dropped))
    assert next(iter(DataLoader(pairs())))[0].shape == (1, 2)


def test_iterator():
    it = iter(DataLoader(pairs(), batch_size=5))
    assert iter(it) is it and len(it) == 2
    next(it), next(it)
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(it)


def test_two_passes_at_once():
    loader = DataLoader(pairs(4), batch_size=2)
    seen = [(a[1].tolist(), b[1].tolist()) for a in loader for b in loader]
    assert seen == [(a, b) for a in ([0, 1], [2, 3]) for b in ([0, 1], [2, 3])]


def test_shuffle_is_fixed_by_the_seed():
    loader = DataLoader(pairs(50), batch_size=7, shuffle=True)

    def order():
        return [i for _, y in loader for i in y.tolist()]
    torch.manual_seed(0)
    first, second = order(), order()
    assert sorted(first) == sorted(second) == list(range(50)) and first != second
    torch.manual_seed(0)
    assert order() == first and order() == second


def test_generator():
    def orders(seed):
        g = torch.Generator().manual_seed(seed)
        loader = DataLoader(pairs(30), batch_size=30, shuffle=True, generator=g)
        return [next(iter(loader))[1].tolist() for _ in range(2)]
    before = torch.get_rng_state()
    assert orders(1) == orders(1) != orders(2)
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(TypeError, match="generator must be"):
        iter(DataLoader(pairs(), generator=5))


def test_without_batches():
    samples = list(DataLoader(pairs(3), batch_size=None))
    assert len(samples) == 3 and samples[1][0].tolist() == [2.0, 3.0] and type(samples[1]) is list
    assert len(DataLoader(pairs(3), batch_size=None)) == 3
    many = list(DataLoader(pairs(6), batch_size=None, sampler=[[0, 1], [5]]))
    assert [m[1].tolist() for m in many] == [[0, 1], [5]]


def test_samplers():
    assert [b[1].tolist() for b in DataLoader(pairs(), 2, sampler=[5, 1, 3])] == [[5, 1], [3]]
    loader = DataLoader(pairs(), batch_sampler=[[1, 2], [3]])
    assert [b[1].tolist() for b in loader] == [[1, 2], [3]] and len(loader) == 2
    assert loader.batch_size is None


def test_sequences_and_dicts_are_datasets():
    assert [b.tolist() for b in DataLoader([1, 2, 3], 2)] == [[1, 2], [3]]
    assert list(DataLoader({0: "a", 1: "b"}, 2)) == [["a", "b"]]
    assert list(DataLoader([], 2)) == []


def test_collate_fn():
    loader = DataLoader([1, 2, 3], 2, collate_fn=tuple)
    assert list(loader) == [(1, 2), (3,)]


def test_getitems_gets_the_whole_batch():
    class Batched(Dataset):
        asked: list = []

        def __len__(self):
            return 4

        def __getitems__(self, indices):
            self.asked.append(indices)
            return [10 * i for i in indices]
    ds = Batched()
    assert [b.tolist() for b in DataLoader(ds, 2)] == [[0, 10], [20, 30]]
    assert [b.tolist() for b in DataLoader(Subset(ds, [3, 1]), 2)] == [[30, 10]]
    assert ds.asked == [[0, 1], [2, 3], [3, 1]]


def test_errors_of_the_dataset_come_through():
    class Broken(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, i):
            if i == 2:
                raise KeyError("sample 2")
            return i
    with pytest.raises(KeyError, match="sample 2"):
        list(DataLoader(Broken(), 2))


# The short way for TensorDataset ------------------------------------------------------------------

def same(a, b):
    assert type(a) is type(b) is list and len(a) == len(b)
    for x, y in zip(a, b):
        assert type(x) is type(y) and x.dtype is y.dtype and torch.equal(x, y)
        assert x.requires_grad == y.requires_grad and x.is_contiguous()


@pytest.mark.parametrize("make", [
    pairs,
    lambda: TensorDataset(torch.arange(10.0)),
    lambda: TensorDataset(torch.arange(60).reshape(6, 10).t(), torch.zeros(10, 2, 3)),
    lambda: Subset(pairs(), [9, 3, 3, 0, 5]),
    lambda: Subset(pairs(), np.arange(9, -1, -1)),
    lambda: Subset(Subset(pairs(), [9, 3, 2, 0, 5]), [4, 1, 0]),
    lambda: random_split(pairs(), [0.8, 0.2], torch.Generator().manual_seed(1))[0],
    lambda: TensorDataset(torch.ones(10, requires_grad=True)),
], ids=range(8))
def test_rows_at_once_equal_rows_one_by_one(make, monkeypatch):
    ds = make()
    fast = list(DataLoader(ds, batch_size=3))
    monkeypatch.setattr(module, "_rows", lambda dataset, indices: None)
    for a, b in zip(fast, DataLoader(ds, batch_size=3), strict=True):
        same(a, b)


def test_rows_at_once_are_taken():
    assert module._rows(pairs(), [1, 2]) is not None
    assert module._rows(Subset(pairs(), [3, 4, 5]), [1, 2])[1].tolist() == [4, 5]
    for indices in ([20], [-11], [], [True, False], [0.5], (1, 2), [slice(0, 2)]):
        assert module._rows(pairs(), indices) is None, indices
    assert module._rows(Subset(pairs(), [3]), [1]) is None

    class Other(TensorDataset):
        def __getitem__(self, i):
            return super().__getitem__(i)[0] * 0
    assert module._rows(Other(torch.ones(3)), [1]) is None


def test_a_batch_is_a_copy():
    ds = pairs()
    x, y = next(iter(DataLoader(ds, 10)))
    x.zero_()
    y.zero_()
    assert ds.tensors[0].sum() > 0 and ds.tensors[1].sum() > 0


def test_bad_indices():
    with pytest.raises(IndexError):
        list(DataLoader(pairs(), batch_sampler=[[20]]))
    with pytest.raises(IndexError):
        list(DataLoader(pairs(), batch_sampler=[[]]))


# Iterable datasets --------------------------------------------------------------------------------

def test_iterable_dataset():
    assert [b.tolist() for b in DataLoader(Count(5), 2)] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in DataLoader(Count(5), 2, drop_last=True)] == [[0, 1], [2, 3]]
    assert list(DataLoader(Count(3), None)) == [0, 1, 2]
    with pytest.raises(TypeError):
        len(DataLoader(Count(3)))
    assert len(DataLoader(Sized(5, 5), 2)) == 3
    assert len(DataLoader(Sized(5, 5), 2, drop_last=True)) == 2


def test_a_wrong_length_of_an_iterable_dataset_is_told():
    loader = DataLoader(Sized(5, 3))
    assert len(loader) == 3
    with pytest.warns(UserWarning, match=r"reported to be 3.*have been fetched") as told:
        assert len(list(loader)) == 5
    assert "but 4 samples" in str(told[0].message) and len(told) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sum(1 for _ in DataLoader(Sized(5, 3))) == 5          # nobody asked; list() would


@pytest.mark.parametrize("kw", [{"shuffle": True}, {"sampler": [1]}, {"batch_sampler": [[1]]}])
def test_iterable_dataset_has_an_order_of_its_own(kw):
    with pytest.raises(ValueError, match=f"expected unspecified {next(iter(kw))} option"):
        DataLoader(Count(3), **kw)
    DataLoader(Count(3), shuffle=False)


# Arguments ----------------------------------------------------------------------------------------

@pytest.mark.parametrize(("kw", "match"), [
    ({"batch_size": 0}, "batch_size should be a positive integer value, but got batch_size=0"),
    ({"batch_size": 1.5}, "positive integer"),
    ({"shuffle": True, "sampler": [1]}, "sampler option is mutually exclusive with shuffle"),
    ({"batch_sampler": [[1]], "batch_size": 2}, "batch_sampler option is mutually exclusive"),
    ({"batch_sampler": [[1]], "drop_last": True}, "batch_sampler option is mutually exclusive"),
    ({"batch_sampler": [[1]], "sampler": [1]}, "batch_sampler option is mutually exclusive"),
    ({"batch_size": None, "drop_last": True}, "batch_size=None option disables auto-batching"),
    ({"num_workers": -1}, "num_workers option should be non-negative"),
    ({"timeout": -1}, "timeout option should be non-negative"),
    ({"prefetch_factor": 2}, "prefetch_factor option could only be specified in multiprocessing"),
    ({"prefetch_factor": -2, "num_workers": 2}, "prefetch_factor option should be non-negative"),
    ({"persistent_workers": True}, "persistent_workers option needs num_workers > 0"),
    ({"multiprocessing_context": "fork"}, "multiprocessing_context can only be used with"),
    ({"drop_last": 1}, "drop_last should be a boolean"),
])
def test_bad_options(kw, match):
    with pytest.raises(ValueError, match=match):
        DataLoader(pairs(), **kw)


def test_other_options():
    with pytest.raises(AssertionError, match="timeout == 0"):
        iter(DataLoader(pairs(), timeout=3))
    loader = DataLoader(pairs(), worker_init_fn=print, in_order=False, pin_memory_device="cuda")
    assert len(list(loader)) == 10
    with pytest.raises(ValueError, match="attribute should not be set after DataLoader"):
        loader.batch_size = 3
    loader.note = "free"
    assert DataLoader[int] and loader.multiprocessing_context is None


def test_pin_memory_is_accepted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert len(list(DataLoader(pairs(), 5, pin_memory=True))) == 2


# Collation ----------------------------------------------------------------------------------------

def test_tensors_arrays_and_numbers():
    t = default_collate([torch.ones(2), torch.zeros(2)])
    assert t.tolist() == [[1, 1], [0, 0]]
    for batch, dtype in [([1, 2], torch.int64), ([1.0, 2], torch.float64),
                         ([1, 2.5], torch.float32), ([True, False], torch.bool),
                         ([np.float32(1), np.float32(2)], torch.float32),
                         ([np.float64(1), np.int32(2)], torch.float64),
                         ([np.bool_(True)], torch.bool), ([np.array(3), np.array(4)], torch.int64)]:
        t = default_collate(batch)
        assert t.dtype is dtype and t.tolist() == [float(x) for x in batch], batch
    a = default_collate([np.ones(2, np.float16), np.zeros(2, np.float16)])
    assert a.dtype is torch.float16 and a.shape == (2, 2)
    mixed = default_collate([np.ones(2, np.float32), torch.ones(2)])
    assert mixed.shape == (2, 2)


def test_structures_are_kept():
    assert default_collate(["a", "b"]) == ["a", "b"]
    assert default_collate([b"a", b"b"]) == [b"a", b"b"]
    x, names = default_collate([(1, "a"), (2, "b")])
    assert x.tolist() == [1, 2] and names == ("a", "b")
    nested = default_collate([{"a": 1, "b": [1, 2]}, {"a": 2, "b": [3, 4]}])
    assert nested["a"].tolist() == [1, 2] and [t.tolist() for t in nested["b"]] == [[1, 3], [2, 4]]
    p = default_collate([Point(1, 2), Point(3, 4)])
    assert type(p) is Point and p.x.tolist() == [1, 3]
    for make in (collections.OrderedDict, collections.UserDict, types.MappingProxyType):
        d = default_collate([make({"a": 1}), make({"a": 2})])
        assert type(d) is make and d["a"].tolist() == [1, 2]
    d = default_collate([collections.defaultdict(int, a=1)])
    assert d.default_factory is int
    assert type(default_collate([collections.deque([1, 2])])) is collections.deque
    assert type(default_collate([range(2), range(2)])) is list


def test_what_cannot_be_collated():
    for batch in ([None, 1], [object()], [1j], [{1}], [np.array(["a"])],
                  [np.array([1, 2], object)]):
        with pytest.raises(TypeError, match="default_collate: batch must contain tensors, numpy"):
            default_collate(batch)
    with pytest.raises(RuntimeError, match="stack expects each tensor to be equal size"):
        default_collate([torch.ones(2), torch.ones(3)])
    with pytest.raises(RuntimeError, match="list of batch should be of equal size, but sample 1"):
        default_collate([[1, 2], [1]])
    with pytest.raises(KeyError):
        default_collate([{"a": 1}, {"b": 1}])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
@pytest.mark.parametrize("samples,error,text", [
    ([torch.zeros(3), torch.zeros(3), torch.zeros(4)], RuntimeError,
     "index 2, unlike that of 0, has shape [4] and not [3]"),
    ([torch.zeros(3), None], TypeError, "index 1, unlike that of 0, has a NoneType and not a Ten"),
    ([{"a": 1, "b": 2}, {"a": 1}], KeyError, "index 1, unlike that of 0, has no key 'b'"),
    ([{"a": (1, torch.zeros(2))}, {"a": (1, torch.zeros(1))}], RuntimeError,
     "index 1, unlike that of 0, has at ['a'][1] shape [1] and not [2]"),
    ([(1, 2), (1, 2, 3)], RuntimeError, "index 1, unlike that of 0, has length 3 and not 2"),
    ([1, "a"], TypeError, "index 1, unlike that of 0, has a str and not a int"),
    ([object(), object()], TypeError, "of the indices [0, 1] were collated."),
], ids=range(7))
def test_which_sample_cannot_be_collated(samples, error, text):
    with pytest.raises(error) as caught:
        next(iter(DataLoader(samples, batch_size=4)))
    assert text in caught.value.__notes__[0]


def test_default_convert():
    a = np.ones(2)
    t = default_convert(a)
    t[0] = 5
    assert a[0] == 5                             # the memory is shared
    assert default_convert(np.float32(3)).dtype is torch.float32
    for same in (1, "a", b"a", None, torch.ones(1), np.array(["a"])):
        assert default_convert(same) is same
    back = default_convert({"a": (a, 1), "p": Point(a, 2), "l": [a]})
    assert type(back["a"]) is list and back["a"][1] == 1
    assert type(back["p"]) is Point and isinstance(back["p"].x, torch.Tensor)
    assert isinstance(back["l"][0], torch.Tensor)
