"""torch.utils.data: datasets, samplers, and the loader that makes batches of them."""
from __future__ import annotations

from gpugrad.utils.data import _utils as _utils
from gpugrad.utils.data.collate import default_collate as default_collate
from gpugrad.utils.data.collate import default_convert as default_convert
from gpugrad.utils.data.dataloader import DataLoader as DataLoader
from gpugrad.utils.data.dataset import ChainDataset as ChainDataset
from gpugrad.utils.data.dataset import ConcatDataset as ConcatDataset
from gpugrad.utils.data.dataset import Dataset as Dataset
from gpugrad.utils.data.dataset import IterableDataset as IterableDataset
from gpugrad.utils.data.dataset import StackDataset as StackDataset
from gpugrad.utils.data.dataset import Subset as Subset
from gpugrad.utils.data.dataset import TensorDataset as TensorDataset
from gpugrad.utils.data.dataset import random_split as random_split
from gpugrad.utils.data.distributed import DistributedSampler as DistributedSampler
from gpugrad.utils.data.prefetching import prefetch as prefetch
from gpugrad.utils.data.sampler import BatchSampler as BatchSampler
from gpugrad.utils.data.sampler import RandomSampler as RandomSampler
from gpugrad.utils.data.sampler import Sampler as Sampler
from gpugrad.utils.data.sampler import SequentialSampler as SequentialSampler
from gpugrad.utils.data.sampler import SubsetRandomSampler as SubsetRandomSampler
from gpugrad.utils.data.sampler import WeightedRandomSampler as WeightedRandomSampler
from gpugrad.utils.data.worker_info import get_worker_info as get_worker_info
