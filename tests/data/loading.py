"""Datasets and functions that worker processes import, for the tests of DataLoader's workers."""
from __future__ import annotations

import os
import random
import signal
import time

import numpy as np

import gpugrad as torch
from gpugrad.utils.data import Dataset, IterableDataset, get_worker_info


class Rows(Dataset):
    """Sample i is a row of i's, and i. What it does for index ``at`` is ``deed``."""

    def __init__(self, n=12, size=4, deed=None, at=5):
        self.n, self.size, self.deed, self.at = n, size, deed, at

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if i == self.at and self.deed is not None:
            self.deed(i)
        return torch.full((self.size,), float(i)), i


class Workers(Dataset):
    """Who loads: (process id, worker's id, their number, seed, length of the dataset)."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        info = get_worker_info()
        return os.getpid(), info.id, info.num_workers, info.seed, len(info.dataset)


class Drawn(Dataset):
    """Random numbers of a worker's three generators."""

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return random.random(), float(np.random.rand()), torch.rand(()).item()


class Shared(IterableDataset):
    """0 ... n - 1, dealt out to the workers."""

    def __init__(self, n=11, length=None, deed=None):
        self.n, self.length, self.deed = n, length, deed

    def __len__(self):
        return self.length

    def __iter__(self):
        info = get_worker_info()
        for i in range(info.id, self.n, info.num_workers):
            if i == 7 and self.deed is not None:
                self.deed(i)
            yield i


class Picky(Exception):
    """Wants two arguments."""

    def __init__(self, a, b):
        super().__init__(a, b)


def value_error(i):
    raise ValueError(f"bad sample {i}")


def key_error(i):
    raise KeyError(f"no {i}")


def picky(i):
    raise Picky(1, 2)


def unpicklable(i):
    class Local(Exception):
        pass
    raise Local("here")


def leave(i):
    os._exit(3)


def leave_politely(i):
    raise SystemExit(4)


def die(i):
    os.kill(os.getpid(), signal.SIGKILL)


def sleep(i):
    time.sleep(100)


def sleep_stubbornly(i):
    while True:
        try:
            time.sleep(100)
        except BaseException:
            pass


def use_cuda(i):
    torch.ones(2, device="cuda")


def bad_init(i):
    raise LookupError(f"worker {i} can't start")


def init(i):
    torch.manual_seed(100 + i)


def ragged(samples):
    return torch.stack([torch.zeros(i + 1) for _, i in samples])


def odd_shapes(samples):
    """Tensors in every memory order, of several dtypes; and what is no tensor."""
    n = len(samples)
    x = torch.arange(n * 6000.0).reshape(n, 20, 300)
    return {"t": x.transpose(1, 2), "cut": x[:, ::2, 1:], "wide": torch.ones(1).expand(30000),
            "empty": torch.zeros(0, 3), "scalar": torch.tensor(3.5), "bool": torch.ones(3) > 0,
            "half": torch.ones(20000).half(), "array": np.arange(9000).reshape(3, 3000).T,
            "text": "x" * 50000, "bytes": b"y" * 50000, "names": ["a", "b"], "none": None,
            "leaf": torch.ones(9000, requires_grad=True),
            "complex": torch.ones(3, dtype=torch.complex64)}


def recorded(samples):
    return (torch.ones(2, requires_grad=True) * 2,)


def a_function(samples):
    return lambda: None


class Cached(Dataset):
    """Hands out the same collated batch again and again."""

    def __init__(self):
        self.batch = None

    def __len__(self):
        return 6

    def __getitem__(self, i):
        if self.batch is None:
            self.batch = torch.utils.data.default_collate([torch.arange(10000.0)] * 2)
        return self.batch
