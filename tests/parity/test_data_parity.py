"""Order, batches and random numbers of data loading, against PyTorch."""
from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.utils.data as theirs  # noqa: E402

import gpugrad  # noqa: E402
import gpugrad.utils.data as ours  # noqa: E402

BOTH = [(gpugrad, ours), (torch, theirs)]


def run(program):
    """What program(torch, torch.utils.data) returns in both libraries."""
    results = []
    for t, d in BOTH:
        t.manual_seed(1234)
        results.append((program(t, d), t.rand(2).tolist()))
    return results


def check(program):
    a, b = run(program)
    assert a == b


def order(loader):
    return [[x.tolist() for x in batch] for batch in loader]


@pytest.mark.parametrize("kw", [
    {"batch_size": 4}, {"batch_size": 4, "shuffle": True}, {"shuffle": True, "batch_size": None},
    {"batch_size": 3, "shuffle": True, "drop_last": True}, {"batch_sampler": [[1, 2], [3]]},
    {"sampler": [4, 2, 2], "batch_size": 2}, {"batch_size": 10, "shuffle": True},
])
@pytest.mark.parametrize("generator", [False, True])
def test_loader(kw, generator):
    def program(t, d):
        g = t.Generator().manual_seed(77) if generator else None
        ds = d.TensorDataset(t.arange(10), t.arange(20.0).reshape(10, 2))
        loader = d.DataLoader(ds, generator=g, **kw)
        return [order(loader) for _ in range(3)], len(loader)
    check(program)


def test_an_epoch_left_early():
    def program(t, d):
        loader = d.DataLoader(d.TensorDataset(t.arange(10)), batch_size=2, shuffle=True)
        first = [next(iter(loader))[0].tolist() for _ in range(3)]
        return first, order(loader)
    check(program)


@pytest.mark.parametrize("kw", [
    {}, {"replacement": True}, {"num_samples": 3}, {"num_samples": 25}, {"num_samples": 20},
    {"replacement": True, "num_samples": 64}, {"replacement": True, "num_samples": 70},
])
@pytest.mark.parametrize("generator", [False, True])
def test_random_sampler(kw, generator):
    def program(t, d):
        g = t.Generator().manual_seed(77) if generator else None
        s = d.RandomSampler(range(10), generator=g, **kw)
        return list(s), list(s), len(s)
    check(program)


def test_other_samplers():
    def program(t, d):
        subset = d.SubsetRandomSampler([5, 7, 9, 11])
        weighted = d.WeightedRandomSampler([0.1, 0.9, 0.4, 2.0], 9)
        once = d.WeightedRandomSampler([0.1, 0.9, 0.4], 3, replacement=False)
        one = d.WeightedRandomSampler([0.1, 0.9, 0.4], 1)
        mine = d.WeightedRandomSampler([3, 1], 5, generator=t.Generator().manual_seed(4))
        batches = d.BatchSampler(d.RandomSampler(range(7)), 3, False)
        return [list(s) for s in (subset, weighted, once, one, mine, batches, subset, weighted)]
    check(program)


@pytest.mark.parametrize("lengths", [[7, 3], [0.5, 0.25, 0.25], [0.33, 0.33, 0.34], [0, 10]])
def test_random_split(lengths):
    def program(t, d):
        parts = d.random_split(range(10), lengths)
        again = d.random_split(range(10), lengths, generator=t.Generator().manual_seed(42))
        return [s.indices for s in (*parts, *again)]
    check(program)


def test_iterable_datasets_and_their_draws():
    def program(t, d):
        class Count(d.IterableDataset):
            def __iter__(self):
                return iter(range(5))
        return [x.tolist() for x in d.DataLoader(Count(), batch_size=2)]
    check(program)


def plain(x):
    """Tensors as lists with their dtype, structures as they are."""
    if hasattr(x, "tolist"):
        return x.tolist(), str(x.dtype)
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    return type(x)(plain(v) for v in x) if isinstance(x, (list, tuple)) else x


@pytest.mark.parametrize("batch", [
    [1, 2], [1.0, 2.0], [1, 2.5], [True, False], ["a", "b"], [(1, "a"), (2, "b")],
    [{"a": 1, "b": (1, 2.0)}, {"a": 2, "b": (3, 4.0)}], [np.ones(2), np.zeros(2)],
    [np.float32(1), np.float32(2)], [np.float64(1), np.int32(2)], [np.array(3)], [np.bool_(True)],
    [[1, [2, 3]], [4, [5, 6]]], [range(3)],
], ids=range(14))
def test_collate(batch):
    assert plain(ours.default_collate(batch)) == plain(theirs.default_collate(batch))
    assert plain(ours.default_convert(batch)) == plain(theirs.default_convert(batch))


@pytest.mark.parametrize("call", [
    lambda t, d: d.default_collate([None]),
    lambda t, d: d.default_collate([np.array(["a"])]),
    lambda t, d: d.default_collate([t.ones(2), t.ones(3)]),
    lambda t, d: d.default_collate([]),
    lambda t, d: d.DataLoader([1], batch_size=-1),
    lambda t, d: d.DataLoader([1], batch_size=None, drop_last=True),
    lambda t, d: d.DataLoader([1], shuffle=True, sampler=[0]),
    lambda t, d: d.DataLoader([1], batch_sampler=[[0]], shuffle=True),
    lambda t, d: d.DataLoader([1], num_workers=-1),
    lambda t, d: d.DataLoader([1], prefetch_factor=2),
    lambda t, d: d.DataLoader([1], persistent_workers=True),
    lambda t, d: d.DataLoader([], shuffle=True),
    lambda t, d: setattr(d.DataLoader([1]), "sampler", 3),
    lambda t, d: d.RandomSampler([1], num_samples=0),
    lambda t, d: d.BatchSampler([1], 0, False),
    lambda t, d: d.WeightedRandomSampler([[1.0]], 1),
    lambda t, d: d.TensorDataset(t.ones(2), t.ones(3)),
    lambda t, d: d.random_split([1, 2], [1, 2]),
    lambda t, d: d.ConcatDataset([]),
    lambda t, d: d.StackDataset(),
], ids=range(20))
def test_errors(call):
    texts = []
    for t, d in BOTH:
        with pytest.raises(Exception) as caught:
            call(t, d)
        texts.append((caught.type, str(caught.value)))
    assert texts[0] == texts[1]
