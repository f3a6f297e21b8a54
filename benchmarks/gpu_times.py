"""Kernels, products and training steps by CUDA events, beside the copy bandwidth."""
from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import gpugrad as torch
from gpugrad import nn, optim
from gpugrad.nn import functional as F

SAMPLES, SHORTEST = 20, 1.0         # samples of at least so many milliseconds
Case = tuple[str, Callable[[], Any], int, int]      # name, what to run, bytes, FLOP


def run(dry_run: bool) -> dict[str, Any]:
    """Milliseconds, GB/s and TFLOP/s of each case."""
    torch.manual_seed(0)
    bandwidth = copy_bandwidth(dry_run)
    rows = {}
    for make in (elementwise, rows_and_norms, windows, indexing, optimizers, products, steps):
        for name, fn, nbytes, flop in make(dry_run):
            row: dict[str, Any] = {}
            try:
                row = measure(fn, dry_run)
            except Exception as e:                  # one case that fails must not end the run
                row = {"error": f"{type(e).__name__}: {str(e)[:300]}"}
            else:
                if nbytes:
                    row["gb_s"] = nbytes / row["ms"] / 1e6
                    row["of_copy"] = row["gb_s"] / bandwidth
                if flop:
                    row["tflop_s"] = flop / row["ms"] / 1e9
            rows[name] = row
            print(name, row, flush=True)
        torch.cuda.empty_cache()
    return {"copy_gb_s": bandwidth, "rows": rows}


def copy_bandwidth(dry_run: bool) -> float:
    """GB/s read and written by the copy of an array that is larger than any cache."""
    n = 1 << (10 if dry_run else 28)
    source, target = random(n), torch.empty(n, device="cuda")
    return 8 * n / measure(lambda: target.copy_(source), dry_run)["ms"] / 1e6


def measure(fn: Callable[[], Any], dry_run: bool) -> dict[str, float]:
    """Median and quartiles of the milliseconds of a call, from loops of at least 1 ms."""
    for _ in range(1 if dry_run else 5):
        fn()
    torch.cuda.synchronize()
    loops = 1
    while not dry_run and sample(fn, loops) < SHORTEST and loops < 1 << 12:
        loops *= 2
    times = sorted(sample(fn, loops) / loops for _ in range(2 if dry_run else SAMPLES))
    low, median, high = statistics.quantiles(times, n=4)
    return {"ms": median, "low": low, "high": high, "loops": loops}


def sample(fn: Callable[[], Any], loops: int) -> float:
    """Milliseconds of so many calls."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(loops):
        fn()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def random(*shape: int, dtype: Any = torch.float32) -> Any:
    """Normal numbers; never zeros, which GPUs multiply with less power and so faster."""
    return torch.randn(*shape, device="cuda").to(dtype)


def forward(fn: Callable[[], Any]) -> Callable[[], Any]:
    def call() -> Any:
        with torch.no_grad():
            return fn()
    return call


def backward(out: Any, inputs: list[Any]) -> Callable[[], Any]:
    """The gradient of ``out`` again and again."""
    g = torch.randn(out.shape, device="cuda").to(out.dtype)
    return lambda: torch.autograd.grad(out, inputs, g, retain_graph=True)


def pair(name: str, fn: Callable[..., Any], args: list[Any], ahead: int, back: int
         ) -> Iterator[Case]:
    """A function's forward and backward; so many bytes each."""
    yield f"{name}", forward(lambda: fn(*args)), ahead, 0
    leaves = [a.clone().requires_grad_() if torch.is_tensor(a) and a.is_floating_point() else a
              for a in args]
    yield (f"{name} backward",
           backward(fn(*leaves), [a for a in leaves if torch.is_tensor(a) and a.requires_grad]),
           back, 0)


# Bytes: what must be read and written once, as if every kernel were one pass.

def elementwise(dry_run: bool) -> Iterator[Case]:
    n = 1 << (10 if dry_run else 26)
    for dtype in torch.float32, torch.float16:
        x = random(n, dtype=dtype)
        size = n * x.element_size()
        for name in "relu", "gelu", "silu", "tanh":
            fn = getattr(F, name)
            yield from pair(f"{name} {n} {dtype}", fn, [x], 2 * size, 3 * size)
        yield f"dropout {n} {dtype}", forward(partial(F.dropout, x, 0.5)), 2 * size, 0
    x, y = random(n), random(n)
    yield f"add {n} (CuPy)", forward(lambda: x + y), 12 * n, 0


