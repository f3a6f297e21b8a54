"""Convolutions of known networks: forward, gradient of the images, gradient of the weights."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpu.libraries import WAYS, Library
from gpu.rows import CHANNELS_LAST, CONTIGUOUS, FLOATS, HALVES, Case, Count, function, row

# images, channels, height and width; channels out, kernel, stride, padding; worth
SHAPES: dict[str, tuple[int, ...]] = {
    "R50 l1 3x3 64-64": (64, 64, 56, 64, 3, 1, 1, 9),
    "R50 l1 1x1 64-256": (64, 64, 56, 256, 1, 1, 0, 8),
    "R18 CIFAR 3x3 64-64": (128, 64, 32, 64, 3, 1, 1, 8),
    "R50 l3 3x3 256-256": (64, 256, 14, 256, 3, 1, 1, 8),
    "R50 stem 7x7/2 3-64": (64, 3, 224, 64, 7, 2, 3, 7),
    "R50 l4 3x3 512-512": (64, 512, 7, 512, 3, 1, 1, 7),
    "R50 l2 3x3/2 128-128": (64, 128, 56, 128, 3, 2, 1, 7),
    "R50 l4 1x1 2048-512": (64, 2048, 7, 512, 1, 1, 0, 6),
    "LeNet c1 5x5 1-6": (512, 1, 28, 6, 5, 1, 2, 6),
    "LeNet c2 5x5 6-16": (512, 6, 14, 16, 5, 1, 0, 6),
    "VGG 3x3 512-512": (32, 512, 28, 512, 3, 1, 1, 4),
    "VGG 3x3 64-64": (32, 64, 224, 64, 3, 1, 1, 3)}
COLUMNS = ("gpugrad", "gpugrad-plain", *WAYS, "torch", "torch-plain")


def convolution(lib: Library, dry: bool, shape: Sequence[int], depthwise: bool,
                grads: Sequence[int] | None) -> Case:
    n, c, h, k, r, stride, padding = shape[:7]
    if dry:
        n, c, h, k = 2, min(c, 4), min(h, 9), min(k, 6)
    k = c if depthwise else k
    group = 1 if depthwise else c
    out = (h + 2 * padding - r) // stride + 1
    flop = 2.0 * n * k * out * out * group * r * r
    elements = float(n * c * h * h + k * group * r * r + n * k * out * out)

    def f(x: Any, w: Any) -> Any:
        return lib.torch.nn.functional.conv2d(x, w, stride=stride, padding=padding,
                                              groups=c if depthwise else 1)

    def inputs() -> list[Any]:
        return [lib.normal(n, c, h, h), lib.normal(k, group, r, r)]

    count: Count = lambda _: (elements, flop)  # noqa: E731
    return function(lib, f, inputs, grads, count)


def declare(name: str, shape: Sequence[int], depthwise: bool = False) -> None:
    small = name.startswith("LeNet")
    columns = (*COLUMNS, "gpugrad-graph", "torch-graph") if small else COLUMNS
    family = "conv of few channels" if small else "conv 1x1" if shape[4] == 1 else \
        "conv depthwise" if depthwise else "conv"
    for way, grads in (("forward", None), ("input gradient", (0,)), ("weight gradient", (1,))):
        if way == "input gradient" and shape[1] <= 3:
            continue                    # of the data: nobody needs it
        row("ops", family, f"{name} {way}", columns=columns,
            precisions=("tf32", "float32", *HALVES) if not small else FLOATS,
            layouts=(CONTIGUOUS,) if small else (CHANNELS_LAST, CONTIGUOUS),
            worth=shape[7] - (way != "forward"), dry=5 if shape[7] == 9 and way == "forward" else
            shape[7] > 7 or depthwise or name == "LeNet c2 5x5 6-16")(
            lambda lib, dry, grads=grads: convolution(lib, dry, shape, depthwise, grads))


for name, shape in SHAPES.items():
    declare(name, shape)
declare("3x3 depthwise 144", (64, 144, 56, 144, 3, 1, 1, 5), depthwise=True)
