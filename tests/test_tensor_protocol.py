"""Tensors seen from outside: exchange of memory, storages, resizing, Python functions, types."""
from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import gpugrad as torch

A = np.arange(6.0, dtype=np.float32).reshape(2, 3)


def made() -> Any:
    return torch.from_numpy(A.copy())


# Exchange ----------------------------------------------------------------------------------------


def test_memory_is_shared_with_numpy_in_both_directions() -> None:
    x = made()
    views = [np.asarray(x), x.numpy(), np.from_dlpack(x)]
    x[0, 0] = 9
    assert all(v[0, 0] == 9 for v in views)
    a = A.copy()
    t = torch.from_dlpack(a)
    t[1, 1] = -1
    assert a[1, 1] == -1
    assert torch.from_dlpack(x)[0, 0] == 9 and torch.from_dlpack(x).data_ptr() == x.data_ptr()
    assert torch.from_dlpack(a, copy=True).data_ptr() != a.ctypes.data


def test_capsules() -> None:
    x = made()
    y = torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(x.t()))
    y[2, 1] = 8
    assert x[1, 2] == 8 and y.stride() == (1, 3)


@pytest.mark.gpu
def test_exchange_on_cuda() -> None:
    x = made().to("cuda")
    assert x.__cuda_array_interface__["shape"] == (2, 3)
    assert x.__cuda_array_interface__["data"][0] == x.data_ptr()
    assert x.__dlpack_device__() == (2, 0)
    assert torch.from_dlpack(x).data_ptr() == x.data_ptr()
    with pytest.raises(AttributeError, match="__array_interface__"):
        assert x.__array_interface__


def test_exchange_that_is_refused() -> None:
    x = made().requires_grad_()
    for call, error in ((lambda: np.asarray(x), RuntimeError),
                        (lambda: x.__dlpack__(), BufferError),
                        (lambda: torch.from_dlpack(x), BufferError),
                        (lambda: torch.from_dlpack(3), RuntimeError),
                        (lambda: x.detach().__cuda_array_interface__, AttributeError)):
        with pytest.raises(error):
            call()


def test_numpy_functions_of_tensors_give_tensors() -> None:
    out = np.sqrt(made())
    assert isinstance(out, torch.Tensor) and np.array_equal(out.numpy(), np.sqrt(A))
    assert np.isnan(made()).dtype is torch.uint8


def test_copies_and_pickles_keep_what_is_shared() -> None:
    x = made()
    both = copy.deepcopy([x, x[1]])
    both[0][1, 0] = 7
    assert both[1][0] == 7 and x[1, 0] == 3
    again = pickle.loads(pickle.dumps(x.t()))
    assert again.stride() == (1, 3) and torch.equal(again, x.t())


# Memory ------------------------------------------------------------------------------------------


def test_storages_are_the_memory_of_views() -> None:
    x = made()
    held = x[1:, 1:].untyped_storage()
    assert held.nbytes() == len(held) == 24 and held.data_ptr() == x.data_ptr()
    assert x.storage().tolist() == [0, 1, 2, 3, 4, 5] and x.storage()[4] == 4
    x.storage()[4] = 40
    assert x[1, 1] == 40
    held.fill_(0)
    assert x.sum() == 0
    with pytest.raises(NotImplementedError, match="resize"):
        held.resize_(4)
    copied = x.untyped_storage().clone()
    x.fill_(1)
    assert copied.tolist() == [0] * 24
    x.untyped_storage().copy_(copied)
    assert x.sum() == 0 and "size 24" in repr(copied)


def test_files_as_memory(tmp_path: Any) -> None:
    path = tmp_path / "numbers"
    x = torch.from_file(str(path), True, 6)
    x.copy_(torch.arange(6.0))
    del x
    private = torch.from_file(str(path), size=4)
    assert private.tolist() == [0, 1, 2, 3]
    private.fill_(9)
    assert torch.from_file(str(path), size=4).tolist() == [0, 1, 2, 3]
    assert torch.from_file(str(path)).shape == (0,)
    with pytest.raises(RuntimeError, match="unable to mmap 28 bytes"):
        torch.from_file(str(path), size=7)


def test_what_is_a_storage() -> None:
    x = made()
    assert torch.is_storage(x.storage()) and torch.is_storage(x.untyped_storage())
    assert not torch.is_storage(x) and isinstance(x.storage(), torch.TypedStorage)


