"""The transforms as functions. An image is a PIL image or a tensor [..., C, H, W]."""
from __future__ import annotations

import functools
import numbers
import warnings
from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np

import gpugrad as torch
from gpugrad._tensor import Tensor


class InterpolationMode(Enum):
    """How ``resize`` computes pixels; of tensors nearest, nearest-exact, bilinear and bicubic."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


# In the order of Pillow's numbers.
_PILLOW = "nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"
# Of pixels: what stands for white. 1 for all other dtypes.
_MOST = {torch.uint8: 255, torch.int8: 127, torch.int16: 32767, torch.uint16: 65535,
         torch.int32: 2147483647, torch.int64: 9223372036854775807}


# PIL ---------------------------------------------------------------------------------------------

@functools.cache
def pillow() -> Any:
    """The module PIL.Image, or None."""
    try:
        from PIL import Image
    except ImportError:
        return None
    return Image


def _is_pil(img: Any) -> bool:
    return pillow() is not None and isinstance(img, pillow().Image)


def _is_tensor(img: Any) -> bool:
    """True for an image that is a tensor, False for a PIL image; TypeError for anything else."""
    if isinstance(img, Tensor):
        if img.ndim < 2:
            raise TypeError("Tensor is not a torch image.")
        return True
    if not _is_pil(img):
        raise TypeError(f"img should be PIL Image. Got {type(img)}")
    return False


def get_dimensions(img: Any) -> list[int]:
    """[channels, height, width]"""
    if isinstance(img, Tensor):
        _is_tensor(img)
        return [1 if img.ndim == 2 else img.shape[-3], *img.shape[-2:]]
    if not _is_pil(img):
        raise TypeError(f"Unexpected type {type(img)}")
    return [len(img.getbands()), img.height, img.width]


# Conversions -------------------------------------------------------------------------------------

def to_tensor(pic: Any) -> Any:
    """(C, H, W) of a PIL image or an array (H, W) or (H, W, C); bytes become floats from 0 to 1.

    Tensors of bytes [..., C, H, W] are taken, too, and only scaled.
    """
    if isinstance(pic, np.ndarray):
        if pic.ndim not in (2, 3):
            raise ValueError(f"pic should be 2/3 dimensional. Got {pic.ndim} dimensions.")
        pixels = pic[:, :, None] if pic.ndim == 2 else pic
    elif _is_pil(pic):
        kinds = {"I": np.int32, "I;16": np.int16, "F": np.float32}
        pixels = np.array(pic, kinds.get(pic.mode, np.uint8)).reshape(pic.height, pic.width, -1)
        if pic.mode == "1":
            pixels *= 255
    elif isinstance(pic, Tensor) and pic.dtype == torch.uint8 and pic.ndim > 2:
        return pic.to(torch.get_default_dtype()).div_(255)
    else:
        raise TypeError(f"pic should be PIL Image or ndarray. Got {type(pic)}")
    img = torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))
    return img.to(torch.get_default_dtype()).div_(255) if img.dtype == torch.uint8 else img


def pil_to_tensor(pic: Any) -> Any:
    """(C, H, W) of a PIL image, in the image's own numbers."""
    if not _is_pil(pic):
        raise TypeError(f"pic should be PIL Image. Got {type(pic)}")
    return torch.from_numpy(np.array(pic).reshape(pic.height, pic.width, -1)).permute(2, 0, 1)


