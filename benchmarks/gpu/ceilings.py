"""What the machine can do at best: memory, products, launches. The other suites are shares of it.

All of them are measured through the libraries, so they are what a program can get.
"""
from __future__ import annotations

from functools import partial
from typing import Any

from gpu.libraries import GRAPHS, Library
from gpu.rows import Case, row

MATMUL = ("tf32", "bfloat16", "float16", "float32")


@row("ceilings", "copy", "copy of 1 GiB", worth=9)
def copy(lib: Library, dry: bool) -> Case:
    n = 1 << (10 if dry else 28)
    source = lib.normal(n)
    target = lib.torch.empty_like(source)
    return Case([lambda: target.copy_(source)], lambda: [target.copy_(source)], [(0, 8 * n, 1)])


def product(lib: Library, dry: bool, n: int) -> Case:
    n = 32 if dry else n
    a, b = lib.normal(n, n), lib.normal(n, n)
    size = a.element_size()
    return Case([partial(lib.torch.matmul, a, b)], lambda: [a @ b],
                [(2 * n ** 3, 3 * size * n * n, 1)])


for n in 8192, 4096:
    row("ceilings", "matmul", f"matmul {n}x{n}", precisions=MATMUL, worth=8 if n == 8192 else 5)(
        lambda lib, dry, n=n: product(lib, dry, n))


@row("ceilings", "launch", "launch: relu of 8 elements", worth=7)
def launch(lib: Library, dry: bool) -> Case:
    """Events around many give the gap between kernels; host us the cost of a call."""
    x = lib.normal(8)
    return Case([lambda: lib.torch.relu(x)], lambda: [lib.torch.relu(x)])


@row("ceilings", "launch", "graph of 100 launches", columns=GRAPHS,
     worth=7)
def graph(lib: Library, dry: bool) -> Case:
    """A replay, over the number of its kernels."""
    x, count = lib.normal(8), 5 if dry else 100
    if lib.column not in GRAPHS or lib.device != "cuda":       # the reference
        return Case([lambda: lib.torch.relu(x)], lambda: [lib.torch.relu(x)])

    def work() -> Any:
        out = x
        for _ in range(count):
            out = lib.torch.relu(out)
        return out
    work()
    replay, out = lib.captured(lib.torch.cuda.current_stream(), work)

    def results() -> list[Any]:
        replay()
        return [out]
    return Case([replay], results, per=count, keep=x)


@row("ceilings", "launch", "an empty pair of events", worth=7)
def events(lib: Library, dry: bool) -> Case:
    """What is measured when there is nothing between two events."""
    x = lib.normal(8)
    return Case([lambda: None], lambda: [x])
