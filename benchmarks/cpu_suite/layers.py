"""Single layers and functions, at the sizes that known networks give them."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cpu_suite.rows import Case, Library, function, row


def rows(theme: str, name: str, make: Callable[[Library, int], tuple[Any, list[Any]]],
         forward: bool = False, aim: Any = None, size: tuple[int, int] = (0, 0),
         tolerance: float = 1e-4) -> None:
    """A row for a function and its inputs, forward and backward; if asked for, one for forward."""
    for backward in [False] * forward + [True]:
        what = f"{name}, {'with backward' if backward else 'forward'}" if forward else name
        row(theme, what, aims={"gpugrad": aim} if aim else {}, size=size, tolerance=tolerance)(
            lambda lib, size, backward=backward: function(lib, *make(lib, size), backward))


# Convolution: batch, channels in and out, image, kernel, and the rest -----------------------------

def conv(name: str, batch: int, c_in: int, c_out: int, image: int, kernel: int,
         aim: float | None = None, first: bool = False, **kw: int) -> None:
    """``first``: of a network, whose images have no gradient."""
    def make(lib: Library, batch: int) -> tuple[Any, list[Any]]:
        x = lib.normal(batch, c_in, image, image, grad=not first)
        w = lib.normal(c_out, c_in // kw.get("groups", 1), kernel, kernel, grad=True)
        return lambda x, w: lib.torch.nn.functional.conv2d(x, w, **kw), [x, w]

    rows("conv", f"{name} {c_in}-{c_out}, {kernel}x{kernel} on {image}x{image}", make, forward=True,
         aim=aim, size=(batch, 2), tolerance=3e-4)


conv("LeNet", 64, 1, 6, 32, 3, first=True)
conv("LeNet", 64, 6, 16, 15, 3)
conv("LeNet", 64, 6, 16, 14, 5)
conv("CIFAR", 32, 64, 64, 32, 3, padding=1)
conv("CIFAR", 32, 128, 128, 16, 3, padding=1)
conv("CIFAR", 32, 256, 256, 8, 3, padding=1)
conv("CIFAR", 32, 512, 512, 4, 3, padding=1)
conv("CIFAR stride 2", 32, 64, 128, 32, 3, padding=1, stride=2)
conv("ResNet-50", 32, 64, 256, 28, 1, aim=1.5)
conv("ResNet-50", 8, 256, 256, 14, 3, padding=1)
conv("ResNet-50 stride 2", 8, 3, 64, 224, 7, first=True, padding=3, stride=2)
conv("depthwise", 32, 64, 64, 32, 3, padding=1, groups=64)


# Pooling and normalization ------------------------------------------------------------------------

def windows(name: str, shape: tuple[int, ...], f: str, *args: Any,
            aim: float | None = None) -> None:
    def make(lib: Library, batch: int) -> tuple[Any, list[Any]]:
        F = lib.torch.nn.functional
        return lambda x: getattr(F, f)(x, *args), [lib.normal(batch, *shape, grad=True)]

    rows("pool", name, make, aim=aim, size=(64 if shape[0] == 6 else 32, 2))


windows("max 2x2, 6x30x30", (6, 30, 30), "max_pool2d", 2, aim=2.0)
windows("max 3x3 stride 2, 64x56x56", (64, 56, 56), "max_pool2d", 3, 2, 1, aim=2.0)
windows("average 2x2, 64x32x32", (64, 32, 32), "avg_pool2d", 2)
windows("average of all, 512x4x4", (512, 4, 4), "adaptive_avg_pool2d", 1)


def norm(name: str, shape: tuple[int, ...], weights: int,
         call: Callable[[Any, Any, Any, Any], Any]) -> None:
    def make(lib: Library, batch: int) -> tuple[Any, list[Any]]:
        F = lib.torch.nn.functional
        return lambda x, w, b: call(F, x, w, b), [
            lib.normal(batch, *shape, grad=True), lib.normal(weights, grad=True),
            lib.normal(weights, grad=True)]

    rows("norm", name, make, size=(1024 if len(shape) == 1 else 32, 2), tolerance=3e-4)


norm("batch norm, 64x32x32", (64, 32, 32), 64,
     lambda F, x, w, b: F.batch_norm(x, None, None, w, b, training=True))
norm("batch norm, 256x14x14", (256, 14, 14), 256,
     lambda F, x, w, b: F.batch_norm(x, None, None, w, b, training=True))
norm("group norm of 8, 64x32x32", (64, 32, 32), 64, lambda F, x, w, b: F.group_norm(x, 8, w, b))
norm("layer norm, 1024x384", (384,), 384, lambda F, x, w, b: F.layer_norm(x, (384,), w, b))


# Functions, losses --------------------------------------------------------------------------------

def elementwise(name: str, shape: tuple[int, int], call: Callable[[Any, Any], Any]) -> None:
    rows("function", f"{name}, {shape[0]}x{shape[1]}", lambda lib, n: (
        lambda x: call(lib.torch.nn.functional, x), [lib.normal(n, shape[1], grad=True)]),
        size=(shape[0], 16))


elementwise("softmax", (6144, 128), lambda F, x: F.softmax(x, -1))
elementwise("log softmax", (1024, 5000), lambda F, x: F.log_softmax(x, -1))
elementwise("GELU", (1024, 1536), lambda F, x: F.gelu(x))
elementwise("GELU tanh", (1024, 1536), lambda F, x: F.gelu(x, approximate="tanh"))
elementwise("ReLU", (1024, 1536), lambda F, x: F.relu(x))
elementwise("sigmoid", (1024, 1536), lambda F, x: x.sigmoid())


def cross_entropy(lib: Library, n: int, classes: int) -> tuple[Any, list[Any]]:
    targets = lib.integers(classes, n)
    return (lambda x: lib.torch.nn.functional.cross_entropy(x, targets),
            [lib.normal(n, classes, grad=True)])


rows("function", "cross entropy, 64x10", lambda lib, n: cross_entropy(lib, n, 10), size=(64, 64),
     aim=1.5)
rows("function", "cross entropy, 1024x5000", lambda lib, n: cross_entropy(lib, n, 5000),
     size=(1024, 16), aim=1.5)


# Attention, embedding, LSTM -----------------------------------------------------------------------

def linear(lib: Library, n: int) -> tuple[Any, list[Any]]:
    return lib.torch.nn.functional.linear, [
        lib.normal(n, 384, grad=True), lib.normal(1536, 384, grad=True),
        lib.normal(1536, grad=True)]


def attention(lib: Library, batch: int, causal: bool) -> tuple[Any, list[Any]]:
    def call(q: Any, k: Any, v: Any) -> Any:
        return lib.torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    return call, [lib.normal(batch, 6, 128, 64, grad=True) for _ in range(3)]


def embedding(lib: Library, batch: int) -> tuple[Any, list[Any]]:
    words = lib.integers(5000, batch, 128)
    return lambda w: lib.torch.nn.functional.embedding(words, w), [lib.normal(5000, 384, grad=True)]


def lstm(lib: Library, batch: int) -> Case:
    """128 in, 256 hidden, 32 steps: the sequence and the parameters get gradients."""
    net, x = lib.torch.nn.LSTM(128, 256, batch_first=True), lib.normal(batch, 32, 128, grad=True)
    g, leaves = lib.normal(batch, 32, 256), [x, *net.parameters()]

    def call() -> Any:
        for leaf in leaves:
            leaf.grad = None
        out = net(x)[0]
        out.backward(g)
        return out

    return Case(call, lambda: [call(), *[leaf.grad for leaf in leaves]])


rows("attention", "linear, 1024x384-1536", linear, size=(1024, 16), tolerance=3e-4)
rows("attention", "attention, 8x6x128x64", lambda lib, n: attention(lib, n, False), size=(8, 1))
rows("attention", "causal attention, 8x6x128x64", lambda lib, n: attention(lib, n, True),
     size=(8, 1))
rows("attention", "embedding, 8x128 of 5000x384", embedding, size=(8, 2))
row("attention", "LSTM 128-256, 32 steps", size=(32, 2), tolerance=3e-4)(lstm)
