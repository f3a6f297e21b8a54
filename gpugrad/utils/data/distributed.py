"""DistributedSampler: the part of a dataset that one of several processes looks at."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from gpugrad.random import Generator
from gpugrad.sampling import randperm
from gpugrad.utils.data.sampler import Sampler


class DistributedSampler(Sampler[int]):
    """Every num_replicas-th index, beginning with ``rank``; in an order that all agree on.

    num_replicas and rank must be given, as gpugrad itself knows of no other processes. drop_last:
    leave out what doesn't divide evenly, instead of repeating some. Call ``set_epoch`` before each
    epoch, or they all have the same order.
    """

    def __init__(self, dataset: Any, num_replicas: int | None = None, rank: int | None = None,
                 shuffle: bool = True, seed: int = 0, drop_last: bool = False) -> None:
        if num_replicas is None or rank is None:
            raise RuntimeError("Requires distributed package to be available: pass num_replicas "
                               "and rank")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"Invalid rank {rank}, rank should be in the interval "
                             f"[0, {num_replicas - 1}]")
        self.dataset, self.num_replicas, self.rank = dataset, num_replicas, rank
        self.epoch, self.seed = 0, seed
        self.shuffle, self.drop_last = shuffle, drop_last
        n = len(dataset)
        whole = drop_last and n % num_replicas
        self.num_samples = math.ceil((n - num_replicas) / num_replicas) if whole else \
            math.ceil(n / num_replicas)
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[int]:
        n = len(self.dataset)
        if self.shuffle:
            generator = Generator().manual_seed(self.seed + self.epoch)
            indices = randperm(n, generator=generator).tolist()
        else:
            indices = list(range(n))
        if self.drop_last:
            indices = indices[:self.total_size]
        elif indices:
            indices = (indices * math.ceil(self.total_size / n))[:self.total_size]
        return iter(indices[self.rank:self.total_size:self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """The order is another one in each epoch."""
        self.epoch = epoch
