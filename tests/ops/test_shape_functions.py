"""Views by strides and in place, joins and cuts, scatter, and writes to expanded tensors."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as torch

pytestmark = pytest.mark.usefixtures("on_each_device")


def leaf(*shape: int) -> Any:
    x = torch.arange(float(np.prod(shape))).reshape(shape)
    return x.requires_grad_()


def host(t: Any) -> Any:
    return t.detach().cpu().numpy()


# Views by strides --------------------------------------------------------------------------------


def test_as_strided_shares_memory_and_history() -> None:
    x = leaf(3, 4)
    y = x * 1
    part = y.as_strided((2, 2), (1, 4), 1)
    part.mul_(10)
    assert host(y).tolist() == [[0, 10, 20, 3], [4, 50, 60, 7], [8, 9, 10, 11]]
    y.sum().backward()
    assert host(x.grad).tolist() == [[1, 10, 10, 1], [1, 10, 10, 1], [1, 1, 1, 1]]


def test_as_strided_of_a_view_counts_from_the_start_of_the_memory() -> None:
    x = torch.arange(12.0).reshape(3, 4)
    assert x[1].as_strided((2,), (1,), 0).tolist() == [0, 1]
    assert x[1].as_strided((2,), (1,)).tolist() == [4, 5]
    assert x.t()[2:].as_strided((2, 2), (4, 1)).tolist() == [[2, 3], [6, 7]]


def test_as_strided_beyond_the_memory_is_an_error() -> None:
    x = torch.arange(12.0)
    with pytest.raises(RuntimeError, match="out of bounds for storage of size 48"):
        x.as_strided((5, 5), (3, 1))
    with pytest.raises(RuntimeError, match="out of bounds"):
        x[4:8].as_strided((9,), (1,))
    with pytest.raises(RuntimeError, match="Negative strides"):
        x.as_strided((2,), (-1,))


def test_elements_seen_twice_get_both_gradients() -> None:
    x = leaf(3)
    x.as_strided((2, 2), (1, 1)).sum().backward()
    assert host(x.grad).tolist() == [1, 2, 1]
    y = leaf(5)
    y.unfold(0, 3, 1).sum().backward()
    assert host(y.grad).tolist() == [1, 2, 3, 2, 1]


def test_a_base_in_another_layout_is_written_through_its_views() -> None:
    x = leaf(3, 4)
    base = (x * 1).t().clone()                   # it keeps the transposed order in memory
    assert not base.is_contiguous()
    base.t().view(12)[2:5].mul_(3)
    base.sum().backward()
    assert host(x.grad).reshape(-1).tolist() == [1, 1, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1]


# Views in place ----------------------------------------------------------------------------------


def test_views_of_a_tensor_that_was_turned_in_place() -> None:
    x = leaf(2, 3)
    y = x * 1
    row = y[0]
    y.t_()
    assert y.shape == (3, 2) and row.shape == (3,) and y._version == 1
    row.mul_(5)
    assert host(y).tolist() == [[0, 3], [5, 4], [10, 5]]
    y.sum().backward()
    assert host(x.grad).tolist() == [[5, 5, 5], [1, 1, 1]]


def test_a_view_of_a_tensor_that_was_turned_and_then_written() -> None:
    x = leaf(2, 3)
    y = x * 1
    column = y[:, 1]
    y.unsqueeze_(0).transpose_(1, 2)
    y.mul_(torch.tensor([2.0, 7.0]))
    assert host(column).tolist() == [2, 28]
    column.sum().backward()
    assert host(x.grad).tolist() == [[0, 2, 0], [0, 7, 0]]


def test_views_in_place_of_a_leaf_that_requires_grad_are_errors() -> None:
    for change in (lambda x: x.t_(), lambda x: x.unsqueeze_(0), lambda x: x.squeeze_(),
                   lambda x: x.transpose_(0, 1), lambda x: x.as_strided_((2,), (1,))):
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
            change(leaf(2, 3))


def test_views_in_place_without_history() -> None:
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            x = torch.arange(6.0).reshape(2, 3).clone()
            row = x[0]
            x.t_().unsqueeze_(0)
            row.add_(1)
            assert x.tolist() == [[[1, 3], [2, 4], [3, 5]]] and x.resize_(2).tolist() == [1, 2]


def test_as_strided_in_place_of_a_tensor_with_views_is_refused() -> None:
    x = leaf(2, 3) * 1
    row = x[0]
    with pytest.raises(NotImplementedError, match="that has views"):
        x.as_strided_((2,), (1,))
    assert row.tolist() == [0, 1, 2] and x.shape == (2, 3) and x._version == 0
    del row
    assert x.as_strided_((2,), (3,)).tolist() == [0, 3]


# What is expanded --------------------------------------------------------------------------------


def test_parts_of_expanded_tensors_can_be_written() -> None:
    x = leaf(2, 1)
    y = x * 1
    wide = y.expand(3, 2, 4)
    wide[1, :, 2].mul_(2)
    assert host(y).tolist() == [[0], [2]]
    y.sum().backward()
    assert host(x.grad).tolist() == [[2], [2]]


@pytest.mark.parametrize("write", [
    lambda x: x.mul_(2), lambda x: x.copy_(torch.ones(3, 4)), lambda x: x.normal_(),
    lambda x: x.masked_fill_(torch.ones(3, 4, dtype=torch.bool), 0), lambda x: x.add_(1),
    lambda x: x.scatter_(0, torch.zeros(1, 4, dtype=torch.int64), 1)])
def test_writing_elements_that_share_a_place_is_an_error(write: Any) -> None:
    x = torch.zeros(4).expand(3, 4)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        write(x)


def test_filling_what_is_expanded() -> None:
    x = leaf(4)
    y = x * 1
    y[1:3].expand(3, 2).fill_(7)
    assert host(y).tolist() == [0, 7, 7, 3]
    y.sum().backward()
    assert host(x.grad).tolist() == [1, 0, 0, 1]


# Joining, cutting, turning -----------------------------------------------------------------------


def test_stacks_are_numpys() -> None:
    a, b = np.arange(3.0), np.arange(3.0) + 5
    x, y = torch.tensor(a), torch.tensor(b)
    for name in ("hstack", "vstack", "dstack", "column_stack"):
        assert np.array_equal(host(getattr(torch, name)((x, y))), getattr(np, name)((a, b)))
    grid = np.arange(24.0).reshape(2, 3, 4)
    t = torch.tensor(grid)
    for name, at in (("vsplit", 2), ("hsplit", [1]), ("dsplit", (1, 3))):
        for p, q in zip(getattr(torch, name)(t, at), getattr(np, name)(grid, at), strict=True):
            assert np.array_equal(host(p), q)
    for k in range(-1, 5):
        assert np.array_equal(host(torch.rot90(t, k, (0, 2))), np.rot90(grid, k, (0, 2)))
    for indexing in ("ij", "xy"):
        for p, q in zip(torch.meshgrid(x, y, indexing=indexing), np.meshgrid(a, b,
                                                                             indexing=indexing)):
            assert np.array_equal(host(p), q)


def test_parts_of_tensor_split_can_be_written_and_those_of_split_not() -> None:
    x = leaf(4) * 1
    torch.tensor_split(x, 2)[0].mul_(2)
    assert host(x).tolist() == [0, 2, 2, 3]
    with pytest.raises(RuntimeError, match="a function that returns multiple views"):
        torch.split(x, 2)[0].mul_(2)


def test_repeats_in_a_tensor() -> None:
    x = leaf(2, 3)
    y = torch.repeat_interleave(x, torch.tensor([1, 0, 3]), 1)
    assert host(y).tolist() == [[0, 2, 2, 2], [3, 5, 5, 5]]
    y.sum().backward()
    assert host(x.grad).tolist() == [[1, 0, 3], [1, 0, 3]]
    with pytest.raises(RuntimeError, match="repeats must have the same size as input along dim"):
        torch.repeat_interleave(x, torch.tensor([1, 2]), 1)


def test_copies_of_views_have_memory_of_their_own() -> None:
    x = leaf(2, 3)
    y = torch.select_copy(x, 0, 1)
    assert y._base is None and y.data_ptr() != x[1].data_ptr()
    y.sum().backward()
    assert host(x.grad).tolist() == [[0, 0, 0], [1, 1, 1]]
    with torch.no_grad():
        torch.expand_copy(x, (2, 2, 3)).zero_()
    assert host(x).sum() == 15


# Scatter -----------------------------------------------------------------------------------------


def test_reductions_do_not_depend_on_the_order_of_places() -> None:
    rng = np.random.default_rng(0)
    index, src = rng.integers(0, 7, 500), rng.standard_normal(500)
    x = torch.zeros(7, dtype=torch.float64)
    at, values = torch.tensor(index), torch.tensor(src)
    for reduce, f in (("sum", np.sum), ("mean", np.mean), ("amax", np.max), ("amin", np.min),
                      ("prod", np.prod)):
        got = x.scatter_reduce(0, at, values, reduce, include_self=False)
        want = [f(src[index == i]) for i in range(7)]
        np.testing.assert_allclose(host(got), want, rtol=1e-12)
        again = x.scatter_reduce(0, at, values, reduce, include_self=False)
        assert np.array_equal(host(got), host(again))


def test_of_several_values_for_a_place_the_last_is_written() -> None:
    at, values = torch.tensor([1, 0, 1, 1]), torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert torch.zeros(2).scatter(0, at, values).tolist() == [2, 4]
    assert torch.zeros(2).index_copy(0, at, values).tolist() == [2, 4]
    assert torch.zeros(2).put(at, values).tolist() == [2, 4]


def test_scatter_of_integers_and_bools() -> None:
    at = torch.tensor([[0, 1, 1]])
    x = torch.tensor([[5, 6, 7], [1, 2, 3]])
    assert x.scatter_reduce(0, at, x[:1], "amin").tolist() == [[5, 6, 7], [1, 2, 3]]
    assert x.scatter_reduce(0, at, x[:1], "prod").tolist() == [[25, 6, 7], [1, 12, 21]]
    assert x.scatter_reduce(0, at, x[:1], "mean").tolist() == [[5, 6, 7], [1, 4, 5]]
    b = torch.tensor([[True, False, False], [False, True, True]])
    assert b.scatter(0, at, b[:1]).tolist() == [[True, False, False], [False, False, False]]


def test_masks_pour_and_pick_in_order() -> None:
    x, mask = leaf(2, 3), torch.tensor([[True, False, True], [False, True, False]])
    y = x.masked_scatter(mask, x.flip(1) * 10)
    assert host(y).tolist() == [[20, 1, 10], [3, 0, 5]]
    y.sum().backward()
    assert host(x.grad).tolist() == [[10, 11, 10], [1, 0, 1]]
    assert torch.masked_select(x, mask).tolist() == [0, 2, 4]
    assert torch.nonzero_static(mask, size=4).tolist() == [[0, 0], [0, 2], [1, 1], [-1, -1]]


@pytest.mark.parametrize("call, error, text", [
    (lambda x: x.gather(0, torch.tensor([[0]]), sparse_grad=True), NotImplementedError,
     "leave it out"),
    (lambda x: x.scatter(0, torch.tensor([[0]]), 1.0, reduce="mean"), RuntimeError,
     "must be either add or multiply"),
    (lambda x: x.scatter_reduce(0, torch.tensor([[0]]), x, "median"), RuntimeError,
     "Expected 'reduce' to be one of"),
    (lambda x: x.index_copy(0, torch.tensor([0]), x), IndexError, "Number of indices"),
    (lambda x: x.index_fill(0, torch.tensor([0]), x), RuntimeError, "0-dimensional value tensor"),
    (lambda x: x.put(torch.tensor([0, 1]), x), IndexError, "same number of elements"),
    (lambda x: x.masked_scatter(x, x), RuntimeError, "only supports boolean masks"),
    (lambda x: x.unfold(0, 9, 1), RuntimeError, "maximum size for tensor at dimension 0 is 2"),
    (lambda x: torch.take_along_dim(x, torch.tensor([0]), 0), RuntimeError,
     "same number of dimensions"),
    (lambda x: x.rot90(1, (0, 0)), RuntimeError, "rotation dims to be different"),
    (lambda x: x.roll((1, 2), (0,)), RuntimeError, "shifts and dimensions must align"),
    (lambda x: torch.hsplit(x, 2), RuntimeError, "not divisible by the split_size 2"),
    (lambda x: torch.meshgrid(x), RuntimeError, "Expected 0D or 1D tensor"),
    (lambda x: x.to_sparse(), NotImplementedError, "dense"),
])
def test_bad_input(call: Any, error: Any, text: str) -> None:
    with pytest.raises(error) as found:
        call(torch.zeros(2, 3))
    assert text in str(found.value)
