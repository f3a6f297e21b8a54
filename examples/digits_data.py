"""Handwritten digits as 32x32 images: scikit-learn's 1,797, or MNIST's own files."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpugrad.vision import datasets, transforms
from program import DataError

SIZE = 32


@dataclass
class Digits:
    """Grey images (n, 1, 32, 32), float32 from 0 (paper) to 1 (ink), and their labels (n,)."""

    title: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    def shortened(self, train: int, test: int) -> Digits:
        """The first ``train`` and ``test`` images only."""
        return Digits(self.title, self.train_images[:train], self.train_labels[:train],
                      self.test_images[:test], self.test_labels[:test])


def scikit_learn_digits() -> Digits:
    """scikit-learn's digits, enlarged from 8x8; a fifth of every class is held out for the test."""
    return _digits("scikit-learn's digits", transforms.Resize(SIZE),
                   [datasets.Digits(train) for train in (True, False)])


def mnist(folder: Path) -> Digits:
    """MNIST's 60,000 and 10,000 digits in a border of two pixels; what isn't there is downloaded.

    Raises DataError if a file is corrupt or can't be had; the message names all four.
    """
    try:
        sets = [datasets.MNIST(folder, train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as problem:
        files = "".join(f"\n  {name}" for name, _ in datasets.MNIST.resources)
        raise DataError(f"{problem}\nMNIST is these four files in {folder}, unpacked or not:"
                        f"{files}") from None
    return _digits("MNIST", transforms.Pad(2), sets)


def _digits(title: str, transform: Any, sets: list[Any]) -> Digits:
    """The digits of two sets, transformed to 32x32."""
    arrays = []
    for images, labels in (data.tensors() for data in sets):
        arrays += [transform(images).numpy(), labels.numpy()]
    return Digits(title, *arrays)
