"""Transforms of pictures: PIL images, or tensors [..., C, H, W].

As in torchvision, a random transform draws once for a whole batch; with ``per_image=True``, which
some here have, it draws for each image of a batch [N, C, H, W] and transforms all of them at once.
ToTensor takes tensors of bytes, too, so that one pipeline serves images, batches, and data sets
where Pillow isn't installed.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from numbers import Number
from typing import Any

import numpy as np

import gpugrad as torch
from gpugrad import nn
from gpugrad._tensor import Tensor
from gpugrad.vision.transforms import functional as F
from gpugrad.vision.transforms.functional import InterpolationMode as InterpolationMode


def _listed(self: Any, *lines: str) -> str:
    """The repr of what holds transforms."""
    return "\n    ".join([f"{type(self).__name__}(", *lines, *map(str, self.transforms)]) + "\n)"


class Compose:
    """One transform after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, img: Any) -> Any:
        for t in self.transforms:
            img = t(img)
        return img

    __repr__ = _listed


class RandomApply(nn.Module):
    """All of the transforms with probability ``p``, else none."""

    def __init__(self, transforms: Any, p: float = 0.5) -> None:
        super().__init__()
        self.transforms, self.p = transforms, p

    def forward(self, img: Any) -> Any:
        return img if self.p < torch.rand(1) else Compose(self.transforms)(img)

    def __repr__(self) -> str:
        return _listed(self, f"p={self.p}")


class Lambda:
    """A function of the user's."""

    def __init__(self, lambd: Callable[[Any], Any]) -> None:
        if not callable(lambd):
            raise TypeError(f"Argument lambd should be callable, got {type(lambd).__name__!r}")
        self.lambd = lambd

    def __call__(self, img: Any) -> Any:
        return self.lambd(img)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class ToTensor(Lambda):
    """functional.to_tensor."""

    def __init__(self) -> None:
        super().__init__(F.to_tensor)


class PILToTensor(Lambda):
    """functional.pil_to_tensor."""

    def __init__(self) -> None:
        super().__init__(F.pil_to_tensor)


class ConvertImageDtype(nn.Module):
    """functional.convert_image_dtype."""

    def __init__(self, dtype: Any) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, image: Any) -> Any:
        return F.convert_image_dtype(image, self.dtype)


class _Transform(nn.Module):
    """Keeps what it is given, and shows it in its repr."""

    per_image = False
    _rounded: tuple[str, ...] = ()

    def __init__(self, **shown: Any) -> None:
        super().__init__()
        self._shown = list(shown)
        self.__dict__.update(shown)

    def __repr__(self) -> str:
        shown = []
        for name in self._shown:
            x = getattr(self, name)
            x = tuple(round(v, 4) for v in x) if name in self._rounded else getattr(x, "value", x)
            shown.append(f"{name}={x}")
        return f"{type(self).__name__}({', '.join(shown + ['per_image=True'] * self.per_image)})"

    def _each(self, img: Any) -> bool:
        """Whether to draw for each image."""
        return self.per_image and isinstance(img, Tensor) and img.ndim == 4


class Normalize(_Transform):
    """functional.normalize."""

    def __init__(self, mean: Any, std: Any, inplace: bool = False) -> None:
        super().__init__(mean=mean, std=std)
        self.inplace = inplace

    def forward(self, tensor: Any) -> Any:
        return F.normalize(tensor, self.mean, self.std, self.inplace)


class Grayscale(_Transform):
    """functional.rgb_to_grayscale."""

    def __init__(self, num_output_channels: int = 1) -> None:
        super().__init__(num_output_channels=num_output_channels)

    def forward(self, img: Any) -> Any:
        return F.rgb_to_grayscale(img, self.num_output_channels)


# Sizes and places --------------------------------------------------------------------------------

class Resize(_Transform):
    """functional.resize."""

    def __init__(self, size: Any, interpolation: Any = InterpolationMode.BILINEAR,
                 max_size: int | None = None, antialias: bool | None = True) -> None:
        if not isinstance(size, (int, Sequence)):
            raise TypeError(f"Size should be int or sequence. Got {type(size)}")
        if isinstance(size, Sequence) and len(size) not in (1, 2):
            raise ValueError("If size is a sequence, it should have 1 or 2 values")
        super().__init__(size=size, interpolation=F.interpolation_mode(interpolation),
                         max_size=max_size, antialias=antialias)

    def forward(self, img: Any) -> Any:
        return F.resize(img, self.size, self.interpolation, self.max_size, self.antialias)


