"""The work of a training step that no program can avoid: FLOP and bytes of each of its parts.

Each part's floor is max(FLOP / rate, bytes / bandwidth) and a step's floor their sum. A product
reads two matrices and writes one, forward and for each gradient. Activations, additions and batch
norm's ReLU are counted as fused into what is beside them: no pass of their own. Parameters are read
and written by the optimizer in float32.
"""
from __future__ import annotations

from collections import Counter
from itertools import pairwise

from gpu.rows import Work

ADAM, SGD = 28, 20                      # bytes a parameter: with both moments, with momentum


class Step:
    """What a step does, in FLOP and elements, layer by layer."""

    def __init__(self) -> None:
        self.parts: Counter[tuple[float, float]] = Counter()
        self.parameters = 0

    def product(self, m: int, k: int, n: int, first: bool = False, weights: int = 0,
                images: float = 0.0) -> None:
        """(m, k) by (k, n), and its gradients; images: elements of x where columns aren't stored.
        """
        elements = (images or m * k) + k * n + m * n
        self.parts[2.0 * m * k * n, float(elements)] += 2 if first else 3
        self.parameters += weights or k * n

    def conv(self, n: int, c: int, h: int, k: int, r: int, stride: int = 1, padding: int = 0,
             first: bool = False) -> int:
        """Returns the height and width of the result."""
        out = (h + 2 * padding - r) // stride + 1
        self.product(n * out * out, c * r * r, k, first, images=float(n * c * h * h))
        return out

    def passes(self, times: float, elements: float) -> None:
        self.parts[0.0, times * elements] += 1

    def norm(self, elements: float, channels: int, batch: bool) -> None:
        self.passes(8 if batch else 5, elements)        # forward and backward together
        self.parameters += 2 * channels

    def work(self, size: int, optimizer: int) -> Work:
        """With elements of ``size`` bytes, and so many bytes a parameter for the optimizer."""
        found = [(flop, elements * size, times) for (flop, elements), times in self.parts.items()]
        return [*found, (0.0, float(optimizer * self.parameters), 1)]


def lenet(n: int) -> Step:
    s = Step()
    s.conv(n, 1, 32, 6, 5, first=True)
    s.passes(2.6, n * 6 * 28 * 28)
    s.conv(n, 6, 14, 16, 5)
    s.passes(2.6, n * 16 * 100)
    for k, out in (400, 120), (120, 84), (84, 10):
        s.product(n, k, out)
    return s


def mlp(n: int, sizes: tuple[int, ...]) -> Step:
    s = Step()
    for i, (k, out) in enumerate(pairwise(sizes)):
        s.product(n, k, out, first=i == 0)
    return s


def resnet18(n: int) -> Step:
    s, h, c = Step(), 32, 64
    s.conv(n, 3, h, 64, 3, 1, 1, first=True)
    s.norm(n * 64 * h * h, 64, batch=True)
    for width in (64, 64, 128, 128, 256, 256, 512, 512):
        stride = 1 if width == c else 2
        out = s.conv(n, c, h, width, 3, stride, 1)
        s.conv(n, width, out, width, 3, 1, 1)
        for _ in range(2):
            s.norm(n * width * out * out, width, batch=True)
        if stride == 2:
            s.conv(n, c, h, width, 1, 2)
            s.norm(n * width * out * out, width, batch=True)
        h, c = out, width
    s.product(n, 512, 10)
    return s


def resnet50(n: int, h: int = 224) -> Step:
    s, c = Step(), 64
    h = s.conv(n, 3, h, 64, 7, 2, 3, first=True)
    s.norm(n * 64 * h * h, 64, batch=True)
    s.passes(2.6, n * 64 * h * h)
    h = (h - 1) // 2 + 1
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(blocks):
            stride = 2 if block == 0 and stage else 1
            s.conv(n, c, h, width, 1)
            s.norm(n * width * h * h, width, batch=True)
            out = s.conv(n, width, h, width, 3, stride, 1)
            s.norm(n * width * out * out, width, batch=True)
            s.conv(n, width, out, 4 * width, 1)
            s.norm(4 * n * width * out * out, 4 * width, batch=True)
            if block == 0:
                s.conv(n, c, h, 4 * width, 1, stride)
                s.norm(4 * n * width * out * out, 4 * width, batch=True)
            h, c = out, 4 * width
    s.product(n, 2048, 1000)
    return s


def gpt(n: int, length: int, layers: int, width: int, words: int) -> Step:
    """Causal attention in blocks: half of the products, five of them backward."""
    s, m = Step(), n * length
    for _ in range(layers):
        for k, out in (width, 3 * width), (width, width), (width, 4 * width), (4 * width, width):
            s.product(m, k, out)
        half = 2.0 * n * length * length * width            # two products, half of each
        s.parts[half, 4.0 * m * width] += 1
        s.parts[2.5 * half, 8.0 * m * width] += 1
        for _ in range(2):
            s.norm(m * width, width, batch=False)
    s.norm(m * width, width, batch=False)
    s.product(m, width, words)                              # its weights are the embedding's
    s.passes(3, m * words)
    s.passes(1, words * width + 5 * m * width)
    s.parameters += length * width
    return s


def lstm(n: int, length: int, layers: int, width: int, words: int) -> Step:
    """The products of the inputs at once, those of the states step by step: each reads the weights.
    """
    s, m = Step(), n * length
    for _ in range(layers):
        s.product(m, width, 4 * width)
        s.parts[8.0 * n * width * width, 4.0 * width * width + 5.0 * n * width] += 2 * length
        s.parts[8.0 * m * width * width, 4.0 * width * width + 5.0 * m * width] += 1
        s.parameters += 4 * width * width + 8 * width
        s.passes(16, m * width)
    s.product(m, width, words)
    s.passes(3, m * words)
    s.passes(1, words * width + 3 * m * width)
    s.parameters += words * width
    return s
