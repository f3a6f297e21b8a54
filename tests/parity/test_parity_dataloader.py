"""DataLoader with workers against PyTorch's: order, seeds, batches, errors, signatures."""
from __future__ import annotations

import collections
import inspect
import random
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.utils.data as theirs  # noqa: E402

import gpugrad  # noqa: E402
import gpugrad.utils.data as ours  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]
BOTH = [(gpugrad, ours), (torch, theirs)]


@pytest.fixture(autouse=True)
def short_ends(monkeypatch):
    """PyTorch waits so many seconds for a worker to end, by default 5."""
    monkeypatch.setattr(theirs._utils, "MP_STATUS_CHECK_INTERVAL", 0.5)


def check(program, seed=1234):
    """program(torch, torch.utils.data) returns the same in both, and draws as many numbers."""
    results = []
    for t, d in BOTH:
        t.manual_seed(seed)
        results.append((plain(program(t, d)), t.rand(2).tolist()))
    assert results[0] == results[1]


def plain(x):
    """Tensors as lists with their dtype, containers with the names of their types."""
    if hasattr(x, "tolist"):
        return x.tolist(), str(x.dtype)
    if isinstance(x, collections.abc.Mapping):
        return type(x).__name__, {k: plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x).__name__, [plain(v) for v in x]
    return x


def numbers(t, d, n=13):
    return d.TensorDataset(t.arange(n), t.arange(2.0 * n).reshape(n, 2))


@pytest.mark.parametrize("kw", [
    {"num_workers": 1}, {"num_workers": 2, "shuffle": True}, {"num_workers": 3, "drop_last": True},
    {"num_workers": 2, "prefetch_factor": 1, "shuffle": True}, {"num_workers": 2, "batch_size": 20},
    {"num_workers": 2, "batch_size": None, "shuffle": True}, {"num_workers": 2, "timeout": 60},
    {"num_workers": 2, "persistent_workers": True, "shuffle": True},
], ids=str)
def test_order(kw):
    def program(t, d):
        loader = d.DataLoader(numbers(t, d), **{"batch_size": 3, **kw})
        return [list(loader) for _ in range(2)], len(loader)
    check(program)


def test_generators_samplers_and_passes_that_are_left():
    def program(t, d):
        g = t.Generator().manual_seed(5)
        ds = numbers(t, d)
        a = d.DataLoader(ds, 3, shuffle=True, generator=g, num_workers=2)
        b = d.DataLoader(ds, 3, sampler=d.WeightedRandomSampler([1.0] * 13, 9), num_workers=2)
        c = d.DataLoader(ds, batch_sampler=d.BatchSampler(d.RandomSampler(ds), 4, True),
                         num_workers=1, persistent_workers=True)
        left = [next(iter(x))[0] for x in (a, b, c, a, c)]
        whole = [[x[0] for x in loader] for loader in (c, a, b)]
        return left, whole, g.get_state()
    check(program)


@pytest.mark.parametrize("kw", [
    {"num_workers": 2}, {"num_workers": 3, "drop_last": True},
    {"num_workers": 2, "batch_size": None},
    {"num_workers": 3, "batch_size": 1, "prefetch_factor": 1},
    {"num_workers": 2, "persistent_workers": True}], ids=str)
@pytest.mark.parametrize("deal", ["all", "dealt", "uneven"])
def test_iterable_datasets(kw, deal):
    def program(t, d):
        class Count(d.IterableDataset):
            def __iter__(self):
                info = d.get_worker_info()
                if deal == "all":
                    return iter(range(5))
                if deal == "dealt":
                    return iter(range(info.id, 11, info.num_workers))
                return iter(range(100 * info.id, 100 * info.id + 4 * info.id + 1))
        loader = d.DataLoader(Count(), **{"batch_size": 2, **kw})
        return [list(loader) for _ in range(2)]
    check(program)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("generator", [False, True])
