"""The picture of a training run on digits: curves, first-layer filters, and the mistakes."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from digits_data import Digits
from pictures import FAINT, SOFT, STYLE, TEST, TRAIN, WRONG, bare, save

ROWS, COLUMNS = 2, 9        # of digits in the lower half


def draw(path: Path, history: list[dict[str, float]], filters: np.ndarray, data: Digits,
         probabilities: np.ndarray) -> None:
    """Write the picture as a PNG; ``probabilities`` (n, 10) are the net's for the test images."""
    wrong = int((probabilities.argmax(1) != data.test_labels).sum())
    count, epochs = len(data.test_labels), len(history)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 8), facecolor="white")
        figure.text(0.045, 0.955, f"LeNet on {data.title}", size=17, weight="bold")
        figure.text(0.045, 0.925, f"{100 * (1 - wrong / count):.1f} % of {count:,} held-out digits "
                    f"read right after {epochs} epoch{'s' * (epochs > 1)}",
                    size=11, color=SOFT)
        top = figure.add_gridspec(1, 3, left=0.075, right=0.965, top=0.85, bottom=0.55,
                                  width_ratios=[1.3, 1.3, 0.62], wspace=0.22)
        _curves(figure.add_subplot(top[0]), history, "loss", "Cross entropy")
        _curves(figure.add_subplot(top[1]), history, "accuracy", "Accuracy")
        _filters(figure, top[2], filters)
        _digits(figure, data, probabilities, wrong)
        save(figure, path)


def _curves(axes: Any, history: list[dict[str, float]], key: str, title: str) -> None:
    """Training and test curve of one quantity, each named at its end."""
    epochs = np.arange(1, len(history) + 1)
    axes.set_title(title)
    for name, where, color in ("training", key, TRAIN), ("test", f"test_{key}", TEST):
        values = [entry[where] for entry in history]
        axes.plot(epochs, values, color=color, lw=1.8, marker="o", ms=3 if len(epochs) < 12 else 0,
                  label=name)
    axes.set_xlabel("epoch")
    room = max(0.5, 0.04 * len(epochs))
    axes.set_xlim(1 - room, len(epochs) + room)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, labelcolor="linecolor", handlelength=1.2,
                loc="upper right" if key == "loss" else "lower right")
    if key == "loss" and any(entry[key] > 0 for entry in history):      # not if all are nan
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", length=0)
    elif key == "accuracy":
        # The first epochs are far down; what matters happens near the top.
        late = [min(entry[key], entry[f"test_{key}"]) for entry in history[len(history) // 6:]]
        low = max(0.0, np.floor(20 * min(late)) / 20 - 0.05)
        axes.set_ylim(low, 1 + (1 - low) * 0.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _filters(figure: Any, place: Any, filters: np.ndarray) -> None:
    """The kernels of the first layer, two in a row, on a scale with 0 in the middle."""
    grid = place.subgridspec(-(-len(filters) // 2), 2, wspace=0.08, hspace=0.1)
    most = float(np.abs(filters).max())
    for cell, kernel in zip(grid, filters):
        axes = figure.add_subplot(cell)
        axes.imshow(kernel[0], cmap="BrBG", vmin=-most, vmax=most)
        bare(axes, frame=FAINT)
        axes.set_anchor("W" if cell.colspan.start else "E")
    corner = place.get_position(figure)
    figure.text(corner.x0, corner.y1 + 0.012, "First-layer filters", size=10.5, weight="bold")
    figure.text(corner.x0, corner.y0 - 0.035, "green adds, brown takes away", size=8, color=SOFT)


def _digits(figure: Any, data: Digits, probabilities: np.ndarray, wrong: int) -> None:
    """The misread digits, the most confident mistake first; then those it was least sure of."""
    labels, read = data.test_labels, probabilities.argmax(1)
    order = np.lexsort((np.where(read == labels, 1, -1) * probabilities.max(1), read == labels))
    shown = order[:ROWS * COLUMNS]
    mistakes = min(wrong, len(shown))

    figure.text(0.045, 0.462, f"Misread: {wrong:,} of {len(labels):,}", size=10.5, weight="bold",
                color=WRONG if wrong else TEST)
    rest = len(shown) - mistakes
    what = (f"in green the {rest} right answers it was least sure of" if rest
            else f"the {mistakes} most confident mistakes")
    figure.text(0.965, 0.462, f"{what}; bars: its probabilities of 0 to 9", color=SOFT, ha="right")
    grid = figure.add_gridspec(ROWS, COLUMNS, left=0.045, right=0.965, top=0.42, bottom=0.045,
                               wspace=0.28, hspace=0.32)
    for place, i in zip(grid, shown):
        cell = place.subgridspec(2, 1, height_ratios=[3.2, 1], hspace=0.1)
        color = TEST if read[i] == labels[i] else WRONG
        axes = figure.add_subplot(cell[0])
        axes.imshow(data.test_images[i, 0], cmap="Greys", vmin=0, vmax=1)
        bare(axes, frame=FAINT if color is TEST else WRONG)
        axes.set_title(f"{labels[i]} read as {read[i]}" if color is WRONG else f"{labels[i]}",
                       loc="center", size=9, color=color, pad=3)
        _probabilities(figure.add_subplot(cell[1]), probabilities[i], labels[i], read[i])


def _probabilities(axes: Any, p: np.ndarray, label: int, read: int) -> None:
    """Ten bars: green for the truth, orange for a wrong reading."""
    colors = [TEST if k == label else WRONG if k == read else "#b8c2cc" for k in range(10)]
    axes.bar(range(10), p, color=colors, width=0.8)
    axes.set_ylim(0, 1)
    axes.set_xlim(-0.7, 9.7)
    bare(axes)
    axes.spines["bottom"].set_visible(True)
    axes.spines["bottom"].set_color(FAINT)
    axes.set_xticks(sorted({label, read}))
    axes.tick_params(length=0, pad=1, labelsize=7)
