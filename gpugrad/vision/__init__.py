"""Pictures: data sets, transforms, networks by torchvision's names (its 0.28 is what they follow).

    from gpugrad.vision import datasets, models, transforms, utils

What is different, because it works without Pillow and on whole batches: see ``transforms`` and
``datasets.VisionDataset``.
"""
from __future__ import annotations

from gpugrad import __version__ as __version__
from gpugrad.vision import datasets as datasets
from gpugrad.vision import models as models
from gpugrad.vision import transforms as transforms
from gpugrad.vision import utils as utils
