"""Arrays that were pickled have dtypes of their own, equal to NumPy's: tensors get NumPy's."""
from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import gpugrad as torch


def pickled(x: Any) -> Any:
    return pickle.loads(pickle.dumps(x))


MADE = {
    "from_numpy": lambda a: torch.from_numpy(a),
    "tensor": lambda a: torch.tensor(a),
    "tensor of another dtype": lambda a: torch.tensor(a, dtype=torch.float32),
    "tensor of an element": lambda a: torch.tensor(a[0]),
    "as_tensor": lambda a: torch.as_tensor(a),
    "asarray": lambda a: torch.asarray(a),
    "Tensor": lambda a: torch.Tensor(a),
    "FloatTensor": lambda a: torch.FloatTensor(a),
    "from_dlpack": lambda a: torch.from_dlpack(a),
    "operand": lambda a: torch.zeros(3) + a,
    "collated": lambda a: torch.utils.data.default_collate([a, a]),
    "pickled tensor": lambda a: pickled(torch.from_numpy(a)),
    "pickled parameter": lambda a: pickled(torch.nn.Parameter(torch.from_numpy(a))),
}


@pytest.mark.parametrize("how", MADE)
def test_dtype(how):
    a = pickled(np.ones(3, np.float32))
    assert a.dtype is not np.dtype("f4")             # or there is nothing to see here
    assert MADE[how](a)._a.dtype is np.dtype("f4")


def test_the_memory_is_still_shared():
    a = pickled(np.zeros(3, np.float32))
    torch.from_numpy(a).add_(1)
    assert a.tolist() == [1, 1, 1]


def test_numbers_go_with_both_kinds():
    torch.ones(2).mean() + 0.123456
    a, b = torch.from_numpy(pickled(np.ones(2, np.float32))), pickled(torch.ones(2))
    assert (a.mean() + 0.123456).item() == (b.mean() + 0.123456).item()
    c = pickled(torch.ones(2)).var(unbiased=False) + 0.654321
    assert (torch.ones(2).var(unbiased=False) + 0.654321).item() == c.item()


def test_bool_and_bfloat16():
    mask = torch.from_numpy(pickled(np.array([True, False])))
    assert mask._a.dtype is np.dtype("?")
    with pytest.raises(RuntimeError, match="Subtraction, the `-` operator, with two bool tensors"):
        mask - mask
    x = pickled(torch.ones(2, dtype=torch.bfloat16))
    assert x._a.dtype is torch.bfloat16.np and (x + 1).dtype is torch.bfloat16
