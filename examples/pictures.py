"""What the pictures of this folder have alike: colours, style, bare axes, and writing the file."""
from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

INK, SOFT, FAINT = "#1f2933", "#697586", "#e4e7eb"
TRAIN, TEST, WRONG = "#9aa5b1", "#0f766e", "#c2410c"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.size": 9, "text.color": INK, "axes.labelcolor": SOFT,
    "axes.edgecolor": "#cbd2d9", "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlelocation": "left", "axes.titlesize": 10.5, "axes.titleweight": "bold",
    "xtick.color": SOFT, "ytick.color": SOFT, "axes.grid": True, "axes.grid.axis": "y",
    "grid.color": FAINT, "axes.axisbelow": True,
}


def save(figure: Figure, path: Path) -> None:
    """Write a PNG by way of ``<path>.part``, so that no half of one is ever there."""
    part = path.with_name(path.name + ".part")
    figure.savefig(part, format="png", dpi=120)
    os.replace(part, path)


def heading(figure: Figure, title: str, below: str) -> None:
    """Two lines in the upper left corner; sizes are those of a figure 8 inches high."""
    height = figure.get_figheight()
    figure.text(0.045, 1 - 0.36 / height, title, size=17, weight="bold", va="center")
    figure.text(0.045, 1 - 0.62 / height, below, size=11, color=SOFT, va="center")


def bare(axes: Any, frame: str | None = None) -> None:
    """No ticks and no grid; no frame, or one of the given colour."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(frame is not None)
        spine.set_color(frame)


def mosaic(axes: Any, images: np.ndarray, title: str, gap: int = 2) -> None:
    """Grey images (rows, columns, h, w) from 0 (white) to 1 (black), side by side."""
    rows, columns, height, width = images.shape
    page = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap), np.float32)
    for y in range(rows):
        for x in range(columns):
            top, left = y * (height + gap), x * (width + gap)
            page[top:top + height, left:left + width] = images[y, x]
    axes.imshow(page, cmap="gray_r", vmin=0, vmax=1)
    axes.set_title(title)
    bare(axes)


def curves(axes: Any, steps: Iterable[float], lines: dict[str, list[float]], title: str,
           log: bool = False) -> None:
    """Lines of the same steps, each named in a legend: the first grey, the last green."""
    steps = list(steps)
    axes.set_title(title)
    for (name, values), color in zip(lines.items(), [TRAIN, TEST][-len(lines):]):
        axes.plot(steps, values, color=color, lw=1.8, marker="o",
                  ms=3 if len(steps) < 12 else 0, label=name)
    if len(lines) > 1:
        axes.legend(frameon=False, labelcolor="linecolor", handlelength=1.2)
    above = [value for values in lines.values() for value in values if value > 0]
    if log and above:                               # nothing is above 0 if all is nan
        axes.set_yscale("log")
        wide = max(above) > 20 * min(above)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", length=0)