def test_seeds(persistent, generator):
    def program(t, d):
        class Drawn(d.Dataset):
            def __len__(self):
                return 6

            def __getitem__(self, i):
                info = d.get_worker_info()
                return (info.id, info.num_workers, info.seed % 2**40, len(info.dataset),
                        random.random(), float(np.random.rand()), t.rand(2), t.randint(9, (2,)),
                        t.randperm(4), info.worker_method)
        g = t.Generator().manual_seed(8) if generator else None
        loader = d.DataLoader(Drawn(), None, num_workers=2, generator=g,
                              persistent_workers=persistent)
        return [list(loader) for _ in range(2)]
    check(program)


@pytest.mark.parametrize("seed", [0, -1, 2**63 - 1, 2**40 + 17, 12345678912345])
def test_numpys_seed(seed):
    from torch.utils.data._utils.worker import _generate_state

    from gpugrad.utils.data.worker import numpy_seed
    for base in (seed & (2**63 - 1), (seed * 31) & (2**63 - 1)):
        for worker in (0, 1, 31):
            assert numpy_seed(base, worker).tolist() == _generate_state(base, worker)


def test_worker_init_fn():
    def program(t, d):
        def init(i):
            t.manual_seed(40 + i)
            d.get_worker_info().dataset.note = i

        class Noted(d.Dataset):
            note = None

            def __len__(self):
                return 4

            def __getitem__(self, i):
                return self.note, t.rand(1)
        return list(d.DataLoader(Noted(), 1, num_workers=2, worker_init_fn=init))
    check(program)


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize("sample", [
    lambda t, i: {"a": i, "b": (i, 2.0 * i), "s": "text"}, lambda t, i: Point(t.ones(2) * i, [i]),
    lambda t, i: (np.full(3, i, np.int16), np.float32(i), b"b"), lambda t, i: t.ones(2, 3).t() * i,
    lambda t, i: t.tensor(i) > 1, lambda t, i: t.ones(0, 2), lambda t, i: (t.ones(1).half(), 3.5),
    lambda t, i: t.full((70, 90), float(i)), lambda t, i: [t.full((5000,), i), {"k": [i, "a"]}],
], ids=range(9))
def test_batches(sample):
    def program(t, d):
        class Samples(d.Dataset):
            def __len__(self):
                return 5

            def __getitem__(self, i):
                return sample(t, i)
        return [list(d.DataLoader(Samples(), b, num_workers=2)) for b in (2, None)]
    check(program)


def test_collate_tables():
    def program(t, d):
        c = d._utils.collate

        def numbers(batch, *, collate_fn_map=None):
            return sum(batch)
        table = {int: numbers, (str, bytes): lambda batch, *, collate_fn_map: "+".join(batch)}
        out = [c.collate([{"a": 1, "b": ["x"]}, {"a": 2, "b": ["y"]}], collate_fn_map=table),
               c.collate([True, 2], collate_fn_map=table), c.default_collate([1, 2])]
        c.default_collate_fn_map[complex] = lambda batch, *, collate_fn_map: len(batch)
        try:
            out.append(d.default_collate([(1j, 2), (2j, 3)]))
        finally:
            del c.default_collate_fn_map[complex]
        return out
    check(program)


def outcome(call, t, d):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            result = call(t, d)
        except Exception as e:
            result = type(e), str(e).split("\n")[0]
    return result, [(w.category, str(w.message)) for w in told
                    if issubclass(w.category, UserWarning)]


def loaded(t, d, fail, **kw):
    class Failing(d.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, i):
            return fail(i) if i == 3 else t.tensor(i)
    return [b.tolist() for b in d.DataLoader(Failing(), **{"num_workers": 2, **kw})]


def fail_with(error):
    def fail(i):
        raise error
    return fail


class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(a)


class Told(Exception):
    message = "told"

    def __init__(self, message):
        super().__init__(message)


