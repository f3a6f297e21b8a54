"""Differences, integrals, quantiles, searches: what functions make of ops, against NumPy."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as torch
from gpugrad._tensor import Tensor
from gpugrad.autograd import gradcheck, gradgradcheck

RANDOM = np.random.default_rng(0)


def drawn(*shape: int) -> Any:
    return RANDOM.standard_normal(shape)


def tensor(a: Any) -> Tensor:
    return torch.from_numpy(np.array(a))


def close(x: Tensor, a: Any) -> None:
    np.testing.assert_allclose(x.detach().numpy(), a, rtol=1e-12, atol=1e-14, strict=True)


@pytest.mark.parametrize("n, dim", [(1, -1), (1, 0), (2, 1), (3, -2), (0, 0), (9, 1)])
def test_diff(n: int, dim: int) -> None:
    a = drawn(4, 5)
    close(torch.diff(tensor(a), n, dim), np.diff(a, n, dim))
    close(torch.diff(tensor(a), n, dim, tensor(a), tensor(a)),
          np.diff(np.concatenate((a, a, a), dim), n, dim) if n else a)


@pytest.mark.parametrize("edge_order", [1, 2])
@pytest.mark.parametrize("spacing", [1.0, 0.5, [0.25, 2.0], "places"])
def test_gradient(spacing: Any, edge_order: int) -> None:
    a = drawn(4, 5)
    if spacing == "places":
        at = [np.cumsum(RANDOM.uniform(0.5, 2, n)) for n in a.shape]
        ours, theirs = [tensor(v) for v in at], at
    else:
        ours, theirs = spacing, spacing if isinstance(spacing, list) else [spacing]
    found = torch.gradient(tensor(a), spacing=ours, edge_order=edge_order)
    want = np.gradient(a, *theirs, edge_order=edge_order)
    for g, w in zip(found, want, strict=True):
        close(g, w)


def test_gradients_of_differences_and_integrals() -> None:
    x = tensor(drawn(4, 5)).requires_grad_()
    at = tensor(np.cumsum(RANDOM.uniform(0.5, 2, 5))).requires_grad_()
    for f in (lambda x, at: torch.diff(x, 2, 0), lambda x, at: torch.trapezoid(x, at),
              lambda x, at: torch.cumulative_trapezoid(x, at, dim=-1),
              lambda x, at: torch.gradient(x, spacing=[at], dim=1, edge_order=2)[0]):
        assert gradcheck(f, (x, at))


def test_trapezoid() -> None:
    y, x = drawn(3, 6), np.sort(drawn(6))
    area = (y[:, 1:] + y[:, :-1]) / 2 * np.diff(x)
    close(torch.trapezoid(tensor(y), tensor(x)), area.sum(-1))
    close(torch.cumulative_trapezoid(tensor(y), tensor(x)), area.cumsum(-1))
    close(torch.trapz(tensor(y), dx=0.5, dim=0), ((y[1:] + y[:-1]) / 4).sum(0))


@pytest.mark.parametrize("way", ["linear", "lower", "higher", "midpoint", "nearest"])
@pytest.mark.parametrize("dim", [0, 1, -1, None])
def test_quantile(way: Any, dim: Any) -> None:
    a, q = drawn(5, 8), np.array([0, 0.1, 0.5, 0.77, 1])
    close(torch.quantile(tensor(a), tensor(q), dim, interpolation=way),
          np.asarray(np.quantile(a, q, dim, method=way)))
    a[1, ::2] = np.nan
    close(torch.nanquantile(tensor(a), tensor(q), dim, True, interpolation=way),
          np.asarray(np.nanquantile(a, q, dim, method=way, keepdims=True)))


def test_gradients_of_quantiles_and_medians() -> None:
    x = tensor(drawn(4, 5)).requires_grad_()
    q = torch.tensor([0.2, 0.6], dtype=torch.float64)
    assert gradcheck(lambda x: torch.quantile(x, q, 1), (x,))
    assert gradgradcheck(lambda x: torch.nanmean(x ** 2, 1), (x,))


def test_nan_is_the_largest_and_its_place_is_told() -> None:
    x = torch.tensor([[1, torch.nan, 2, torch.nan], [4, 3, 2, 1]])
    values, indices = torch.median(x, 1)
    assert indices.tolist() == [1, 2]
    assert values[0].isnan() and values[1] == 2
    assert torch.nanmedian(x, 1).values.tolist() == [1, 2]
    assert torch.median(x).isnan() and torch.nanmedian(x) == 2
    assert torch.cummax(x[0], 0).indices.tolist() == [0, 1, 1, 3]


def test_the_gradient_of_a_median_of_all_goes_to_its_equals() -> None:
    x = torch.tensor([1.0, 2, 2, 3], requires_grad=True)
    x.median().backward()
    assert x.grad is not None and x.grad.tolist() == [0, 0.5, 0.5, 0]


def test_unique() -> None:
    a = RANDOM.integers(0, 3, (6, 2, 3))
    for dim in (None, 0, 1, 2):
        found = torch.unique(tensor(a), return_inverse=True, return_counts=True, dim=dim)
        want = np.unique(a, return_inverse=True, return_counts=True, axis=dim)
        for x, w in zip(found, want):
            assert x.tolist() == w.tolist()


def test_backward_through_unique_and_histogram_is_an_error() -> None:
    x = torch.tensor([1.0, 2, 1], requires_grad=True)
    with pytest.raises(NotImplementedError, match="derivative for '_unique2'"):
        torch.unique(x).sum().backward()
    with pytest.raises(RuntimeError, match="derivative for aten::histogram"):
        torch.histogram(x, 3)[0].sum().backward()
    assert not torch.histc(x).requires_grad


def test_many_rows_are_searched_at_once() -> None:
    rows, x = np.sort(RANDOM.integers(0, 9, (300, 17)), -1), RANDOM.integers(-1, 10, (300, 40))
    for right, side in ((False, "left"), (True, "right")):
        want = np.stack([np.searchsorted(r, v, side) for r, v in zip(rows, x)])
        assert (torch.searchsorted(tensor(rows), tensor(x), right=right).numpy() == want).all()


def test_integers_are_counted_in_the_dtype_asked_for() -> None:
    x = torch.tensor([100, 100, 100], dtype=torch.int32)
    assert x.cumsum(0, dtype=torch.uint8).tolist() == [100, 200, 44]
    assert x.sum(dtype=torch.int8) == 44 and x.sum(dtype=torch.bool).dtype == torch.bool
    assert x.clone().cumsum_(0).dtype == torch.int32


@pytest.mark.parametrize("name, wrong", [
    ("diff", lambda x: torch.diff(x, -1)), ("quantile", lambda x: torch.quantile(x, 1.5)),
    ("quantile", lambda x: torch.quantile(x, 0.5, interpolation="cubic")),
    ("trapezoid", lambda x: torch.trapezoid(x, torch.ones(2))),
    ("gradient", lambda x: torch.gradient(x, edge_order=3)),
    ("searchsorted", lambda x: torch.searchsorted(x, x, side="middle")),
    ("histc", lambda x: torch.histc(x, min=2, max=1)),
    ("segment_reduce", lambda x: torch.segment_reduce(x, "max")),
    ("hash_tensor", torch.hash_tensor)])
def test_errors_name_the_operation(name: str, wrong: Any) -> None:
    with pytest.raises((RuntimeError, NotImplementedError), match=name if name != "diff" else
                       "order must be non-negative"):
        wrong(torch.ones(4))
