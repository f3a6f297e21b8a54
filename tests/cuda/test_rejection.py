"""Gamma, Poisson and binomial numbers on CUDA: their distributions, seeds and special values."""
from __future__ import annotations

import math
from typing import Any

import pytest

import gpugrad as torch

pytestmark = pytest.mark.gpu
NAN, INF = float("nan"), float("inf")


def full(n: int, value: float, dtype: Any = torch.float64) -> Any:
    return torch.full((n,), value, device="cuda", dtype=dtype)


def agrees(numbers: Any, mean: float, variance: float) -> None:
    """Within five standard errors; that of the variance is rougher."""
    x = numbers.cpu().double().numpy()
    assert abs(x.mean() - mean) <= 5 * math.sqrt(variance / x.size) + 1e-12
    assert abs(x.var() - variance) <= 0.25 * variance + 1e-12


@pytest.mark.parametrize("rate", [0.0, 0.3, 9.5, 12.0, 300.0, 4e6])
def test_poisson(rate: float) -> None:
    torch.manual_seed(1)
    x = torch.poisson(full(1500, rate))
    agrees(x, rate, rate)
    assert bool((x == x.floor()).all())


@pytest.mark.parametrize("shape", [0.05, 0.8, 1.0, 7.0, 500.0])
def test_gamma(shape: float) -> None:
    torch.manual_seed(2)
    agrees(torch._standard_gamma(full(1500, shape)), shape, shape if shape > 0.1 else 0.06)


@pytest.mark.parametrize("count, prob", [(5, 0.3), (5, 0.8), (60, 0.4), (1000, 0.9), (1e6, 0.5),
                                         (20, 0.0), (20, 1.0)])
def test_binomial(count: float, prob: float) -> None:
    torch.manual_seed(3)
    x = torch.binomial(full(1500, count), full(1500, prob))
    agrees(x, count * prob, count * prob * (1 - prob))
    assert bool(((x >= 0) & (x <= count)).all())


def test_what_is_not_a_number_or_infinite() -> None:
    rates = torch.tensor([-1.0, NAN, INF, 0.0], device="cuda")
    assert str(torch.poisson(rates).tolist()) == "[nan, nan, inf, 0.0]"
    shapes = torch._standard_gamma(torch.tensor([NAN, INF], device="cuda"))
    assert str(shapes.tolist()) == "[nan, inf]"
    counts = torch.tensor([NAN, 3.0, INF, -2.0, 3.0], device="cuda")
    probs = torch.tensor([0.5, NAN, 0.5, 0.5, 1.5], device="cuda")
    assert str(torch.binomial(counts, probs).tolist()) == "[nan, nan, inf, 0.0, 3.0]"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_a_number_depends_on_seed_and_place(dtype: str) -> None:
    kind = getattr(torch, dtype)
    drawn = []
    for n in (8, 20, 20):
        torch.manual_seed(4)
        rates, probs = full(n, 11.0, kind), full(n, 0.25, kind)
        drawn.append([torch.poisson(rates), torch._standard_gamma(rates),
                      torch.binomial(rates, probs), torch.poisson(rates)])
    for short, long, again in zip(*drawn):
        assert short.dtype is kind and short.device.type == "cuda"
        assert torch.equal(long, again)
    # the first draw's numbers are counted by their places; later ones start behind those
    assert torch.equal(drawn[0][0], drawn[1][0][:8])
    assert not torch.equal(drawn[1][0], drawn[1][3])


def test_shapes_and_gradients() -> None:
    torch.manual_seed(5)
    assert torch.poisson(torch.ones(0, 3, device="cuda")).shape == (0, 3)
    assert torch.poisson(torch.ones(3, 2, device="cuda").T).shape == (2, 3)
    assert torch.binomial(full(3, 4.0), torch.tensor(0.5, dtype=torch.float64,
                                                     device="cuda")).shape == (3,)
    x = full(4, 2.0).requires_grad_()
    torch._standard_gamma(x).sum().backward()
    assert bool((x.grad > 0).all())
    y = full(4, 2.0).requires_grad_()
    torch.poisson(y).sum().backward()
    assert y.grad.tolist() == [0.0] * 4


def test_a_graph_draws_anew_at_each_replay() -> None:
    x = full(64, 5.0)
    torch.poisson(x)                             # compiled before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = torch.poisson(x)
    seen = []
    for _ in range(2):
        graph.replay()
        seen.append(y.clone())
    assert not torch.equal(*seen)
