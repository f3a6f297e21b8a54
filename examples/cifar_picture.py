"""The picture of a run on CIFAR-10: curves, filters, confusions, mistakes, and moved images."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from cifar_data import Images
from pictures import FAINT, INK, SOFT, STYLE, TEST, WRONG, bare, curves, heading, save

MISTAKES = (3, 4)           # rows and columns


def draw(path: Path, history: list[dict[str, float]], data: Images, probabilities: np.ndarray,
         filters: np.ndarray, moved: list[np.ndarray]) -> None:
    """Write the picture as a PNG.

    probabilities (n, 10) are the net's for the test images; moved has, several times, the first
    training images (m, 3, 32, 32) as they were augmented.
    """
    labels, epochs = data.test_labels, len(history)
    right = float((probabilities.argmax(1) == labels).mean())
    with matplotlib.rc_context(STYLE):
        figure: Any = Figure(figsize=(13, 9.5), facecolor="white")
        heading(figure, f"ResNet-18 on {data.title}",
                f"{100 * right:.1f} % of {len(labels):,} held-out images named right after "
                f"{epochs} epoch{'s' * (epochs > 1)}")
        places = figure.add_gridspec(1, 3, left=0.065, right=0.72, top=0.86, bottom=0.61,
                                     wspace=0.25)
        for place, (key, title) in zip(places, [("loss", "Cross entropy"),
                                                ("accuracy", "Accuracy"), ("lr", "Learning rate")]):
            axes = figure.add_subplot(place)
            lines = {"training": [entry[key] for entry in history]}
            if key != "lr":
                lines["test"] = [entry[f"test_{key}"] for entry in history]
            curves(axes, range(1, epochs + 1), lines, title, log=key == "loss")
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if key == "accuracy":
                axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        _filters(figure, filters, [0.775, 0.61, 0.18, 0.225])
        _confusions(figure, data.names, labels, probabilities.argmax(1), [0.12, 0.105, 0.3, 0.355])
        _mistakes(figure, data, probabilities, [0.475, 0.06, 0.27, 0.4])
        _moved(figure, data.train_images, moved, [0.775, 0.06, 0.18, 0.4])
        save(figure, path)


def _title(figure: Any, place: list[float], title: str, below: str = "") -> None:
    left, top = place[0], place[1] + place[3]
    figure.text(left, top + 0.038, title, size=10.5, weight="bold", color=INK)
    figure.text(left, top + 0.016, below, size=8, color=SOFT)


def _tiles(images: np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Images (n, h, w, 3) in rows, with white lines between them."""
    n, height, width, _ = images.shape
    rows = -(-n // columns)
    board = np.ones((rows * (height + gap) - gap, columns * (width + gap) - gap, 3))
    for i, image in enumerate(images):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        board[y:y + height, x:x + width] = image
    return board


def _filters(figure: Any, filters: np.ndarray, place: list[float]) -> None:
    """Kernels (n, 3, 3, 3) as colours: grey is 0."""
    most = float(np.abs(filters).max()) or 1.0
    shown = 0.5 + filters.transpose(0, 2, 3, 1) / (2 * most)
    _title(figure, place, "First-layer filters", "red, green and blue; grey adds nothing")
    axes = figure.add_axes(place, anchor="NW")
    shown = np.nan_to_num(shown.repeat(5, 1).repeat(5, 2), nan=0.5)
    axes.imshow(_tiles(shown, max(1, round(len(shown) ** 0.5)), gap=3), interpolation="nearest")
    bare(axes)


def _confusions(figure: Any, names: list[str], labels: np.ndarray, read: np.ndarray,
                place: list[float]) -> None:
    """A row for each class: in percent, what its images were taken for."""
    table = np.zeros((10, 10))
    np.add.at(table, (labels, read), 1)
    share = 100 * table / np.maximum(table.sum(1, keepdims=True), 1)
    off = share * (1 - np.eye(10))
    _title(figure, [0.045, *place[1:]], "What is taken for what",
           "a row for each class, in percent")
    axes = figure.add_axes(place)
    axes.imshow(np.where(np.eye(10) > 0, np.nan, off), cmap="Oranges", vmin=0,
                vmax=max(10.0, off.max() * 1.2), aspect="auto")
    axes.imshow(np.where(np.eye(10) > 0, share, np.nan), cmap="Greens", vmin=0, vmax=180,
                aspect="auto")
    for i, j in np.ndindex(10, 10):
        if share[i, j] >= 0.5:
            axes.text(j, i, f"{share[i, j]:.0f}", ha="center", va="center", size=8, color=INK)
    bare(axes, FAINT)
    axes.set_xticks(range(10), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(10), names)
    axes.tick_params(length=0)


def _mistakes(figure: Any, data: Images, probabilities: np.ndarray, place: list[float]) -> None:
    """The most confident mistakes; if there are fewer, the right answers it was least sure of."""
    read, labels = probabilities.argmax(1), data.test_labels
    sure = probabilities.max(1)
    order = np.lexsort((np.where(read == labels, sure, -sure), read == labels))
    rows, columns = MISTAKES
    wrong = int((read != labels).sum())
    _title(figure, place, f"Mistaken: {wrong:,} of {len(labels):,}",
           "what it is → what it was taken for" if wrong >= rows * columns
           else "in green: right, but it was least sure")
    left, bottom, width, height = place
    grid = figure.add_gridspec(rows, columns, left=left, right=left + width, bottom=bottom,
                               top=bottom + height, wspace=0.12, hspace=0.42)
    for cell, i in zip(grid, order):
        axes = figure.add_subplot(cell)
        color = TEST if read[i] == labels[i] else WRONG
        axes.imshow(data.test_images[i].transpose(1, 2, 0))
        bare(axes, color)
        said = "" if read[i] == labels[i] else f"\n→ {data.names[read[i]]}"
        axes.set_xlabel(f"{data.names[labels[i]]}{said}", size=7, color=color, labelpad=2)


def _moved(figure: Any, images: np.ndarray, moved: list[np.ndarray], place: list[float]) -> None:
    """Training images in the first column, and how the net gets to see them in the others."""
    _title(figure, place, "What it learns from",
           "images, and how they are moved and mirrored")
    rows = np.stack([images[:len(moved[0])], *moved], 1).reshape(-1, *images.shape[1:])
    axes = figure.add_axes(place, anchor="NW")
    axes.imshow(_tiles(rows.transpose(0, 2, 3, 1) / 255, len(moved) + 1, gap=2))
    bare(axes)
