"""Pooling, normalization, functions, losses, embedding, attention, reductions, optimizers.

Elements counted are those that must be read and written once, as if each kernel were one pass over
its inputs and outputs; where statistics come first, one more.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from gpu.libraries import Library
from gpu.rows import (
    CHANNELS_LAST,
    CONTIGUOUS,
    FLOATS,
    HALVES,
    Case,
    Work,
    both,
    function,
    row,
    rows_of_both,
)

BOTH_FORMATS = (CHANNELS_LAST, CONTIGUOUS)
SMALL = ("gpugrad", "gpugrad-graph", "torch", "torch-graph")
COMMON = ("float32", "bfloat16")


def F(lib: Library) -> Any:
    return lib.torch.nn.functional


def shaped(call: Callable[..., Any], full: tuple[int, ...], dry: tuple[int, ...],
           vectors: int = 0) -> Callable[[Library, bool], tuple[Any, Any]]:
    """For rows_of_both: call(F, x, ...) on x of a shape, and so many vectors of its channels."""
    def make(lib: Library, is_dry: bool) -> tuple[Any, Any]:
        shape = dry if is_dry else full
        channels = shape[1] if len(shape) == 4 else shape[-1]
        return (lambda *inputs: call(F(lib), *inputs),
                lambda: [lib.normal(*shape), *[lib.normal(channels) for _ in range(vectors)]])
    return make


# Pooling: PyTorch keeps positions in 64 bits; 8 are counted, which suffice ------------------------

def pooled(share: float, positions: float = 0.0) -> tuple[Any, Any]:
    """share: of the outputs in the inputs; positions: bytes kept for each output."""
    def count(inputs: list[Any]) -> tuple[float, float]:
        n = inputs[0].numel()
        return n * (1 + share * (1 + positions / inputs[0].element_size())), 0.0
    return count, count


rows_of_both("pooling", "max 3x3/2, 64x64x112x112",
             shaped(lambda F, x: F.max_pool2d(x, 3, 2, 1), (64, 64, 112, 112), (2, 3, 8, 8)),
             *pooled(0.25, 1), layouts=BOTH_FORMATS, precisions=COMMON, worth=7)
rows_of_both("pooling", "max 2x2, 32x64x224x224",
             shaped(lambda F, x: F.max_pool2d(x, 2), (32, 64, 224, 224), (2, 3, 8, 8)),
             *pooled(0.25, 1), layouts=BOTH_FORMATS)
rows_of_both("pooling", "max 2x2, 512x6x28x28",
             shaped(lambda F, x: F.max_pool2d(x, 2), (512, 6, 28, 28), (2, 3, 8, 8)),
             *pooled(0.25, 1), columns=SMALL)
rows_of_both("pooling", "average 2x2, 64x64x112x112",
             shaped(lambda F, x: F.avg_pool2d(x, 2), (64, 64, 112, 112), (2, 3, 8, 8)),
             *pooled(0.25), layouts=BOTH_FORMATS, worth=4)
rows_of_both("pooling", "average of all, 64x2048x7x7",
             shaped(lambda F, x: F.adaptive_avg_pool2d(x, 1), (64, 2048, 7, 7), (2, 3, 4, 4)),
             *pooled(1 / 49), layouts=BOTH_FORMATS)

# Normalization ------------------------------------------------------------------------------------

rows_of_both("normalization", "batch norm 64x256x56x56",
             shaped(lambda F, x, w, b: F.batch_norm(x, None, None, w, b, training=True),
                    (64, 256, 56, 56), (2, 4, 6, 6), 2), *both(3, 5), (0, 1, 2),
             layouts=BOTH_FORMATS, precisions=COMMON, worth=8)
rows_of_both("normalization", "batch norm, ReLU 64x256x56x56",
             shaped(lambda F, x, w, b: F.relu(F.batch_norm(x, None, None, w, b, training=True)),
                    (64, 256, 56, 56), (2, 4, 6, 6), 2), *both(3, 5), (0, 1, 2),
             layouts=BOTH_FORMATS, worth=7)
rows_of_both("normalization", "layer norm 8192x768",
             shaped(lambda F, x, w, b: F.layer_norm(x, x.shape[-1:], w, b), (8192, 768), (8, 96),
                    2), *both(2, 3), (0, 1, 2), precisions=COMMON, worth=7)
rows_of_both("normalization", "RMS norm 8192x768",
             shaped(lambda F, x, w: F.rms_norm(x, x.shape[-1:], w), (8192, 768), (8, 96), 1),
             *both(2, 3), (0, 1), worth=4)
rows_of_both("normalization", "group norm of 32, 64x256x56x56",
             shaped(lambda F, x, w, b: F.group_norm(x, min(32, len(w)), w, b),
                    (64, 256, 56, 56), (2, 4, 6, 6), 2), *both(3, 5), (0, 1, 2), worth=4)

# Functions of elements and of rows ----------------------------------------------------------------

for name in "gelu", "relu", "silu", "tanh":
    rows_of_both("pointwise", f"{name} 8192x3072",
                 shaped(lambda F, x, name=name: getattr(F, name)(x), (8192, 3072), (8, 96)),
                 *both(2, 3), precisions=COMMON, worth=6 if name == "gelu" else 3,
                 dry=name == "gelu")
row("ops", "pointwise", "x + y, 2^26", precisions=COMMON)(lambda lib, dry: function(
    lib, lambda x, y: x + y, lambda: [lib.normal(1 << (8 if dry else 26)) for _ in range(2)],
    None, lambda inputs: (3.0 * inputs[0].numel(), 0.0)))
row("ops", "pointwise", "x * y + z, 2^26")(lambda lib, dry: function(
    lib, lambda x, y, z: x * y + z,
    lambda: [lib.normal(1 << (8 if dry else 26)) for _ in range(3)],
    None, lambda inputs: (4.0 * inputs[0].numel(), 0.0)))


@row("ops", "pointwise", "dropout 2^26", tolerance=1e4)
def dropout(lib: Library, dry: bool) -> Case:
    """Half of it goes, the rest is doubled."""
    xs = [lib.normal(1 << (12 if dry else 26)) for _ in range(2)]

    def results() -> list[Any]:
        x = xs[0]
        y = F(lib).dropout(x, 0.5) if lib.column != "reference" else x * 2
        kept = y != 0
        share = kept.to(lib.torch.float32).mean() if lib.column != "reference" else \
            lib.torch.tensor(0.5)
        return [share, lib.torch.where(kept, y - 2 * x, 0 * x).abs().max() + 1]

    return Case([partial(F(lib).dropout, x, 0.5) for x in xs], results,
                [(0.0, 2.0 * xs[0].numel() * xs[0].element_size(), 1)])


rows_of_both("softmax", "softmax 98304x1024",
             shaped(lambda F, x: F.softmax(x, -1), (98304, 1024), (16, 64)), *both(2, 3),
             precisions=COMMON, worth=7)
rows_of_both("softmax", "log softmax 8192x10000",
             shaped(lambda F, x: F.log_softmax(x, -1), (8192, 10000), (8, 100)), *both(2, 3),
             worth=4)


def classes(lib: Library, dry: bool, m: int, n: int) -> tuple[Any, Any]:
    m, n = (4, 500) if dry else (m, n)
    return (lambda x, target: F(lib).cross_entropy(x, target),
            lambda: [lib.normal(m, n), lib.integers(n, m)])


rows_of_both("loss", "cross entropy 8192x50304", lambda lib, dry: classes(lib, dry, 8192, 50304),
             *both(1, 2), precisions=COMMON, worth=8)
rows_of_both("loss", "cross entropy 512x10", lambda lib, dry: classes(lib, dry, 512, 10),
             *both(1, 2), columns=SMALL, dry=False)


def words(lib: Library, dry: bool) -> tuple[Any, Any]:
    rows, vocabulary, width = (16, 50, 8) if dry else (8192, 50304, 768)
    return (lambda at, weight: F(lib).embedding(at, weight),
            lambda: [lib.integers(vocabulary, rows), lib.normal(vocabulary, width)])


rows_of_both("embedding", "embedding 8192 of 50304x768", words,
             lambda i: (2.0 * i[0].numel() * i[1].shape[1], 0.0),
             lambda i: (float(i[0].numel() * i[1].shape[1] + i[1].numel()), 0.0), (1,), worth=6)

# Products -----------------------------------------------------------------------------------------

def attention(lib: Library, dry: bool, causal: bool) -> tuple[Any, Any]:
    shape = (1, 2, 16, 8) if dry else (8, 12, 1024, 64)
    return (lambda q, k, v: F(lib).scaled_dot_product_attention(q, k, v, is_causal=causal),
            lambda: [lib.normal(*shape) for _ in range(3)])


def attended(products: float, tensors: float, causal: bool) -> Any:
    def count(inputs: list[Any]) -> tuple[float, float]:
        n, heads, length, width = inputs[0].shape
        flop = products * 2.0 * n * heads * length * length * width
        return tensors * inputs[0].numel(), flop / (2 if causal else 1)
    return count


for causal in True, False:
    rows_of_both("attention", f"{'causal ' * causal}attention 8x12x1024x64",
                 partial(attention, causal=causal),
                 attended(2, 4, causal), attended(5, 8, causal), (0, 1, 2),
                 precisions=("bfloat16", "tf32", "float16", "float32"), worth=8 if causal else 5)


def linear(lib: Library, dry: bool, m: int, n: int, k: int) -> tuple[Any, Any]:
    m, n, k = (8, 12, 16) if dry else (m, n, k)
    return (lambda x, w, b: F(lib).linear(x, w, b),
            lambda: [lib.normal(m, n), lib.normal(k, n), lib.normal(k)])


def multiplied(times: int) -> Any:
    def count(inputs: list[Any]) -> tuple[float, float]:
        (m, n), k = inputs[0].shape, inputs[1].shape[0]
        return float(times * (m * n + k * n + m * k)), 2.0 * times * m * n * k
    return count


for sizes in (8192, 768, 3072), (512, 400, 120):
    rows_of_both("linear", "linear {}x{}-{}".format(*sizes),
                 partial(linear, m=sizes[0], n=sizes[1], k=sizes[2]),
                 multiplied(1), multiplied(2), (0, 1, 2), precisions=(*FLOATS, *HALVES),
                 columns=SMALL if sizes[0] == 512 else ("gpugrad", "torch"), worth=5)

# Reductions ---------------------------------------------------------------------------------------

REDUCTIONS: dict[str, Callable[[Any], Any]] = {
    "sum of rows": lambda x: x.sum(1), "sum of columns": lambda x: x.sum(0),
    "sum of all": lambda x: x.sum(), "variance of rows": lambda x: x.var(1),
    "largest of rows": lambda x: x.amax(1), "logsumexp of rows": lambda x: x.logsumexp(1),
    "cumsum of rows": lambda x: x.cumsum(1), "8 largest of rows": lambda x: x.topk(8, 1)[0]}
for name, reduction in REDUCTIONS.items():
    row("ops", "reduction", f"{name}, 8192x8192", worth=4, tolerance=10.0,
        dry=name in ("sum of columns", "sum of all"))(
        lambda lib, dry, f=reduction, name=name: function(
            lib, f, lambda: [lib.normal(*((16, 64) if dry else (8192, 8192)))], None,
            lambda inputs: ((1.0 + (name[:6] == "cumsum")) * inputs[0].numel(), 0.0)))

# Optimizers: bytes a parameter: read p, g and the states, write p and the states ------------------

OPTIMIZERS: dict[str, tuple[str, dict[str, Any], int]] = {
    "Adam": ("Adam", {}, 28), "AdamW": ("AdamW", {}, 28),
    "SGD with momentum": ("SGD", {"momentum": 0.9}, 20)}
GPT2: list[tuple[int, ...]] = [
    (50304, 768), (1024, 768), *12 * [(2304, 768), (768, 768), (3072, 768), (768, 3072)],
    *12 * [(2304,), (3072,)], *74 * [(768,)]]


def optimizer(lib: Library, dry: bool, kind: str, options: dict[str, Any], nbytes: int) -> Case:
    torch = lib.torch
    sizes: list[tuple[int, ...]] = [(7, 5), (12,)] * 5 if dry else GPT2
    if lib.column != "torch-plain" and lib.name == "torch" and lib.device == "cuda":
        options = {**options, "fused": True}
    params = [torch.nn.Parameter(lib.normal(*size).float()) for size in sizes]
    if lib.column == "reference":
        params = [torch.nn.Parameter(p.detach().double()) for p in params]
    for p in params:
        p.grad = lib.normal(*p.shape).to(p.dtype)
    made = getattr(torch.optim, kind)(params, lr=1e-2, **options)

    def results() -> list[Any]:
        for _ in range(3):
            made.step()
        return [p.detach() for p in params[:6]]

    work: Work = [(0.0, float(nbytes * sum(math.prod(s) for s in sizes)), 1)]
    return Case([made.step], results, work)


for name, (kind, options, nbytes) in OPTIMIZERS.items():
    row("ops", "optimizer", f"{name}, GPT-2's 124M", columns=("gpugrad", "torch", "torch-plain"),
        worth=6 if kind != "AdamW" else 3)(
        lambda lib, dry, kind=kind, options=options, nbytes=nbytes: optimizer(
            lib, dry, kind, options, nbytes))


@row("ops", "optimizer", "clip_grad_norm_, GPT-2's 124M")
def clip(lib: Library, dry: bool) -> Case:
    """Reads all gradients for the norm; reads and writes them again to scale them."""
    torch = lib.torch
    sizes: list[tuple[int, ...]] = [(7, 5), (12,)] * 5 if dry else GPT2
    params = [torch.nn.Parameter(lib.normal(*size)) for size in sizes]
    for p in params:
        p.grad = lib.normal(*p.shape)

    def call() -> Any:
        return torch.nn.utils.clip_grad_norm_(params, 1.0)

    n = sum(p.numel() for p in params)
    return Case([call], lambda: [call(), *[p.grad for p in params[:6]]], [(0.0, 12.0 * n, 1)])
