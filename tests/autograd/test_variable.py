"""Variable, which older programs wrap their tensors in."""
from __future__ import annotations

import pytest

import gpugrad as torch
from gpugrad.autograd import Variable


def test_it_gives_a_leaf_in_the_same_memory():
    x = torch.ones(2)
    for v in (Variable(x), Variable(data=x), Variable(x, False), Variable(x, requires_grad=False)):
        assert type(v) is torch.Tensor and v is not x and v.data_ptr() == x.data_ptr()
        assert not v.requires_grad
    v = Variable(x, requires_grad=True)
    assert v.requires_grad and v.is_leaf and not x.requires_grad
    (v * v).sum().backward()
    assert v.grad.tolist() == [2, 2]


def test_history_is_left_behind():
    x = torch.ones(2, requires_grad=True)
    v = Variable(x * 2)
    assert v.is_leaf and not v.requires_grad and v.grad_fn is None
    assert type(Variable(torch.nn.Parameter(torch.ones(1)))) is torch.Tensor


def test_without_data_it_is_empty():
    assert Variable().shape == (0,) and Variable(None, True).requires_grad


def test_every_tensor_is_one():
    from gpugrad.autograd.variable import Variable as same
    assert same is Variable and torch.autograd.Variable is Variable
    assert isinstance(torch.ones(1), Variable) and not isinstance(1.0, Variable)
    assert isinstance(torch.nn.Parameter(torch.ones(1)), torch.autograd.Variable)


def test_volatile_has_no_effect():
    with pytest.warns(UserWarning, match="volatile was removed and now has no effect"):
        assert not Variable(torch.ones(1), volatile=True).requires_grad
    with pytest.raises(ValueError, match="can't be volatile and require_grad"):
        Variable(torch.ones(1), requires_grad=True, volatile=True)


def test_bad_data():
    with pytest.raises(TypeError, match="Variable data has to be a tensor, but got list"):
        Variable([1.0])
    with pytest.raises(RuntimeError, match="floating point"):
        Variable(torch.ones(1, dtype=torch.int64), requires_grad=True)
    with pytest.raises(TypeError, match="foo"):
        Variable(torch.ones(1), foo=1)
