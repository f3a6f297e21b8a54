"""Operations and modules, forward and backward, in a graph: the same bits as without one."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpugrad as torch
import gpugrad.nn as nn
import gpugrad.nn.functional as F
from gpugrad.backend import kernels

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not kernels.enabled(), reason="needs kernels")]

MATRIX, IMAGES, SEQUENCES = (4, 6), (2, 4, 8, 8), (2, 5, 8)


def labels() -> Any:
    return torch.tensor([0, 2, 1, 3], device="cuda")


def on(f: Callable[[Any, Any], Any]) -> Callable[[], Any]:
    """A function of the input and of labels that were there before the capture."""
    def make() -> Any:
        index = labels()
        return lambda x: f(x, index)
    return make


CASES: dict[str, tuple[Callable[[], Any], Any]] = {
    "linear": (lambda: nn.Linear(6, 3), MATRIX),
    "gelu": (nn.GELU, MATRIX), "silu": (nn.SiLU, MATRIX), "softplus": (nn.Softplus, MATRIX),
    "softmax": (lambda: nn.Softmax(1), MATRIX), "log_softmax": (lambda: nn.LogSoftmax(1), MATRIX),
    "dropout": (lambda: nn.Dropout(0.3), MATRIX),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, padding=1), IMAGES),
    "conv2d grouped": (lambda: nn.Conv2d(4, 4, 3, groups=4), IMAGES),
    "batch_norm": (lambda: nn.BatchNorm2d(4), IMAGES),
    "layer_norm": (lambda: nn.LayerNorm(6), MATRIX),
    "group_norm": (lambda: nn.GroupNorm(2, 4), IMAGES),
    "max_pool2d": (lambda: nn.MaxPool2d(2), IMAGES),
    "avg_pool2d": (lambda: nn.AvgPool2d(2), IMAGES),
    "adaptive_avg_pool2d": (lambda: nn.AdaptiveAvgPool2d(3), IMAGES),
    "embedding": (on(lambda w, i: F.embedding(i, w)), MATRIX),
    "cross_entropy": (on(F.cross_entropy), MATRIX),
    "cross_entropy smoothed": (on(lambda x, i: F.cross_entropy(x, i, label_smoothing=0.1)), MATRIX),
    "mse_loss": (on(lambda x, i: F.mse_loss(x, x.detach() * 2)), MATRIX),
    "gather": (on(lambda x, i: x.gather(1, i[:, None])), MATRIX),
    "index_select": (on(lambda x, i: x.index_select(0, i)), MATRIX),
    "index": (on(lambda x, i: x[i]), MATRIX),
    "where": (on(lambda x, i: torch.where(x > 0, x, x * 2)), MATRIX),
    "reductions": (on(lambda x, i: x.sum(1) + x.mean(1) + x.var(1) + x.amax(1)), MATRIX),
    "max": (on(lambda x, i: x.max(1).values), MATRIX),
    "norm": (on(lambda x, i: x.norm()), MATRIX),
    "cat": (on(lambda x, i: torch.cat([x, x * 2], 1)), MATRIX),
    "pow": (on(lambda x, i: x.abs().pow(1.5) + x ** 2), MATRIX),
    "in place": (on(lambda x, i: (x * 1).clamp_(-1, 1).mul_(3)), MATRIX),
    "bmm": (on(lambda x, i: x @ x.transpose(1, 2)), SEQUENCES),
    "half linear": (lambda: nn.Linear(6, 3).half(), MATRIX),
}


@pytest.mark.parametrize("name", CASES)
def test_op(name: str) -> None:
    make, shape = CASES[name]
    torch.manual_seed(0)
    f = make()
    if isinstance(f, nn.Module):
        f = f.to("cuda")
    dtype = np.float16 if name.startswith("half") else np.float32
    values = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    x = torch.tensor(values).cuda().requires_grad_()

    def step() -> Any:
        x.grad = None
        out = f(x)
        out.square().sum().backward()
        return out.detach(), x.grad

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = step()
    state = torch.cuda.get_rng_state()
    graph.replay()
    graphed = [a.clone() for a in got]
    torch.cuda.set_rng_state(state)
    for a, b in zip(graphed, step()):
        assert (a == b).all()
