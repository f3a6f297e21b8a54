"""LBFGS, Adafactor and Muon: they find minima, on every device."""
from __future__ import annotations

import math

import pytest

import gpugrad as torch
from gpugrad import nn, optim
from gpugrad.optim.muon import COEFFICIENTS, orthogonal


def rosenbrock(p):
    return 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2


def test_lbfgs_finds_the_bottom_of_the_valley(device):
    p = nn.Parameter(torch.tensor([-1.2, 1.0], dtype=torch.float64, device=device))
    opt = optim.LBFGS([p], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        opt.zero_grad()
        loss = rosenbrock(p)
        loss.backward()
        return loss
    assert opt.step(closure).item() == pytest.approx(24.2)
    assert p.tolist() == pytest.approx([1, 1], abs=1e-3)
    state, = opt.state.values()
    assert state["func_evals"] < 80 and len(state["old_dirs"]) == len(state["ro"])


def test_lbfgs_of_a_quadratic_needs_few_iterations():
    p = nn.Parameter(torch.tensor([3.0, -2.0, 5.0]))
    scale = torch.tensor([1.0, 10.0, 100.0])
    opt = optim.LBFGS([p], max_iter=30, line_search_fn="strong_wolfe")

    def closure():
        opt.zero_grad()
        loss = (scale * p * p).sum()
        loss.backward()
        return loss
    opt.step(closure)
    assert torch.allclose(p.detach(), torch.zeros(3), atol=1e-3)
    with torch.no_grad():
        p.fill_(1.0)
    with pytest.raises(RuntimeError, match="only 'strong_wolfe' is supported"):
        optim.LBFGS([p], line_search_fn="backtracking").step(closure)


def test_adafactor_keeps_rows_and_columns(device):
    w, b = (nn.Parameter(torch.full(s, 0.5, device=device)) for s in ((4, 6), (6,)))
    opt = optim.Adafactor([w, b], lr=0.1)
    first = None
    for _ in range(60):
        opt.zero_grad()
        loss = ((torch.ones(3, 4, device=device) @ w + b - 2) ** 2).mean()
        first = loss.item() if first is None else first
        loss.backward()
        opt.step()
    assert loss.item() < first / 2
    assert {k: tuple(v.shape) for k, v in opt.state[w].items()} == {
        "step": (), "row_var": (4, 1), "col_var": (1, 6)}
    assert tuple(opt.state[b]["variance"].shape) == (6,)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6)])
def test_muons_matrix_is_nearly_orthogonal(shape, device):
    torch.manual_seed(0)
    x = orthogonal(torch.randn(shape).to(device), COEFFICIENTS, 5, 1e-7).float().cpu()
    s = torch.linalg.svdvals(x)
    assert s.min() > 0.5 and s.max() < 1.4


def test_muon_steps_have_one_size():
    torch.manual_seed(0)
    w = nn.Parameter(torch.randn(12, 4))
    before = w.detach().clone()
    opt = optim.Muon([w], lr=0.1, weight_decay=0.0)
    w.grad = torch.randn(12, 4) * 1e-3
    opt.step()
    change = torch.linalg.matrix_norm(w.detach() - before) / math.sqrt(4)
    assert 0.6 < change / (0.1 * math.sqrt(3)) < 1.3
