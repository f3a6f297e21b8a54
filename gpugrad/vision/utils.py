"""Several pictures as one: ``make_grid``, ``save_image``."""
from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, BinaryIO

from gpugrad import Tensor, cat, is_tensor, no_grad, stack, uint8
from gpugrad.vision.transforms.functional import pillow


@no_grad()
def make_grid(tensor: Tensor | Sequence[Tensor], nrow: int = 8, padding: int = 2,
              normalize: bool = False, value_range: tuple[float, float] | None = None,
              scale_each: bool = False, pad_value: float = 0.0) -> Tensor:
    """Pictures (n, c, h, w), or a list of (c, h, w), side by side: (c, H, W), nrow in a row.

    padding: pixels between them, of pad_value. normalize: to 0 ... 1 from value_range, or from the
    least and the largest number, with scale_each those of each picture. Gray becomes RGB.
    """
    if not is_tensor(tensor):
        if not isinstance(tensor, (list, tuple)) or not all(map(is_tensor, tensor)):
            raise TypeError(f"tensor or list of tensors expected, got {type(tensor)}")
        tensor = stack(tensor, 0)
    x: Any = tensor
    x = x[(None,) * (4 - x.dim())] if x.dim() in (2, 3) else x
    if x.dim() == 4 and x.size(1) == 1:
        x = cat((x, x, x), 1)
    if normalize:
        if value_range is not None and not isinstance(value_range, tuple):
            raise TypeError("value_range has to be a tuple (min, max) if specified. min and max "
                            "are numbers")
        x = x.clone()
        for part in x if scale_each else [x]:
            low, high = value_range or (float(part.min()), float(part.max()))
            part.clamp_(low, high).sub_(low).div_(max(high - low, 1e-5))
    n, c, h, w = x.shape
    if n == 1:
        return x.squeeze(0)
    across = min(nrow, n)
    h, w = h + padding, w + padding
    grid = x.new_full((c, h * math.ceil(n / across) + padding, w * across + padding), pad_value)
    for i in range(n):
        top, left = i // across * h + padding, i % across * w + padding
        grid[:, top:top + h - padding, left:left + w - padding] = x[i]
    return grid


@no_grad()
def save_image(tensor: Tensor | Sequence[Tensor], fp: str | os.PathLike[str] | BinaryIO,
               format: str | None = None, **kwargs: Any) -> None:
    """Writes make_grid's picture of numbers from 0 to 1 to a file, by Pillow; kwargs: make_grid's.

    format: such as "png"; otherwise the file's name says it.
    """
    if pillow() is None:
        raise ImportError("save_image needs Pillow: pip install pillow")
    grid = make_grid(tensor, **kwargs)
    bytes_ = grid.mul(255).add_(0.5).clamp_(0, 255).permute(1, 2, 0).to("cpu", uint8).numpy()
    pillow().fromarray(bytes_).save(fp, format=format)
