"""Steps of optimizers, and batches from a DataLoader."""
from __future__ import annotations

from typing import Any

import loader
from cpu_suite.networks import lenet
from cpu_suite.rows import Case, Library, row
from optim import MATRICES, TOLERANCE, VECTORS, Variant

# Of benchmarks/optim.py, which measures all of them and PyTorch's fused forms.
LARGE = ("SGD", "SGD, momentum", "Adam", "AdamW", "RMSprop", "Adagrad")


def over_many(lib: Library, name: str, share: int) -> Case:
    """A share of the 10 million."""
    variant = Variant(lib.name, name, (MATRICES + VECTORS)[::share])

    def results() -> list[Any]:
        for _ in range(3):
            variant.step()
        return [p.detach() for p in variant.params]

    return Case(variant.step, results)


def over_lenet(lib: Library, name: str) -> Case:
    net = lenet(lib.torch)
    for p in net.parameters():
        p.grad = lib.normal(*p.shape)
    optimizer = getattr(lib.torch.optim, name)(net.parameters(), lr=0.01)

    def results() -> list[Any]:
        for _ in range(3):
            optimizer.step()
        return [p.detach() for p in net.parameters()]

    return Case(optimizer.step, results)


for name in LARGE:
    row("optim", f"{name}, 10 million parameters", aims={"gpugrad": 1.3}, size=(1, 20),
        tolerance=TOLERANCE)(lambda lib, size, name=name: over_many(lib, name, size))
for name in "SGD", "Adam":
    row("optim", f"{name}, LeNet's parameters", aims={"gpugrad": 1.3}, tolerance=TOLERANCE)(
        lambda lib, size, name=name: over_lenet(lib, name))


# Data: some of benchmarks/loader.py ---------------------------------------------------------------

def one_pass(lib: Library, case: loader.Case, share: int) -> Case:
    """Over a dataset, shuffled; its batches must agree."""
    data = loader.Library(lib.name, quick=share > 1)
    return Case(lambda: data.seconds(case), lambda: [
        x for shape, _, total, labels in data.sums(case) for x in (shape, total, labels)])


for case in (loader.Case("small", 0), loader.Case("columns", 0), loader.Case("images", 0),
             loader.Case("images", 2, persistent=True)):
    row("data", f"a pass over {case.name}", columns=("torch", "gpugrad"), aims={"gpugrad": 1.0},
        size=(1, 8))(lambda lib, share, case=case: one_pass(lib, case, share))
