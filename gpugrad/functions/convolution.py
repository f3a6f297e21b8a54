"""Convolution of sequences, images and volumes, and its transpose, with PyTorch's arguments."""
from __future__ import annotations

from typing import Any

from gpugrad._tensor import Tensor
from gpugrad.autograd.rules import tensors as T
from gpugrad.backend.columns import out_size
from gpugrad.functions.padding import pad
from gpugrad.functions.windows import check_conv, check_conv_transpose, numbers, same_padding


def conv1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
           padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Tensor:
    """Cross-correlation of (n, c, l) with (out, c / groups, k); padding as in conv2d."""
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
           padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Tensor:
    """Cross-correlation of (n, c, h, w) with (out, c / groups, kh, kw), plus a bias (out,).

    padding may be "same", which keeps the size for stride 1, or "valid", which is none.
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
           padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Tensor:
    """Cross-correlation of (n, c, d, h, w) with (out, c / groups, kd, kh, kw); as conv2d."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _check_dims(name: str, n: int, x: Tensor, w: Tensor) -> None:
    if w._a.ndim != n + 2:
        raise RuntimeError(f"Expected {n + 2}D weight for {name}, but got weight of size: "
                           f"{list(w.shape)}")
    if x._a.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to "
                           f"{name}, but got input of size: {list(x.shape)}")


def _conv(name: str, n: int, x: Tensor, w: Tensor, bias: Any, stride: Any, padding: Any,
          dilation: Any, groups: int) -> Tensor:
    if w._a.ndim != n + 2 or x._a.ndim != n + 2:
        _check_dims(name, n, x, w)
        one = x.unsqueeze(0)
        return _conv(name, n, one, w, bias, stride, padding, dilation, groups).squeeze(0)
    stride, dilation = numbers("stride", stride, n), numbers("dilation", dilation, n)
    if isinstance(padding, str):
        x, padding = _padding_by_name(padding, x, w.shape[2:], stride, dilation)
    else:
        padding = numbers("padding", padding, n)
    check_conv(n, x, w, bias, stride, padding, dilation, groups)
    if not x._a.shape[1]:
        return _of_no_channels(x, w, bias, stride, padding, dilation)
    op = T.convolution if n == 2 else T.convolution_nd
    return op(x, w, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)


def _of_no_channels(x: Tensor, w: Tensor, bias: Tensor | None, stride: Any, padding: Any,
                    dilation: Any) -> Tensor:
    """Sums of nothing, and the bias."""
    sizes = [out_size(*each) for each in zip(x.shape[2:], w.shape[2:], stride, padding, dilation)]
    out = (x.sum() + w.sum()).expand(x.shape[0], w.shape[0], *sizes)
    return out.clone() if bias is None else out + bias.view(-1, *[1] * len(sizes))


def _padding_by_name(padding: str, x: Tensor, kernel: Any, stride: Any, dilation: Any) -> Any:
    """The input, padded already if its two sides differ, and the padding left to do."""
    if padding == "valid":
        return x, (0,) * len(kernel)
    if padding != "same":
        raise RuntimeError(f"Invalid padding string: '{padding}'")
    if max(stride) != 1:
        raise RuntimeError("padding='same' is not supported for strided convolutions")
    sides = same_padding(kernel, dilation)
    uneven = [p for before, after in reversed(sides) for p in (0, after - before)]
    return (pad(x, uneven) if any(uneven) else x), tuple([before for before, _ in sides])


# Transposed --------------------------------------------------------------------------------------


def conv_transpose1d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
                     padding: Any = 0, output_padding: Any = 0, groups: int = 1,
                     dilation: Any = 1) -> Tensor:
    """conv2d's transpose for sequences: (n, c, l) and a weight (c, out / groups, k)."""
    return _transpose("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding,
                      groups, dilation)


def conv_transpose2d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
                     padding: Any = 0, output_padding: Any = 0, groups: int = 1,
                     dilation: Any = 1) -> Tensor:
    """The gradient that conv2d with these arguments has for its input, plus a bias (out,).

    weight: (c, out / groups, kh, kw). output_padding is added to the size at the bottom and right,
    where several sizes of conv2d's input fit.
    """
    return _transpose("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding,
                      groups, dilation)


def conv_transpose3d(input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1,
                     padding: Any = 0, output_padding: Any = 0, groups: int = 1,
                     dilation: Any = 1) -> Tensor:
    """conv_transpose2d for volumes: (n, c, d, h, w) and a weight (c, out / groups, kd, kh, kw)."""
    return _transpose("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding,
                      groups, dilation)


def _transpose(name: str, n: int, x: Tensor, w: Tensor, bias: Any, stride: Any, padding: Any,
               output_padding: Any, groups: int, dilation: Any) -> Tensor:
    if w._a.ndim != n + 2 or x._a.ndim != n + 2:
        _check_dims(name, n, x, w)
        return _transpose(name, n, x.unsqueeze(0), w, bias, stride, padding, output_padding,
                          groups, dilation).squeeze(0)
    stride, dilation = numbers("stride", stride, n), numbers("dilation", dilation, n)
    padding = numbers("padding", padding, n)
    more = numbers("output_padding", output_padding, n)
    size = check_conv_transpose(n, x, w, bias, stride, padding, more, dilation, groups)
    return T.conv_transpose(x, w, bias, size=size, stride=stride, padding=padding,
                            dilation=dilation, groups=groups)


def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """conv1d of (time, batch, c) with a weight (kernel, c, out): (time, batch, out)."""
    for name, t, dims in (("input", input, 3), ("weight", weight, 3), ("bias", bias, 1)):
        if t.ndim != dims:
            raise RuntimeError(f"conv_tbc: {name} must have {dims} dims, but got {list(t.shape)}")
    out = conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad)
    return out.permute(2, 0, 1)
