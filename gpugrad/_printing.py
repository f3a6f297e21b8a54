"""The text of a tensor, as PyTorch prints it: number formats, lines, summaries, suffixes."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad import dtypes

_PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}
_options: dict[str, Any] = {**_PROFILES["default"], "sci_mode": None}


def set_printoptions(precision: int | None = None, threshold: float | None = None,
                     edgeitems: int | None = None, linewidth: int | None = None,
                     profile: str | None = None, sci_mode: bool | None = None) -> None:
    """Set how tensors are printed; what isn't named stays, but for sci_mode.

    Args:
        precision: digits after the point (4).
        threshold: more elements than this are summarised (1000).
        edgeitems: how many elements of each end a summary shows (3).
        linewidth: characters a line (80).
        profile: "default", "short" or "full", under the values above.
        sci_mode: whether to use scientific notation; None lets the numbers decide.
    """
    _options.update(_PROFILES.get(profile or "", {}))
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems,
             "linewidth": linewidth}
    _options.update({name: value for name, value in given.items() if value is not None})
    _options["sci_mode"] = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The options of printing now, by name."""
    return dict(_options)


def tensor_text(array: Any, dtype: dtypes.dtype, device: str | None = None,
                grad_fn: str | None = None, requires_grad: bool = False,
                prefix: str = "tensor(") -> str:
    """The repr of a tensor: ``tensor([1., 2.], requires_grad=True)``.

    Args:
        array: its elements, a NumPy array; for device "meta" an array that has none.
        dtype: shown unless a tensor of such numbers would have it anyway.
        device: shown unless None.
        grad_fn: the name of the node that made it, if any.
        requires_grad: shown where there is no grad_fn.
        prefix: what opens the text; lines that follow are indented by its length.
    """
    default = dtypes.get_default_dtype()
    suffixes = []
    if device is not None:
        suffixes.append(f"device='{device}'")
    if device == "meta":
        body = "..."
        suffixes.append(f"size={array.shape}")
        plain: tuple[dtypes.dtype, ...] = (default,)
    elif array.size == 0:
        body = "[]"
        if array.ndim != 1:
            suffixes.append(f"size={array.shape}")
        plain = (default,)
    else:
        body = _body(array, len(prefix))
        plain = (default, default.to_complex(), dtypes.int64, dtypes.bool)
    if dtype not in plain:
        suffixes.append(f"dtype={dtype}")
    if grad_fn is not None:
        suffixes.append(f"grad_fn=<{grad_fn}>")
    elif requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes(prefix + body, suffixes, len(prefix)) + ")"


def _with_suffixes(text: str, suffixes: list[str], indent: int) -> str:
    used = len(text) - text.rfind("\n") + 1      # PyTorch counts two characters more than there are
    for suffix in suffixes:
        if used + len(", ") + len(suffix) > _options["linewidth"]:
            text += ",\n" + " " * indent + suffix
            used = indent + len(suffix)
        else:
            text += ", " + suffix
            used += len(", ") + len(suffix)
    return text


def _body(array: Any, indent: int) -> str:
    """The numbers in their brackets."""
    summarize = array.size > _options["threshold"]
    shown = _edges(array) if summarize else array
    if array.dtype.kind == "c":
        fmt, width = _complex_format(shown)
    else:
        fmt, width = _format(shown)
    return _nested(array, indent, summarize, fmt, width)


def _edges(array: Any) -> Any:
    """The elements that a summary shows."""
    edge = _options["edgeitems"]
    for dim, n in enumerate(array.shape):
        if n > 2 * edge:
            array = np.take(array, [*range(edge), *range(n - edge, n)], dim)
    return array


def _nested(array: Any, indent: int, summarize: bool, fmt: Callable[[Any], str],
            width: int) -> str:
    if array.ndim == 0:
        return fmt(array.item())
    edge = _options["edgeitems"]
    cut = summarize and len(array) > 2 * edge
    rows = [array[:edge], array[len(array) - edge:]] if cut else [array]
    if array.ndim == 1:
        parts = [[fmt(value) for value in row.tolist()] for row in rows]
        items = [*parts[0], " ...", *parts[1]] if cut else parts[0]
        per_line = max(1, (_options["linewidth"] - indent) // (width + len(", ")))
        lines = [", ".join(items[i:i + per_line]) for i in range(0, len(items), per_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    parts = [[_nested(a, indent + 1, summarize, fmt, width) for a in row] for row in rows]
    items = [*parts[0], "...", *parts[1]] if cut else parts[0]
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(items) + "]"


def _format(shown: Any) -> tuple[Callable[[Any], str], int]:
    """How to write numbers like these, all equally wide: (value -> text, width)."""
    if shown.dtype.kind not in dtypes.FLOATING:
        width = max([len(str(value)) for value in shown.ravel().tolist()], default=0)
        return lambda value: str(value).rjust(width), width

    # What decides is the finite numbers other than 0; 0, nan and inf take the format of the rest.
    values = shown[np.isfinite(shown) & (shown != 0)].astype(np.float64)
    whole = bool((values == np.ceil(values)).all())
    scientific = len(values) > 0 and _is_scientific(np.abs(values), whole)
    if _options["sci_mode"] is not None and len(values) > 0:
        scientific = bool(_options["sci_mode"])
    if scientific:
        spec, point = f".{_options['precision']}e", ""
    elif whole:
        spec, point = ".0f", "."
    else:
        spec, point = f".{_options['precision']}f", ""
    width = max([len(format(value, spec)) + len(point) for value in values.tolist()], default=1)

    def fmt(value: float) -> str:
        text = format(value, spec)
        return (text + point if math.isfinite(value) else text).rjust(width)
    return fmt, width


def _is_scientific(magnitudes: Any, whole: bool) -> bool:
    """Do numbers of these magnitudes take scientific notation?"""
    low, high = float(magnitudes.min()), float(magnitudes.max())
    return high / low > 1000.0 or high > 1e8 or (not whole and low < 1e-4)


def _complex_format(shown: Any) -> tuple[Callable[[Any], str], int]:
    real, real_width = _format(shown.real)
    imag, imag_width = _format(shown.imag)

    def fmt(value: complex) -> str:
        text = imag(value.imag).lstrip()
        return real(value.real) + ("" if text[0] in "+-" else "+") + text + "j"
    return fmt, real_width + imag_width + len("+j") - 1


def bytes_text(n: float) -> str:
    """How many bytes, in the unit that suits: 1.2 KB are 1200."""
    for unit in ("B", "KB", "MB"):
        if n < 1000:
            return f"{n:.0f} B" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.2f} GB"
