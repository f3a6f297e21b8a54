"""Text in pictures: pages of what a language model writes, and text coloured by its surprise."""
from __future__ import annotations

import textwrap
from typing import Any

import matplotlib
import numpy as np

from pictures import FAINT, INK, SOFT, bare

CHARACTER = 0.602           # the width of a character in DejaVu Sans Mono, for a size of 1
SURPRISE = "YlOrBr"


def monospaced(axes: Any, columns: int) -> dict[str, Any]:
    """The font in which ``columns`` characters fill the axes' width."""
    inches = axes.get_position().width * axes.figure.get_figwidth()
    return {"family": "monospace", "size": inches * 72 / columns / CHARACTER, "parse_math": False}


def page(axes: Any, text: str, columns: int, rows: int) -> None:
    """As much of the text as fits, long lines folded."""
    lines = [part for line in text.splitlines()
             for part in textwrap.wrap(line, columns, drop_whitespace=False) or [""]]
    bare(axes)
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    for row, line in enumerate(lines[:rows]):
        axes.text(0, row + 0.5, line, color=INK, va="center", **monospaced(axes, columns))


def surprise(axes: Any, tokens: list[str], nats: np.ndarray, columns: int, rows: int) -> Any:
    """The tokens on a ground that is the darker the less they were expected; returns the scale.

    ``nats`` has minus the logarithm of each token's probability. A line ends at each "\\n".
    """
    ground = np.full((rows, columns), np.nan)
    font = monospaced(axes, columns)
    most = 8.0
    row = column = 0
    for token, value in zip(tokens, nats):
        shown = "¶" if token == "\n" else token
        if column + len(shown) > columns:
            row, column = row + 1, 0
        if row == rows:
            break
        ground[row, column:column + len(shown)] = value
        color = "white" if value > 0.6 * most else SOFT if token == "\n" else INK
        for i, sign in enumerate(shown):
            axes.text(column + i + 0.5, row + 0.5, sign, color=color, ha="center", va="center",
                      **font)
        column += len(shown)
        if token == "\n":
            row, column = row + 1, 0
            if row == rows:
                break
    scale = axes.pcolormesh(ground, cmap=SURPRISE, vmin=0, vmax=most, zorder=0)
    bare(axes, FAINT)
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    return scale


def surprise_panel(figure: Any, what: str, tokens: list[str], nats: np.ndarray) -> None:
    """The lower left of a picture: ``surprise`` under a title, with a scale of probabilities."""
    figure.text(0.045, 0.475, "What surprises it", size=10.5, weight="bold")
    figure.text(0.045, 0.453, f"text held out; {what}", color=SOFT)
    scale = surprise(figure.add_axes([0.045, 0.06, 0.475, 0.38]), tokens, nats, 72, 22)
    ticks = [1, 0.1, 0.01, 0.001]
    bar = figure.colorbar(scale, cax=figure.add_axes([0.4, 0.458, 0.12, 0.012]),
                          orientation="horizontal", ticks=[-np.log(p) for p in ticks])
    bar.ax.set_xticklabels([f"{100 * p:g} %" for p in ticks], size=7)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, pad=2)


def progress(figure: Any, samples: list[tuple[str, str]]) -> None:
    """The upper right of a picture: up to three pages of what was written, and when."""
    for i, (when, text) in enumerate(samples):
        top = 0.87 - i * 0.125
        figure.text(0.49, top + 0.006, f"What it writes {when}", size=10.5, weight="bold")
        page(figure.add_axes([0.49, top - 0.095, 0.475, 0.09]), text.strip("\n"), 76, 5)


def green() -> Any:
    """White to green, for attention."""
    return matplotlib.colors.LinearSegmentedColormap.from_list("green", ["white", "#0f766e"])
