"""Datasets, samplers, and what puts datasets together and apart."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

import gpugrad as torch
from gpugrad.utils import data
from gpugrad.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)


class Squares(Dataset):
    """With __getitems__, which notes what it was asked for."""

    def __init__(self, n):
        self.n, self.asked = n, []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        return i * i

    def __getitems__(self, indices):
        self.asked.append(list(indices))
        return [i * i for i in indices]


class Count(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(range(self.n))


def pairs():
    return TensorDataset(torch.arange(10.0).reshape(10, 1), torch.arange(10))


# Datasets -----------------------------------------------------------------------------------------

def test_a_dataset_must_define_getitem():
    with pytest.raises(NotImplementedError, match="should implement __getitem__"):
        Dataset()[0]
    with pytest.raises(TypeError, match="has no len"):
        len(Dataset())
    assert Dataset[int]          # subscripts are for type checkers


def test_tensor_dataset():
    ds = pairs()
    x, y = ds[3]
    assert len(ds) == 10 and x.shape == (1,) and x.item() == 3 and y.item() == 3 and y.shape == ()
    assert ds[-1][1].item() == 9
    assert ds[2:4][1].tolist() == [2, 3] and ds[[5, 1]][1].tolist() == [5, 1]
    with pytest.raises(IndexError):
        ds[10]
    with pytest.raises(AssertionError, match="Size mismatch between tensors"):
        TensorDataset(torch.zeros(3), torch.zeros(4))


def test_stack_dataset():
    ds = StackDataset(pairs(), Squares(10))
    assert len(ds) == 10 and ds[3][1] == 9 and ds[3][0][1].item() == 3
    named = StackDataset(x=pairs(), s=Squares(10))
    assert named[4]["s"] == 16 and list(named[4]) == ["x", "s"]
    assert [row["s"] for row in named.__getitems__([2, 3])] == [4, 9]
    assert named.datasets["s"].asked == [[2, 3]]
    with pytest.raises(ValueError, match="At least one dataset"):
        StackDataset()
    with pytest.raises(ValueError, match="both types are given"):
        StackDataset(pairs(), x=pairs())
    with pytest.raises(ValueError, match="Size mismatch between datasets"):
        StackDataset(pairs(), Squares(3))

    class Short(Squares):
        def __getitems__(self, indices):
            return []
    with pytest.raises(ValueError, match="Expected 2, got 0"):
        StackDataset(Short(4)).__getitems__([0, 1])


def test_concat_dataset():
    ds = ConcatDataset([Squares(3), Squares(4)])
    assert ds.cumulative_sizes == [3, 7] and len(ds) == 7
    assert [ds[i] for i in range(7)] == [0, 1, 4, 0, 1, 4, 9]
    assert ds[-1] == 9 and ds[-7] == 0
    both = Squares(2) + Squares(3)
    assert isinstance(both, ConcatDataset) and len(both) == 5
    with pytest.raises(ValueError, match="absolute value of index"):
        ds[-8]
    with pytest.raises(IndexError):
        ds[7]
    with pytest.raises(AssertionError, match="empty iterable"):
        ConcatDataset([])
    with pytest.raises(AssertionError, match="does not support IterableDataset"):
        ConcatDataset([Count(3)])


def test_chain_dataset():
    assert list(ChainDataset([Count(3), Count(2)])) == [0, 1, 2, 0, 1]
    assert list(Count(1) + Count(2)) == [0, 0, 1]
    with pytest.raises(AssertionError, match="only supports IterableDataset"):
        list(ChainDataset([Squares(2)]))
    with pytest.raises(TypeError):
        len(ChainDataset([Count(2)]))


def test_subset():
    ds = Squares(10)
    part = Subset(ds, [4, 2, 7])
    assert len(part) == 3 and [part[i] for i in range(3)] == [16, 4, 49]
    assert part.__getitems__([0, 2]) == [16, 49] and ds.asked == [[4, 7]]
    assert Subset(pairs(), [4, 2])[[1, 0]][1].tolist() == [2, 4]
    assert Subset(Subset(ds, [5, 6, 7]), [2, 0])[0] == 49
    with pytest.raises(IndexError):
        part[3]


# random_split -------------------------------------------------------------------------------------

def sizes(*args, **kw):
    return [len(s) for s in random_split(*args, **kw)]


def test_random_split():
    torch.manual_seed(3)
    a, b = random_split(range(10), [7, 3])
    assert sorted([*a.indices, *b.indices]) == list(range(10)) and len(a) == 7
    again = random_split(range(10), [7, 3], generator=torch.Generator().manual_seed(3))
    assert [s.indices for s in again] == [a.indices, b.indices]
    assert sizes(range(10), [0.5, 0.25, 0.25]) == [6, 2, 2]
    assert sizes(range(10), [0.33, 0.33, 0.34]) == [4, 3, 3]
    assert sizes(range(5), [1]) == [5]
    assert sizes(range(10), [0, 10]) == [0, 10]
    assert sizes(range(10), [0.7, 0.3], generator=None) == [7, 3]


def test_random_split_errors():
    for lengths in ([7, 4], [0.5, 0.6], [0.5, 0.4], []):
        with pytest.raises(ValueError, match="Sum of input lengths does not equal"):
            random_split(range(10), lengths)
    with pytest.raises(ValueError, match="Fraction at index 0 is not between 0 and 1"):
        random_split(range(10), [-0.1, 1.1])
    with pytest.raises(TypeError, match="lengths must be integers"):
        random_split(range(10), [5.0, 5.0])
    with pytest.raises(TypeError, match="generator must be"):
        random_split(range(10), [5, 5], generator=3)
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        random_split(range(1), [0.5, 0.5])


# Samplers -----------------------------------------------------------------------------------------

def test_sampler_base():
    with pytest.raises(NotImplementedError):
        iter(Sampler())
    with pytest.raises(TypeError):
        len(Sampler())


def test_sequential_sampler():
    s = SequentialSampler("abc")
    assert list(s) == list(s) == [0, 1, 2] and len(s) == 3


def test_random_sampler():
    torch.manual_seed(1)
    s = RandomSampler(range(50))
    first, second = list(s), list(s)
    assert sorted(first) == sorted(second) == list(range(50)) and first != second and len(s) == 50
    torch.manual_seed(1)
    assert list(s) == first
    assert len(list(RandomSampler(range(4), num_samples=10))) == 10
    many = list(RandomSampler(range(4), num_samples=10))
    assert sorted(many[:4]) == sorted(many[4:8]) == [0, 1, 2, 3]
    drawn = list(RandomSampler(range(3), replacement=True, num_samples=70))
    assert len(drawn) == 70 and set(drawn) == {0, 1, 2}
    g = torch.Generator().manual_seed(5)
    assert list(RandomSampler(range(9), generator=g)) != list(RandomSampler(range(9), generator=g))


def test_random_sampler_with_a_generator_leaves_the_default_one_alone():
    before = torch.get_rng_state()
    list(RandomSampler(range(9), generator=torch.Generator()))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("kw", "error", "match"), [
    ({"num_samples": 0}, ValueError, "positive integer value, but got num_samples=0"),
    ({"num_samples": 1.5}, ValueError, "positive integer value, but got num_samples=1.5"),
    ({"replacement": 2}, TypeError, "replacement should be a boolean value"),
    ({"data_source": []}, ValueError, "but got num_samples=0"),
])
def test_random_sampler_errors(kw, error, match):
    with pytest.raises(error, match=match):
        RandomSampler(**{"data_source": range(3), **kw})


def test_subset_random_sampler():
    s = SubsetRandomSampler(["a", "b", "c", "d"], generator=torch.Generator().manual_seed(2))
    assert sorted(s) == ["a", "b", "c", "d"] and len(s) == 4


def test_weighted_random_sampler():
    g = torch.Generator().manual_seed(0)
    s = WeightedRandomSampler([0.0, 3.0, 1.0], 4000, generator=g)
    counts = np.bincount(list(s), minlength=3)
    assert counts[0] == 0 and len(s) == 4000 and abs(counts[1] / 4000 - 0.75) < 0.03
    without = WeightedRandomSampler([1, 5, 2], 3, replacement=False, generator=g)
    assert sorted(without) == [0, 1, 2]
    assert without.weights.dtype is torch.float64
    with pytest.raises(RuntimeError, match="without replacement"):
        list(WeightedRandomSampler([1.0, 1.0], 3, replacement=False))


@pytest.mark.parametrize(("args", "match"), [
    (([1.0], 0), "num_samples should be a positive integer"),
    (([1.0], True), "num_samples should be a positive integer"),
    (([[1.0]], 2), "weights should be a 1d sequence"),
    (([1.0], 2, 3), "replacement should be a boolean"),
])
def test_weighted_random_sampler_errors(args, match):
    with pytest.raises(ValueError, match=match):
        WeightedRandomSampler(*args)


def test_batch_sampler():
    full, short = BatchSampler(range(10), 4, False), BatchSampler(range(10), 4, True)
    assert list(full) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]] and len(full) == 3
    assert list(short) == [[0, 1, 2, 3], [4, 5, 6, 7]] and len(short) == 2
    assert list(BatchSampler([], 4, False)) == []
    for batch_size in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="batch_size should be a positive integer"):
            BatchSampler(range(3), batch_size, True)
    with pytest.raises(ValueError, match="drop_last should be a boolean"):
        BatchSampler(range(3), 2, 1)


def test_names():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("DataLoader", "default_collate", "default_convert", "get_worker_info"):
            assert callable(getattr(data, name))
