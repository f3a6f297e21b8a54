"""Small colour images in ten classes: CIFAR-10's own files, or shapes drawn on the spot."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpugrad.vision import datasets
from program import DataError

SIZE = 32


@dataclass
class Images:
    """Images (n, 3, 32, 32) as bytes, their labels (n,), and the classes' names."""

    title: str
    names: list[str]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def cifar10(folder: Path) -> Images:
    """CIFAR-10 from ``folder``: the archive as it is downloaded, or what was unpacked of it.

    Raises DataError if a file is missing or corrupt; the message says what is wanted.
    """
    try:
        train, test = (datasets.CIFAR10(folder, train) for train in (True, False))
    except (OSError, RuntimeError) as problem:
        raise DataError(f"{problem}\nCIFAR-10 is one archive in {folder}, or its files unpacked "
                        f"there or in a folder {datasets.CIFAR10.base_folder}:\n"
                        f"  {datasets.CIFAR10.url}\nOr try --synthetic, which needs no files."
                        ) from None
    arrays = []
    for data in train, test:
        arrays += [data.data.transpose(0, 3, 1, 2), np.array(data.targets)]
    return Images("CIFAR-10", train.classes, *arrays)


# Shapes ------------------------------------------------------------------------------------------

SHAPES = ["disc", "square", "triangle", "ring", "cross"]


def shapes(train: int, test: int, seed: int = 0) -> Images:
    """Five shapes, each in warm and in cold colours, of any size, place and turn, among noise."""
    rng = np.random.default_rng(seed)
    names = [f"{colour} {shape}" for shape in SHAPES for colour in ("warm", "cold")]
    labels = [rng.permutation(np.arange(n) % 10) for n in (train, test)]
    images = [np.stack([_drawn(rng, label) for label in each]) for each in labels]
    return Images("coloured shapes", names, images[0], labels[0], images[1], labels[1])


def _drawn(rng: np.random.Generator, label: int) -> np.ndarray:
    """One image (3, 32, 32) in bytes."""
    radius, angle = rng.uniform(7, 11.5), rng.uniform(-0.5, 0.5)
    centre = rng.uniform(radius - 2, SIZE - radius + 1, 2)
    y, x = (np.mgrid[:SIZE, :SIZE] - centre[:, None, None]) / radius
    x, y = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    inside = np.clip(0.5 - _distance(SHAPES[label // 2], x, y) * radius, 0, 1)     # smooth edges
    hue = rng.uniform(-0.06, 0.14) if label % 2 == 0 else rng.uniform(0.45, 0.72)
    ground = _colour(rng.uniform(), rng.uniform(0, 0.5), rng.uniform(0.2, 0.9))
    light = 1 + 0.25 * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1))[None]
    shape = _colour(hue, rng.uniform(0.6, 1), rng.uniform(0.6, 1))
    image = (inside * shape + (1 - inside) * ground) * light + rng.normal(0, 0.05, (3, SIZE, SIZE))
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def _distance(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """About how far a point is outside of a shape of radius 1; negative inside."""
    if shape == "disc":
        return np.hypot(x, y) - 0.9
    if shape == "square":
        return np.maximum(abs(x), abs(y)) - 0.8
    if shape == "triangle":
        return np.maximum(0.87 * abs(x) - 0.5 * y, y) - 0.5
    if shape == "ring":
        return abs(np.hypot(x, y) - 0.72) - 0.22
    arms = np.minimum(np.maximum(abs(x) - 0.28, abs(y) - 0.95),
                      np.maximum(abs(y) - 0.28, abs(x) - 0.95))
    return arms


def _colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """Hue, saturation and value from 0 to 1 as red, green and blue (3, 1, 1)."""
    around = np.clip(abs((hue + np.array([0, 2 / 3, 1 / 3])) % 1 * 6 - 3) - 1, 0, 1)
    return (value * (1 - saturation * (1 - around)))[:, None, None]