def rows_and_norms(dry_run: bool) -> Iterator[Case]:
    m, n = (8, 96) if dry_run else (8192, 768)
    x, w, b = random(m, n), random(n), random(n)
    yield from pair(f"layer_norm {m}x{n}", lambda x, w, b: F.layer_norm(x, (n,), w, b),
                    [x, w, b], 8 * m * n, 12 * m * n)
    yield from pair(f"rms_norm {m}x{n}", lambda x, w: F.rms_norm(x, (n,), w), [x, w],
                    8 * m * n, 12 * m * n)
    shape = (2, 4, 8, 8) if dry_run else (64, 256, 56, 56)
    x, c = random(*shape), shape[1]
    w, b = random(c), random(c)
    yield from pair(f"batch_norm {'x'.join(map(str, shape))}",
                    lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
                    [x, w, b], 12 * x.numel(), 20 * x.numel())
    m, n = (16, 64) if dry_run else (98304, 1024)
    x = random(m, n)
    yield from pair(f"softmax {m}x{n}", lambda x: F.softmax(x, 1), [x], 8 * m * n, 12 * m * n)
    m, n = (4, 500) if dry_run else (8192, 50304)
    x, target = random(m, n), torch.randint(n, (m,), device="cuda")
    yield from pair(f"cross_entropy {m}x{n}", F.cross_entropy, [x, target], 4 * m * n, 8 * m * n)
    m, n = (16, 64) if dry_run else (8192, 8192)
    x = random(m, n)
    for name, fn in (("sum rows", lambda: x.sum(1)), ("sum columns", lambda: x.sum(0)),
                     ("var", lambda: x.var(1)), ("argmax", lambda: x.argmax(1)),
                     ("logsumexp", lambda: x.logsumexp(1))):
        yield f"{name} {m}x{n}", forward(fn), 4 * m * n, 0
    yield f"cumsum {m}x{n}", forward(lambda: x.cumsum(1)), 8 * m * n, 0
    yield f"topk 8 of {m}x{n}", forward(lambda: x.topk(8, 1)), 4 * m * n, 0


def windows(dry_run: bool) -> Iterator[Case]:
    n, c, h = (2, 3, 8) if dry_run else (64, 64, 112)
    x = random(n, c, h, h)
    size, out = 4 * x.numel(), x.numel()
    yield from pair(f"max_pool2d 3x3/2 {n}x{c}x{h}x{h}", lambda x: F.max_pool2d(x, 3, 2, 1), [x],
                    size + 2 * out, size + 2 * out)
    yield from pair(f"avg_pool2d 2x2 {n}x{c}x{h}x{h}", lambda x: F.avg_pool2d(x, 2), [x],
                    size + out, size + out)
    layers = {"lenet c2 5x5": (64, 6, 14, 16, 5, 0), "r18 3x3": (128, 64, 32, 64, 3, 1),
              "r50 l1 3x3": (64, 64, 56, 64, 3, 1), "r50 l1 1x1": (64, 64, 56, 256, 1, 0),
              "r50 l4 3x3": (64, 512, 7, 512, 3, 1)}
    for name, (n, c, h, k, r, p) in layers.items():
        if dry_run:
            n, c, h, k = 2, 3, 7, 4
        x, w = random(n, c, h, h), random(k, c, r, r)
        out = F.conv2d(x, w, padding=p)
        flop = 2 * out.numel() * c * r * r
        yield f"conv2d {name}", forward(partial(F.conv2d, x, w, padding=p)), 0, flop
        x.requires_grad_()
        w.requires_grad_()
        yield (f"conv2d {name} backward", backward(F.conv2d(x, w, padding=p), [x, w]), 0, 2 * flop)


