"""Sorting and selection: ties, NaN, gradients of ties, and errors."""
from __future__ import annotations

import numpy as np
import pytest

import gpugrad as torch

NAN, INF = float("nan"), float("inf")


def test_sorting_is_stable_both_ways(device: str) -> None:
    x = torch.tensor([2.0, 1, 2, 1, 2], device=device)
    assert x.argsort().tolist() == [1, 3, 0, 2, 4]
    assert x.argsort(descending=True).tolist() == [0, 2, 4, 1, 3]
    assert torch.tensor([True, False, True], device=device).sort().indices.tolist() == [1, 0, 2]


def test_nan_is_greater_than_all_numbers(device: str) -> None:
    x = torch.tensor([1, NAN, INF, -INF, NAN], device=device)
    assert x.argsort().tolist() == [3, 0, 2, 1, 4]
    assert x.argsort(descending=True).tolist() == [1, 4, 2, 0, 3]
    assert x.topk(3).indices.tolist() == [1, 4, 2]
    assert x.topk(3, largest=False).indices.tolist() == [3, 0, 2]
    assert x.kthvalue(3).indices.item() == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_dtypes(device: str, dtype: torch.dtype) -> None:
    values = np.random.default_rng(0).permutation(120).reshape(3, 40) - 60
    x = torch.tensor(values, device=device).to(dtype)
    assert x.sort(1).values.dtype is dtype and x.sort(1).indices.dtype is torch.int64
    np.testing.assert_array_equal(x.sort(1)[1].cpu().numpy(), values.argsort(1))
    np.testing.assert_array_equal(x.topk(4)[1].cpu().numpy(), (-values).argsort(1)[:, :4])
    np.testing.assert_array_equal(x.kthvalue(7, 1)[1].cpu().numpy(), values.argsort(1)[:, 6])


def test_gradients_go_back_to_their_places(device: str) -> None:
    x = torch.tensor([[3.0, 1, 2], [0, 5, 4]], device=device, requires_grad=True)
    (x.sort(1)[0] * torch.tensor([1.0, 10, 100], device=device)).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[100, 1, 10], [1, 100, 10]]
    g, = torch.autograd.grad(x.topk(2)[0].square().sum() + x.kthvalue(1)[0].sum(), x)
    assert g.tolist() == [[6, 1, 4], [1, 10, 8]]


def test_results_have_names() -> None:
    out = torch.tensor([3.0, 1, 2]).topk(2)
    assert repr(out) == ("torch.return_types.topk(\nvalues=tensor([3., 2.]),\n"
                         "indices=tensor([0, 2]))")
    assert torch.msort(torch.tensor([[2, 1], [0, 3]])).tolist() == [[0, 1], [2, 3]]


def test_errors() -> None:
    x = torch.ones(2, 3)
    for k in (-1, 4):
        with pytest.raises(RuntimeError, match="selected index k out of range"):
            x.topk(k)
    with pytest.raises(RuntimeError, match=r"kthvalue\(\): selected number k out of range for "
                       "dimension 1"):
        x.kthvalue(4)
    with pytest.raises(RuntimeError, match="topk does not support bool dtypes on CPU"):
        (x > 0).topk(1)
    with pytest.raises(RuntimeError, match="does not support complex dtypes on CPU"):
        x.to(torch.complex64).sort()