def convert_image_dtype(image: Any, dtype: Any = torch.float32) -> Any:
    """A tensor in another dtype, where white is 1 if it is floating and else its largest number."""
    if not isinstance(image, Tensor):
        raise TypeError("Input img should be Tensor Image")
    if image.dtype == dtype:
        return image
    most, wanted = _MOST.get(image.dtype, 1), _MOST.get(dtype, 1)
    if image.is_floating_point():
        if dtype.is_floating_point:
            return image.to(dtype)
        if (image.dtype, dtype) in ((torch.float32, torch.int32), (torch.float32, torch.int64),
                                    (torch.float64, torch.int64)):
            raise RuntimeError(f"The cast from {image.dtype} to {dtype} cannot be performed "
                               "safely.")
        return image.mul(wanted + 0.999).to(dtype)        # all numbers are equally far apart
    if dtype.is_floating_point:
        return image.to(dtype) / most
    if most > wanted:
        return torch.div(image, (most + 1) // (wanted + 1), rounding_mode="floor").to(dtype)
    return image.to(dtype) * ((wanted + 1) // (most + 1))


def _column(values: Any, dtype: Any, device: Any, divides: bool) -> Any:
    """A number for each channel as a tensor (C, 1, 1)."""
    x = torch.as_tensor(values, dtype=dtype, device=device)
    if divides and (x == 0).any():
        raise ValueError(f"std evaluated to zero after conversion to {dtype}, leading to division "
                         "by zero.")
    return x.view(-1, 1, 1) if x.ndim == 1 else x


_known_column = functools.lru_cache(_column)              # or each image would cost two new tensors


def normalize(tensor: Any, mean: Any, std: Any, inplace: bool = False) -> Any:
    """(x - mean) / std, for each channel of a floating tensor [..., C, H, W]."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"img should be Tensor Image. Got {type(tensor)}")
    if not tensor.is_floating_point():
        raise TypeError(f"Input tensor should be a float tensor. Got {tensor.dtype}.")
    if tensor.ndim < 3:
        raise ValueError("Expected tensor to be a tensor image of size (..., C, H, W). "
                         f"Got tensor.size() = {tensor.size()}")
    low, scale = (
        _known_column(tuple(x), tensor.dtype, tensor.device, x is std)
        if isinstance(x, (tuple, list)) else _column(x, tensor.dtype, tensor.device, x is std)
        for x in (mean, std))
    if not inplace:
        result = (tensor - low) / scale
        if result.shape == tensor.shape:
            return result
    return (tensor if inplace else tensor.clone()).sub_(low).div_(scale)


# Places ------------------------------------------------------------------------------------------

def hflip(img: Any) -> Any:
    """Left and right exchanged."""
    return img.flip(-1) if _is_tensor(img) else img.transpose(0)


def vflip(img: Any) -> Any:
    """Top and bottom exchanged."""
    return img.flip(-2) if _is_tensor(img) else img.transpose(1)


def crop(img: Any, top: int, left: int, height: int, width: int) -> Any:
    """A part of an image; zeros where it reaches beyond the border."""
    bottom, right = top + height, left + width
    if not _is_tensor(img):
        return img.crop((left, top, right, bottom))
    h, w = img.shape[-2:]
    inside = img[..., max(top, 0):max(bottom, 0), max(left, 0):max(right, 0)]
    if left >= 0 and top >= 0 and right <= w and bottom <= h:
        return inside
    return pad(inside, [max(min(0, right) - left, 0), max(min(0, bottom) - top, 0),
                        max(right - max(w, left), 0), max(bottom - max(h, top), 0)])


def two(size: Any) -> Any:
    """A height and a width; one number, alone or in a sequence, is both."""
    if isinstance(size, numbers.Number):
        return int(size), int(size)                       # type: ignore[call-overload]
    if len(size) not in (1, 2):
        raise ValueError("Please provide only two dimensions (h, w) for size.")
    return (size[0], size[0]) if len(size) == 1 else size


def center_crop(img: Any, output_size: Any) -> Any:
    """The middle (height, width) of an image; zeros around one that is smaller."""
    height, width = two(output_size)
    _, h, w = get_dimensions(img)
    if width > w or height > h:
        x, y = max(width - w, 0), max(height - h, 0)
        img = pad(img, [x // 2, y // 2, (x + 1) // 2, (y + 1) // 2])
        h, w = h + y, w + x
    return crop(img, round((h - height) / 2), round((w - width) / 2), height, width)


def sides(padding: Any, padding_mode: Any) -> list[int]:
    """[left, top, right, bottom] of what ``pad`` takes."""
    if not isinstance(padding, (numbers.Number, tuple, list)):
        raise TypeError("Got inappropriate padding arg")
    if not isinstance(padding_mode, str):
        raise TypeError("Got inappropriate padding_mode arg")
    listed: Any = [padding] if isinstance(padding, numbers.Number) else padding
    if len(listed) not in (1, 2, 4):
        raise ValueError("Padding must be an int or a 1, 2, or 4 element tuple, not a "
                         f"{len(listed)} element tuple")
    if padding_mode not in ("constant", "edge", "reflect", "symmetric"):
        raise ValueError("Padding mode should be either constant, edge, reflect or symmetric")
    return list(listed) * (4 // len(listed))


def pad(img: Any, padding: Any, fill: Any = 0, padding_mode: str = "constant") -> Any:
    """An image with a border; negative numbers cut off.

    padding: one number, (left and right, top and bottom), or (left, top, right, bottom).
    padding_mode: "constant" of ``fill``, "edge", "reflect" or "symmetric".
    """
    is_tensor, (left, top, right, bottom) = _is_tensor(img), sides(padding, padding_mode)
    fill = 0 if fill is None else fill
    if not isinstance(fill, (int, float)) and (is_tensor or not isinstance(fill, (tuple, list))):
        raise TypeError("Got inappropriate fill arg")
    if not is_tensor and img.mode == "P":
        raise NotImplementedError("pad: an image with a palette; img.convert('RGB') has none")
    channels, h, w = get_dimensions(img)
    colour: Any = list(fill) if isinstance(fill, (tuple, list)) else [fill]
    if padding_mode == "constant" and is_tensor:
        return torch.nn.functional.pad(img, [left, right, top, bottom], value=float(colour[0]))
    if padding_mode == "constant":
        if len(colour) not in (1, channels):
            raise ValueError("The number of elements in 'fill' does not match the number of "
                             f"channels of the image ({len(colour)} != {channels})")
        colour = [x if img.mode == "F" else int(x) for x in colour] * (channels // len(colour))
        padded = pillow().new(img.mode, (w + left + right, h + top + bottom),
                              tuple(colour) if channels > 1 else colour[0])
        padded.paste(img, (left, top))
        return padded
    rows, columns = (
        np.pad(np.arange(max(-a, 0), size - max(-b, 0)), (max(a, 0), max(b, 0)),
               padding_mode)                              # type: ignore[call-overload]
        for size, a, b in ((h, top, bottom), (w, left, right)))
    if is_tensor:
        index = [torch.from_numpy(x).to(img.device) for x in (rows[:, None], columns)]
        return img[..., index[0], index[1]]
    return pillow().fromarray(np.asarray(img)[rows[:, None], columns])


def erase(img: Any, i: int, j: int, h: int, w: int, v: Any, inplace: bool = False) -> Any:
    """A tensor with ``v`` in the h x w pixels from row i, column j on."""
    if not isinstance(img, Tensor):
        raise TypeError(f"img should be Tensor Image. Got {type(img)}")
    img = img if inplace else img.clone()
    img[..., i:i + h, j:j + w] = v
    return img


# Sizes -------------------------------------------------------------------------------------------

def interpolation_mode(mode: Any) -> InterpolationMode:
    """The mode itself, or that of Pillow's number."""
    if isinstance(mode, int):
        return InterpolationMode(_PILLOW[mode])
    if not isinstance(mode, InterpolationMode):
        raise TypeError("Argument interpolation should be a InterpolationMode or a corresponding "
                        "Pillow integer constant")
    return mode


def resize(img: Any, size: Any, interpolation: Any = InterpolationMode.BILINEAR,
           max_size: int | None = None, antialias: bool | None = True) -> Any:
    """An image of ``size`` (height, width); a single number is that of the shorter side.

    max_size: the longer side's most pixels; the shorter one gets fewer then.
    """
    mode = interpolation_mode(interpolation)
    size = [size] if isinstance(size, int) else list(size)
    if len(size) not in (1, 2):
        raise ValueError("Size must be an int or a 1 or 2 element tuple/list, not a "
                         f"{len(size)} element tuple/list")
    if max_size is not None and len(size) != 1:
        raise ValueError("max_size should only be passed if size specifies the length of the "
                         "smaller edge, i.e. size should be an int or a sequence of length 1")
    h, w = get_dimensions(img)[1:]
    if len(size) == 1:
        short, long = size[0], int(size[0] * max(h, w) / min(h, w))
        if max_size is not None:
            if max_size <= short:
                raise ValueError(f"max_size = {max_size} must be strictly greater than the "
                                 f"requested size for the smaller edge size = {size}")
            if long > max_size:
                short, long = int(max_size * short / long), max_size
        size = [long, short] if w <= h else [short, long]
    if [h, w] == size:
        return img
    if not _is_tensor(img):
        if antialias is False:
            warnings.warn("Anti-alias option is always applied for PIL Image input. Argument "
                          "antialias is ignored.", stacklevel=2)
        return img.resize(tuple(size[::-1]), _PILLOW.index(mode.value.removesuffix("-exact")))
    smooth = mode in (InterpolationMode.BILINEAR, InterpolationMode.BICUBIC)
    x = img if img.dtype in (torch.float32, torch.float64) else img.float()
    x = torch.nn.functional.interpolate(
        x.reshape(1, -1, h, w), size, mode=mode.value, align_corners=False if smooth else None,
        antialias=bool(antialias and smooth)).reshape(*img.shape[:-2], *size)
    if mode is InterpolationMode.BICUBIC and img.dtype == torch.uint8:
        x = x.clamp(0, 255)
    return as_dtype(x, img.dtype)


def as_dtype(x: Any, dtype: Any) -> Any:
    """Numbers in a dtype, rounded if it is one of integers."""
    return x if x.dtype == dtype else (x if dtype.is_floating_point else x.round()).to(dtype)


def resized_crop(img: Any, top: int, left: int, height: int, width: int, size: Sequence[int],
                 interpolation: Any = InterpolationMode.BILINEAR,
                 antialias: bool | None = True) -> Any:
    """``crop``, then ``resize``."""
    return resize(crop(img, top, left, height, width), size, interpolation, antialias=antialias)


# Colours -----------------------------------------------------------------------------------------

def rgb_to_grayscale(img: Any, num_output_channels: int = 1) -> Any:
    """The luminance of an image, in one channel or in three alike."""
    if num_output_channels not in (1, 3):
        raise ValueError("num_output_channels should be either 1 or 3")
    if not _is_tensor(img):
        grey = img.convert("L")
        return grey if num_output_channels == 1 else pillow().merge("RGB", [grey] * 3)
    if img.ndim < 3:
        raise TypeError("Input image tensor should have at least 3 dimensions, but found "
                        f"{img.ndim}")
    if img.shape[-3] not in (1, 3):
        raise TypeError("Input image tensor permitted channel values are [1, 3], but found "
                        f"{img.shape[-3]}")
    if img.shape[-3] == 3:
        r, g, b = img.unbind(-3)
        grey = (0.2989 * r + 0.587 * g + 0.114 * b).to(img.dtype).unsqueeze(-3)
    else:
        grey = img.clone()
    return grey.expand(img.shape) if num_output_channels == 3 else grey