class CenterCrop(_Transform):
    """functional.center_crop."""

    def __init__(self, size: Any) -> None:
        super().__init__(size=F.two(size))

    def forward(self, img: Any) -> Any:
        return F.center_crop(img, self.size)


class Pad(_Transform):
    """functional.pad."""

    def __init__(self, padding: Any, fill: Any = 0, padding_mode: str = "constant") -> None:
        F.sides(padding, padding_mode)
        if not isinstance(fill, (Number, tuple, list)):
            raise TypeError("Got inappropriate fill arg")
        super().__init__(padding=padding, fill=fill, padding_mode=padding_mode)

    def forward(self, img: Any) -> Any:
        return F.pad(img, self.padding, self.fill, self.padding_mode)


class RandomHorizontalFlip(_Transform):
    """Left and right exchanged, with probability ``p``."""

    _flip = staticmethod(F.hflip)

    def __init__(self, p: float = 0.5, *, per_image: bool = False) -> None:
        super().__init__(p=p)
        self.per_image = per_image

    def forward(self, img: Any) -> Any:
        if self._each(img):
            chosen = torch.rand(len(img), 1, 1, 1, device="cpu") < self.p
            return torch.where(chosen.to(img.device), self._flip(img), img)
        return self._flip(img) if torch.rand(1) < self.p else img


class RandomVerticalFlip(RandomHorizontalFlip):
    """Top and bottom exchanged, with probability ``p``."""

    _flip = staticmethod(F.vflip)


def _place(*rooms: int) -> Any:
    """A whole number below each of ``rooms``."""
    return tuple(torch.randint(0, int(room), (1,)).item() for room in rooms)


def _places(rooms: Any) -> Any:
    """The same for an array of rooms."""
    return (torch.rand(len(rooms), device="cpu").numpy() * rooms).astype(np.int64)


def _gathered(img: Any, rows: Any, columns: Any) -> Any:
    """Of each image (n, c, ., .) its own rows (n, h) and columns (n, w)."""
    n, channels = (torch.arange(k, device=img.device) for k in img.shape[:2])
    rows, columns = (torch.from_numpy(x).to(img.device) for x in (rows, columns))
    return img[n[:, None, None, None], channels[:, None, None], rows[:, None, :, None],
               columns[:, None, None]]


