"""Images, sequences and volumes in another size."""
from __future__ import annotations

import math
import warnings
from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.dtypes import type_name
from gpugrad.functions.pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from gpugrad.ops.resize import CUBIC, EXACT, LINEAR, NEAREST, Line

_MEANS = {3: adaptive_avg_pool1d, 4: adaptive_avg_pool2d, 5: adaptive_avg_pool3d}
_KINDS = {"nearest": (NEAREST, (3, 4, 5)), "nearest-exact": (EXACT, (3, 4, 5)),
          "linear": (LINEAR, (3,)), "bilinear": (LINEAR, (4,)), "trilinear": (LINEAR, (5,)),
          "bicubic": (CUBIC, (4,)), "area": ("", (3, 4, 5))}
_SMOOTH = ("linear", "bilinear", "bicubic", "trilinear", "lanczos")


def interpolate(input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
                antialias: bool = False) -> Tensor:
    """(n, c, ...) in another size, or times scale_factor: one number, or one for each dim.

    mode: "nearest" and "nearest-exact"; "linear", "bilinear", "trilinear" for one, two, three dims;
    "bicubic"; "area" for means. align_corners: the centres of the corner elements stay in the
    corners, not the elements' outer edges. antialias ("bilinear", "bicubic"): as Pillow does where
    images shrink. recompute_scale_factor: use the scale that the rounded size has.
    """
    if mode in ("nearest", "area", "nearest-exact"):
        if align_corners is not None:
            raise ValueError("align_corners option can only be set with the interpolating modes: "
                             "linear | bilinear | bicubic | trilinear")
    elif align_corners is None:
        align_corners = False
    n = input.ndim - 2
    size, scales = _sizes(input, n, size, scale_factor)
    if recompute_scale_factor is not None and recompute_scale_factor and size is not None:
        raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
    if size is None:
        size = tuple([math.floor(float(s) * f) for s, f in zip(input.shape[2:], scales)])
        if mode == "area" or recompute_scale_factor:
            scales = None
    if antialias and not (mode in ("bilinear", "bicubic", "lanczos") and input.ndim == 4):
        raise ValueError("Anti-alias option is restricted to bilinear, bicubic, and lanczos modes "
                         "and requires a 4-D tensor as input")
    _check(input, size, mode)
    if mode == "area":
        return _MEANS[input.ndim](input, size)
    return _resample(input, size, scales, mode, bool(align_corners), antialias)


def _sizes(x: Tensor, n: int, size: Any, scale_factor: Any) -> tuple[Any, Any]:
    """(size, None) or (None, scale factors), one for each dim."""
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    value, what = (scale_factor, "scale_factor") if size is None else (size, "output size")
    if not isinstance(value, list | tuple):
        value = (value,) * n
    elif len(value) != n:
        raise ValueError("Input and output must have the same number of spatial dimensions, but "
                         f"got input with spatial dimensions of {list(x.shape[2:])} and {what} of "
                         f"{value}. Please provide input tensor in (N, C, d1, d2, ...,dK) format "
                         "and " + ("scale_factor in (s1, s2, ...,sK) format." if size is None else
                                   "output size in (o1, o2, ...,oK) format."))
    if size is None:
        return None, tuple([float(v) for v in value])
    if not all(hasattr(v, "__index__") for v in value):
        raise TypeError(f"expected size to be one of int or Tuple[int] or Tuple[int, int] or "
                        f"Tuple[int, int, int], but got size with types "
                        f"{[type(v) for v in value]}")
    return tuple([v.__index__() for v in value]), None


def _check(x: Tensor, size: Any, mode: str) -> None:
    if mode == "lanczos":
        raise NotImplementedError("interpolate with mode='lanczos' is not supported: use 'bicubic' "
                                  "with antialias=True")
    dims = _KINDS.get(mode, ("", ()))[1]
    if x.ndim not in dims:
        if 3 <= x.ndim <= 5 and mode in ("linear", "bilinear", "trilinear"):
            raise NotImplementedError(f"Got {x.ndim}D input, but {mode} mode needs {dims[0]}D "
                                      "input")
        raise NotImplementedError("Input Error: Only 3D, 4D and 5D input Tensors supported (got "
                                  f"{x.ndim}D) for the modes: nearest | linear | bilinear | "
                                  "bicubic | trilinear | lanczos | area | nearest-exact (got "
                                  f"{mode})")
    if min(size) <= 0 or 0 in x.shape[2:]:
        raise RuntimeError("Input and output sizes should be greater than 0, but got input "
                           f"{list(x.shape[2:])} output {list(size)}")
    if x.shape[1] == 0:
        raise RuntimeError("Non-empty input tensor expected but got a tensor with sizes "
                           f"{list(x.shape)}")
    kind = x.dtype
    if not kind.is_floating_point and not (kind.name == "uint8" and mode.startswith("nearest")):
        raise NotImplementedError(f'"upsample_{mode}" not implemented for '
                                  f"'{type_name(kind.np)}': convert the input, as in x.float()")


def _resample(x: Tensor, size: Any, scales: Any, mode: str, align: bool, antialias: bool) -> Tensor:
    kind = _KINDS[mode][0]
    wide = x.dtype.name == "float64" and kind not in (NEAREST, EXACT)
    steps = [None] * len(size) if scales is None else [1 / f if f > 0 else None for f in scales]
    lines = tuple([Line(n, m, kind, align, antialias, step, "float64" if wide else "float32")
                   for n, m, step in zip(x.shape[2:], size, steps)])
    return T.resample(x, lines=lines)


def upsample(input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
             align_corners: bool | None = None) -> Tensor:
    """The old name of interpolate."""
    warnings.warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` "
                  "instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """The old name of interpolate with mode "nearest"."""
    warnings.warn("`nn.functional.upsample_nearest` is deprecated. Use "
                  "`nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """The old name of interpolate with mode "bilinear" and align_corners."""
    warnings.warn("`nn.functional.upsample_bilinear` is deprecated. Use "
                  "`nn.functional.interpolate` instead.", stacklevel=2)
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)