def indexing(dry_run: bool) -> Iterator[Case]:
    rows, n, vocabulary = (16, 8, 50) if dry_run else (8192, 768, 50304)
    weight = random(vocabulary, n).requires_grad_()
    at = torch.randint(vocabulary, (rows,), device="cuda")
    yield (f"embedding {rows} of {vocabulary}x{n}", forward(lambda: F.embedding(at, weight)),
           8 * rows * n, 0)
    yield (f"embedding {rows} of {vocabulary}x{n} backward",
           backward(F.embedding(at, weight), [weight]), 4 * (rows + vocabulary) * n, 0)


def optimizers(dry_run: bool) -> Iterator[Case]:
    sizes = [100, 64] * 3 if dry_run else [1 << 20] * 20 + [1 << 12] * 140
    for make, arrays in ((optim.SGD, 5), (optim.Adam, 7), (optim.AdamW, 7), (optim.RMSprop, 5)):
        parameters = [nn.Parameter(random(n)) for n in sizes]
        for p in parameters:
            p.grad = random(p.numel())
        extra: dict[str, Any] = {"momentum": 0.9} if make is optim.SGD else {}
        step = make(parameters, lr=1e-3, **extra).step
        yield f"{make.__name__} of {len(sizes)} tensors", step, 4 * arrays * sum(sizes), 0
    yield (f"clip_grad_norm_ of {len(sizes)} tensors",
           lambda: nn.utils.clip_grad_norm_(parameters, 1.0), 12 * sum(sizes), 0)


def products(dry_run: bool) -> Iterator[Case]:
    n = 64 if dry_run else 8192
    for dtype, tf32 in ((torch.float32, False), (torch.float32, True), (torch.float16, False)):
        a, b = random(n, n, dtype=dtype), random(n, n, dtype=dtype)

        def product(a: Any = a, b: Any = b, tf32: bool = tf32) -> Any:
            torch.backends.cuda.matmul.allow_tf32 = tf32
            return a @ b
        yield f"matmul {n} {dtype}{' tf32' * tf32}", forward(product), 0, 2 * n ** 3
    torch.backends.cuda.matmul.allow_tf32 = False
    heads, rows, width = (2, 16, 8) if dry_run else (96, 1024, 64)
    for dtype in torch.float32, torch.float16:
        q, k = random(heads, rows, width, dtype=dtype), random(heads, rows, width, dtype=dtype)
        flop = 2 * heads * rows ** 2 * width
        yield (f"q @ k.T {heads}x{rows}x{width} {dtype}",
               forward(partial(torch.matmul, q, k.transpose(1, 2))), 0, flop)


class LeNet(nn.Module):
    """The network of the digits example."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84),
            nn.ReLU(), nn.Linear(84, 10))

    def forward(self, x: Any) -> Any:
        return self.layers(x)


def steps(dry_run: bool) -> Iterator[Case]:
    for batch in (2,) if dry_run else (64, 512):
        net = LeNet().to("cuda")
        optimizer = optim.Adam(net.parameters(), lr=1e-3, capturable=True)
        x, y = random(batch, 1, 32, 32), torch.randint(10, (batch,), device="cuda")

        def step(net: Any = net, optimizer: Any = optimizer, x: Any = x, y: Any = y) -> None:
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
        yield f"LeNet step, batch {batch}", step, 0, 0
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        optimizer.zero_grad()
        with torch.cuda.graph(graph):
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
        yield f"LeNet step, batch {batch}, CUDA graph", graph.replay, 0, 0


def table(r: dict[str, Any]) -> str:
    """Markdown: a row for each case."""
    lines = [f"Copy bandwidth in this run: {r['copy_gb_s']:,.0f} GB/s. Medians; bytes are those "
             "that must be read and written once.", "",
             "| case | ms | quartiles | GB/s | of copy | TFLOP/s |",
             "| --- | ---: | --- | ---: | ---: | ---: |"]
    for name, row in r["rows"].items():
        if "error" in row:
            lines.append(f"| {name} | {row['error'].splitlines()[0]} | | | | |")
            continue
        cells = [f"{row[k]:{f}}" if k in row else "" for k, f in
                 (("gb_s", ",.0f"), ("of_copy", ".0%"), ("tflop_s", ".1f"))]
        lines.append(f"| {name} | {row['ms']:.4f} | {row['low']:.4f}-{row['high']:.4f} | "
                     + " | ".join(cells) + " |")
    return "\n".join(lines)