@pytest.mark.parametrize("call", [
    lambda t, d: loaded(t, d, fail_with(ValueError("x"))),
    lambda t, d: loaded(t, d, fail_with(KeyError("x"))),
    lambda t, d: loaded(t, d, fail_with(Odd(1, 2))),
    lambda t, d: loaded(t, d, fail_with(Told("x")), batch_size=2),
    lambda t, d: loaded(t, d, fail_with(IndexError()), batch_size=None),
    lambda t, d: loaded(t, d, fail_with(StopIteration())),
    lambda t, d: loaded(t, d, lambda i: t.ones(2), batch_size=2),
    lambda t, d: loaded(t, d, lambda i: None, batch_size=1),
    lambda t, d: loaded(t, d, int, collate_fn=fail_with(OSError(2, "gone"))),
    lambda t, d: sorted(loaded(t, d, int, in_order=False), key=str),
    lambda t, d: loaded(t, d, int, prefetch_factor=0),
    lambda t, d: loaded(t, d, int, prefetch_factor=-1),
    lambda t, d: loaded(t, d, int, num_workers=0, timeout=2),
    lambda t, d: loaded(t, d, int, num_workers=0, multiprocessing_context="fork"),
    lambda t, d: loaded(t, d, int, multiprocessing_context="green"),
    lambda t, d: loaded(t, d, int, multiprocessing_context=7),
    lambda t, d: loaded(t, d, int, timeout=-1),
    lambda t, d: loaded(t, d, int, num_workers=0, persistent_workers=True),
    lambda t, d: d.DataLoader([1], num_workers=500).num_workers,
    lambda t, d: d.DataLoader([1], num_workers=1).prefetch_factor,
    lambda t, d: iter(d.DataLoader([1], num_workers=1)).__getstate__(),
], ids=range(21))
def test_errors(call):
    (mine, said), (yours, also_said) = [outcome(call, t, d) for t, d in BOTH]
    if type(mine) is type(yours) is tuple and issubclass(mine[0], Exception):
        assert mine[0] is yours[0] and mine[1].startswith(yours[1][:60])
    else:
        assert mine == yours
    assert said == also_said


def test_the_traceback_comes_along():
    texts = []
    for t, d in BOTH:
        with pytest.raises(ValueError) as caught:
            loaded(t, d, fail_with(ValueError("bad sample")))
        texts.append(str(caught.value))
        assert "line" in texts[-1] and "raise error" in texts[-1]
        assert "ValueError: bad sample" in texts[-1]
    assert "It was index 3 of the batch [3]." in texts[0]


def test_timeouts_and_deaths():
    import os
    import signal
    import time
    for t, d in BOTH:
        with pytest.raises(RuntimeError, match="DataLoader timed out after 1 seconds"):
            loaded(t, d, lambda i: time.sleep(2), timeout=1)
        with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid"):
            loaded(t, d, lambda i: os.kill(os.getpid(), signal.SIGKILL))


@pytest.mark.parametrize("name", [
    "DataLoader", "RandomSampler", "SequentialSampler", "SubsetRandomSampler", "BatchSampler",
    "WeightedRandomSampler", "DistributedSampler", "Sampler", "Subset", "StackDataset",
    "TensorDataset", "ConcatDataset", "ChainDataset", "random_split", "default_collate",
    "default_convert", "get_worker_info"])
def test_signatures(name):
    def of(d):
        return [(p.name, p.kind, p.default if p.default is None
                 or isinstance(p.default, (int, str, bool)) else "other")
                for p in inspect.signature(getattr(d, name)).parameters.values()]
    assert of(ours) == of(theirs)


def test_attributes():
    def program(t, d):
        loader = d.DataLoader([1, 2], 2, num_workers=2, timeout=3, worker_init_fn=print,
                              multiprocessing_context="fork", persistent_workers=True)
        return [loader.batch_size, loader.num_workers, loader.prefetch_factor, loader.timeout,
                loader.pin_memory, loader.drop_last, loader.persistent_workers, loader.in_order,
                loader.worker_init_fn is print, loader.generator, loader.pin_memory_device,
                loader.multiprocessing_context.get_start_method(),
                type(loader.sampler).__name__, type(loader.batch_sampler).__name__,
                {f.name for f in type(fields(d)).__dataclass_fields__.values()}]

    def fields(d):
        return d._utils.worker.WorkerInfo(0, 1, 2, None)
    check(program)