def test_set_takes_over_memory() -> None:
    x, y = made(), torch.empty(0)
    y.set_(x)
    y[0, 0] = 5
    assert x[0, 0] == 5 and y.is_set_to(x) and y._version == 2
    y.set_(x.untyped_storage(), 1, (2, 2), (3, 1))
    assert y.tolist() == [[1, 2], [4, 5]] and y.storage_offset() == 1
    assert y.set_().shape == (0,)
    with pytest.raises(RuntimeError, match="Could not set tensor of type Long"):
        x.set_(torch.ones(2, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="out of bounds"):
        y.set_(x.untyped_storage(), 5, (2, 2), (3, 1))


def test_resize_keeps_the_elements_that_there_are() -> None:
    x = made()
    assert x.resize_(4).tolist() == [0, 1, 2, 3]
    assert x.resize_(3, 2).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert x.resize_(10)[:6].tolist() == [0, 1, 2, 3, 4, 5]
    assert made()[1].resize_(2).tolist() == [3, 4]
    assert torch.empty(0).resize_(1, 2, 3, 4, memory_format=torch.channels_last).stride() == (
        24, 1, 8, 2)
    with pytest.raises(RuntimeError, match="cannot resize variables that require grad"):
        made().requires_grad_().resize_(2)


def test_memory_formats() -> None:
    x = torch.arange(120.0).reshape(2, 3, 4, 5)
    y = x.to(memory_format=torch.channels_last)
    assert y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()
    assert torch.equal(x, y) and y.stride() == (60, 1, 15, 3) and y.dim_order() == (0, 2, 3, 1)
    assert (y + 1).stride() == y.stride() and y.double().stride() == y.stride()
    z = x.unsqueeze(2).contiguous(memory_format=torch.channels_last_3d)
    assert z.is_contiguous(memory_format=torch.channels_last_3d)
    with pytest.raises(RuntimeError, match="required rank 4 tensor"):
        x[0].contiguous(memory_format=torch.channels_last)


# Python functions and old names ------------------------------------------------------------------


def test_python_functions_of_elements() -> None:
    x = made()
    x.t().apply_(lambda v: v + 1)
    assert np.array_equal(x.numpy(), A + 1)
    x.map_(made(), lambda a, b: a * b)
    assert np.array_equal(x.numpy(), (A + 1) * A)
    assert x._version == 2
    with pytest.raises(RuntimeError, match="requires grad"):
        made().requires_grad_().map_(x, lambda a, b: a)
    with pytest.raises(TypeError, match="map_"):
        x.map_(torch.ones(2, 3, dtype=torch.int64), lambda a, b: a)


def test_types_of_older_programs() -> None:
    x = torch.FloatTensor([1, 2])
    assert x.dtype is torch.float32 and isinstance(x, torch.FloatTensor)
    assert not isinstance(x, torch.LongTensor) and torch.LongTensor(2, 3).shape == (2, 3)
    assert x.type(torch.LongTensor).dtype is torch.int64 and torch.ByteTensor().shape == (0,)
    assert repr(torch.DoubleTensor) == "<class 'torch.DoubleTensor'>"
    with pytest.raises(TypeError):
        torch.FloatTensor(torch.ones(2, dtype=torch.int64))


@pytest.mark.gpu
def test_types_on_cuda() -> None:
    x = torch.cuda.LongTensor([1, 2])
    assert isinstance(x, torch.cuda.LongTensor) and not isinstance(x, torch.LongTensor)
    assert x.is_cuda and x.type() == "torch.cuda.LongTensor"
    assert x.type(torch.FloatTensor).type() == "torch.FloatTensor"
    with pytest.raises(AttributeError):
        assert torch.cuda.NoTensor


def test_subclasses() -> None:
    class Mine(torch.Tensor):
        pass
    x = made().requires_grad_()
    y = x.as_subclass(Mine)
    assert type(y) is Mine and y.requires_grad
    y.sum().backward()
    assert x.grad.sum() == 6
    with pytest.raises(TypeError, match="inherits from Tensor"):
        x.as_subclass(int)


def test_reversing_more_or_fewer_than_two_dims_warns() -> None:
    with pytest.warns(UserWarning, match="deprecated"):
        assert torch.ones(2, 3, 4).T.shape == (4, 3, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.ones(2, 3).T.shape == (3, 2) and torch.ones(()).T.shape == ()
    assert reversed(made()).tolist() == A[::-1].tolist()


def test_what_is_not_here_says_so() -> None:
    for call in (made().share_memory_, made().to_sparse, made().coalesce, made().int_repr):
        with pytest.raises(NotImplementedError, match="not supported"):
            call()
    assert not made().is_shared() and made().dense_dim() == 2 and made().sparse_dim() == 0


# New tensors -------------------------------------------------------------------------------------


def test_results_written_into_what_there_is() -> None:
    x = torch.ones(2, 3)
    for call, want in ((lambda: torch.zeros(2, 3, out=x), np.zeros((2, 3))),
                       (lambda: torch.full((2, 3), 4, out=x), np.full((2, 3), 4)),
                       (lambda: torch.eye(2, 3, out=x), np.eye(2, 3))):
        assert call() is x and np.array_equal(x.numpy(), want)
    n = torch.empty(4, dtype=torch.int64)
    assert torch.arange(4, out=n) is n and n.tolist() == [0, 1, 2, 3]
    with pytest.warns(UserWarning, match="was resized"):
        torch.ones(2, out=n)
    assert n.tolist() == [1, 1]
    with pytest.raises(RuntimeError, match="does not match dtype of out parameter"):
        torch.zeros(2, out=n, dtype=torch.float32)
    with pytest.raises(TypeError, match="'out' must be Tensor"):
        torch.zeros(2, out=3)
    torch.manual_seed(3)
    a = torch.rand(2, 3)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(2, 3, out=x), a)
    wide = torch.empty(3, dtype=torch.float64)
    assert torch.linspace(torch.tensor(0), 0.1, 3, out=wide)[2] == 0.1
    assert torch.normal(mean=torch.zeros(3), std=0.0, out=torch.ones(3)).tolist() == [0, 0, 0]
    assert torch.bernoulli(torch.ones(2), out=wide[:2]).tolist() == [1, 1]


def test_windows_are_symmetric_and_periodic() -> None:
    for make in (torch.bartlett_window, torch.blackman_window, torch.hann_window,
                 torch.hamming_window, torch.kaiser_window):
        whole = make(9, False, dtype=torch.float64)
        assert torch.allclose(whole, whole.flip(0)) and whole.max() == whole[4]
        assert torch.allclose(make(8, dtype=torch.float64), whole[:8])
        assert make(1).tolist() == [1] and make(0).shape == (0,)
        with pytest.raises(RuntimeError, match="floating point"):
            make(3, dtype=torch.int64)
    np.testing.assert_allclose(torch.hann_window(9, False).numpy(), np.hanning(9), atol=1e-7)
    np.testing.assert_allclose(torch.kaiser_window(9, False, 5.0).numpy(), np.kaiser(9, 5),
                               atol=1e-6)


def test_rows_of_numbers() -> None:
    with pytest.warns(UserWarning, match="deprecated"):
        assert torch.range(1, 3).tolist() == [1, 2, 3]
    assert torch.linspace(0, 2j, 3).tolist() == [0, 1j, 2j]
    assert torch.empty_permuted((2, 3, 4), (2, 0, 1)).stride() == (3, 1, 6)


@pytest.mark.usefixtures("on_each_device")
def test_fills_have_their_distributions() -> None:
    torch.manual_seed(0)
    n = 20000
    x = torch.empty(n, dtype=torch.float64)
    assert abs(float(np.median(x.cauchy_(3, 0.5).cpu().numpy())) - 3) < 0.03
    logs = x.log_normal_(0.5, 0.25).log()
    assert abs(logs.mean() - 0.5) < 0.01 and abs(logs.std() - 0.25) < 0.01
    trials = x.geometric_(0.25)
    assert abs(trials.mean() - 4) < 0.1 and trials.min() == 1


def test_counts_have_their_distributions() -> None:
    torch.manual_seed(0)
    rates = torch.tensor([0.0, 0.5, 30.0]).expand(20000, 3)
    x = torch.poisson(rates)
    np.testing.assert_allclose(x.mean(0).numpy(), [0, 0.5, 30], atol=0.15)
    torch.manual_seed(0)
    assert torch.equal(torch.poisson(rates), x)
    y = torch.binomial(torch.full((20000,), 10.0), torch.tensor(0.3))
    assert abs(y.mean() - 3) < 0.05 and y.max() <= 10
    p = torch.ones(3, requires_grad=True)
    torch.poisson(p).sum().backward()
    assert p.grad.tolist() == [0, 0, 0]
    g = torch._standard_gamma(torch.full((20000,), 2.5))
    assert abs(g.mean() - 2.5) < 0.05