class RandomCrop(_Transform):
    """A part of ``size``, from a place that is drawn, after a border of ``padding``."""

    def __init__(self, size: Any, padding: Any = None, pad_if_needed: bool = False,
                 fill: Any = 0, padding_mode: str = "constant", *,
                 per_image: bool = False) -> None:
        super().__init__(size=tuple(F.two(size)), padding=padding)
        self.pad_if_needed, self.fill = pad_if_needed, fill
        self.padding_mode, self.per_image = padding_mode, per_image

    @staticmethod
    def get_params(img: Any, output_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Top, left, height and width."""
        _, h, w = F.get_dimensions(img)
        th, tw = output_size
        if h < th or w < tw:
            raise ValueError(f"Required crop size {(th, tw)} is larger than input image size "
                             f"{(h, w)}")
        if (h, w) == (th, tw):
            return 0, 0, h, w
        return (*_place(h - th + 1, w - tw + 1), th, tw)

    def forward(self, img: Any) -> Any:
        if self.padding is not None:
            img = F.pad(img, self.padding, self.fill, self.padding_mode)
        th, tw = self.size
        if self.pad_if_needed:
            _, h, w = F.get_dimensions(img)
            for lacking in [tw - w, 0], [0, th - h]:
                if max(lacking) > 0:
                    img = F.pad(img, lacking, self.fill, self.padding_mode)
        if not self._each(img) or img.shape[-2:] == self.size:
            return F.crop(img, *self.get_params(img, self.size))
        n, _, h, w = img.shape
        if h < th or w < tw:
            self.get_params(img, self.size)               # raises
        top, left = (_places(np.full(n, room)) for room in (h - th + 1, w - tw + 1))
        if img.is_cuda:
            return _gathered(img, top[:, None] + np.arange(th), left[:, None] + np.arange(tw))
        # A view of all parts first: of those whole rows are copied, not single elements.
        return img.unfold(2, th, 1).unfold(3, tw, 1)[np.arange(n), :, top, left]


def _check_ranges(scale: Any, ratio: Any) -> None:
    for name, x in ("Scale", scale), ("Ratio", ratio):
        if not isinstance(x, Sequence):
            raise TypeError(f"{name} should be a sequence")
    if scale[0] > scale[1] or ratio[0] > ratio[1]:
        warnings.warn("Scale and ratio should be of kind (min, max)", stacklevel=3)


def _drawn_sides(area: int, scale: Any, ratio: Any, *shape: int) -> Any:
    """Two arrays of lengths: roots of (an area times a ratio), and of (it divided by it).

    Areas are drawn from ``scale``, as shares of ``area``; the logarithms of ratios evenly.
    """
    low, high = torch.tensor(ratio, device="cpu").log().tolist()
    areas = area * torch.empty(shape, device="cpu").uniform_(*scale).double()
    ratios = torch.empty(shape, device="cpu").uniform_(low, high).exp().double()
    return tuple(x.sqrt().round().long().numpy() for x in (areas * ratios, areas / ratios))


def _first(good: Any, *sides: Any) -> Any:
    """Of tries (10, n): which images have a good one, and the sides of their first."""
    which = good.argmax(0), np.arange(good.shape[1])
    return good.any(0), *(x[which] for x in sides)


def _weights(start: Any, length: Any, old: int, new: int, antialias: Any) -> Any:
    """Matrices (n, new, old) that resample pixels start to start + length, linearly."""
    step = (length / new)[:, None, None]
    pixels, start, length = np.arange(old), start[:, None, None], length[:, None, None]
    away = pixels + 0.5 - start - (np.arange(new) + 0.5)[:, None] * step
    weights = np.maximum(1 - abs(away) / (np.maximum(step, 1) if antialias else 1), 0)
    weights *= (pixels >= start) & (pixels < start + length)
    return weights / weights.sum(-1, keepdims=True)


class RandomResizedCrop(_Transform):
    """A part whose share of the area (``scale``) and width by height (``ratio``) are drawn.

    With per_image=True for interpolation by nearest and bilinear.
    """

    _rounded = "scale", "ratio"

    def __init__(self, size: Any, scale: Any = (0.08, 1.0), ratio: Any = (3 / 4, 4 / 3),
                 interpolation: Any = InterpolationMode.BILINEAR, antialias: bool | None = True,
                 *, per_image: bool = False) -> None:
        size, mode = F.two(size), F.interpolation_mode(interpolation)
        _check_ranges(scale, ratio)
        super().__init__(size=size, scale=scale, ratio=ratio, interpolation=mode,
                         antialias=antialias)
        self.per_image = per_image
        if per_image and mode.value not in ("nearest", "bilinear"):
            raise NotImplementedError("RandomResizedCrop(per_image=True) interpolates by nearest "
                                      f"and bilinear, not by {mode.value}")

    @staticmethod
    def get_params(img: Any, scale: Any, ratio: Any) -> tuple[int, int, int, int]:
        """Top, left, height and width."""
        _, height, width = F.get_dimensions(img)
        for _ in range(10):
            (w,), (h,) = _drawn_sides(height * width, scale, ratio, 1)
            if 0 < w <= width and 0 < h <= height:
                return (*_place(height - h + 1, width - w + 1), int(h), int(w))
        h, w = RandomResizedCrop._largest(height, width, ratio)
        return (height - h) // 2, (width - w) // 2, h, w

    @staticmethod
    def _largest(height: int, width: int, ratio: Any) -> tuple[int, int]:
        if width / height < min(ratio):
            return round(width / min(ratio)), width
        return height, min(width, round(height * max(ratio)))

    def forward(self, img: Any) -> Any:
        if not self._each(img):
            place = self.get_params(img, self.scale, self.ratio)
            return F.resized_crop(img, *place, self.size, self.interpolation, self.antialias)
        n, _, height, width = img.shape
        w, h = _drawn_sides(height * width, self.scale, self.ratio, 10, n)
        found, h, w = _first((w > 0) & (w <= width) & (h > 0) & (h <= height), h, w)
        h0, w0 = self._largest(height, width, self.ratio)
        h, w = np.where(found, h, h0), np.where(found, w, w0)
        top = np.where(found, _places(height - h + 1), (height - h) // 2)
        left = np.where(found, _places(width - w + 1), (width - w) // 2)
        sides = (top, h, height, self.size[0]), (left, w, width, self.size[1])
        if self.interpolation is InterpolationMode.NEAREST:
            return _gathered(img, *(start[:, None] + np.arange(new) * length[:, None] // new
                                    for start, length, _, new in sides))
        x = img if img.dtype in (torch.float32, torch.float64) else img.float()
        rows, columns = (torch.as_tensor(_weights(*side, self.antialias), dtype=x.dtype,
                                         device=x.device).unsqueeze(1) for side in sides)
        return F.as_dtype(rows @ x @ columns.mT, img.dtype)


class RandomErasing(_Transform):
    """With probability ``p``, ``value`` in a part drawn as RandomResizedCrop's; of tensors.

    value: a number, one for each channel, or "random" for normal noise.
    """

    def __init__(self, p: float = 0.5, scale: Any = (0.02, 0.33), ratio: Any = (0.3, 3.3),
                 value: Any = 0, inplace: bool = False, *, per_image: bool = False) -> None:
        if not isinstance(value, (Number, str, tuple, list)):
            raise TypeError("Argument value should be either a number or str or a sequence")
        if isinstance(value, str) and value != "random":
            raise ValueError("If value is str, it should be 'random'")
        _check_ranges(scale, ratio)
        if scale[0] < 0 or scale[1] > 1:
            raise ValueError("Scale should be between 0 and 1")
        if p < 0 or p > 1:
            raise ValueError("Random erasing probability should be between 0 and 1")
        super().__init__(p=p, scale=scale, ratio=ratio, value=value, inplace=inplace)
        self.per_image = per_image

    @staticmethod
    def get_params(img: Any, scale: Any, ratio: Any,
                   value: Any = None) -> tuple[int, int, int, int, Any]:
        """Top, left, height, width, and what goes there."""
        c, height, width = img.shape[-3:]
        for _ in range(10):
            (h,), (w,) = _drawn_sides(height * width, scale, ratio, 1)
            if h < height and w < width:
                v = (torch.empty(c, int(h), int(w)).normal_() if value is None
                     else torch.tensor(value)[:, None, None])
                return (*_place(height - h + 1, width - w + 1), int(h), int(w), v)
        return 0, 0, height, width, img

    def forward(self, img: Any) -> Any:
        if not isinstance(img, Tensor):
            raise TypeError(f"img should be Tensor Image. Got {type(img)}")
        value: Any = [self.value] if isinstance(self.value, Number) else self.value
        value = None if value == "random" else [float(x) for x in value]
        if value is not None and len(value) not in (1, img.shape[-3]):
            raise ValueError("If value is a sequence, it should have either a single value or "
                             f"{img.shape[-3]} (number of input channels)")
        if not self._each(img):
            if torch.rand(1) >= self.p:
                return img
            return F.erase(img, *self.get_params(img, self.scale, self.ratio, value), self.inplace)
        n, _, height, width = img.shape
        inside = torch.rand(n, device="cpu").numpy() < self.p
        h, w = _drawn_sides(height * width, self.scale, self.ratio, 10, n)
        found, h, w = _first((h < height) & (w < width), h, w)
        inside = (inside & found)[:, None, None, None]
        for size, side, shape in (height, h, (n, 1, -1, 1)), (width, w, (n, 1, 1, -1)):
            after = np.arange(size) - _places(np.maximum(size - side + 1, 1))[:, None]
            inside = inside & ((after >= 0) & (after < side[:, None])).reshape(shape)
        new = (torch.randn(img.shape, device=img.device) if value is None
               else torch.tensor(value, device=img.device)[:, None, None]).to(img.dtype)
        result = torch.where(torch.from_numpy(inside).to(img.device), new, img)
        return img.copy_(result) if self.inplace else result
