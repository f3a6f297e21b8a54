"""torch.testing beside PyTorch's: which errors, with which texts, and the same random tensors."""
from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

CASES = """
t([1., 2., 3.]), t([1., 2., 4.])
t(1.), t(2.)
t([1, 2]), t([1, 3])
t([True, False]), t([True, True])
t([1.]), t([1.], dtype=torch.float64), dict(check_dtype=False)
t([2., 3.]).double(), t([2., 3.1]), dict(check_dtype=False)
t([nan]), t([nan])
t([nan]), t([nan]), dict(equal_nan=True)
1.0, 2.0
1, 2
5, 7
0., 1.
nan, nan
1+2j, 1+3j
np.float32(1), np.float32(2)
np.array([1.]), np.array([2.])
[t(1.), t(2.)], [t(1.), t(3.)]
{"a": [1, 2]}, {"a": [1, 3]}
{"a": 1, "b": 2}, {"a": 1}
t([1.]), t([2.]), dict(rtol=1e-3, atol=1e-3)
t([1.]), t([2.]), dict(rtol=0, atol=0)
t([1.]), t([2.]), dict(rtol=0)
t([[1., 2], [3, 4]]), t([[1., 3], [2, 4]]).t(), dict(check_stride=True)
t([1+1j]), t([1+2j])
t([inf, 1.]), t([inf, -inf])
t([1.], dtype=torch.float16), t([1.01], dtype=torch.float16)
t([200], dtype=torch.uint8), t([100], dtype=torch.uint8)
t([0.]), t([0.1])
t([1.]), t([0.])
t([2**62]), t([2**62+1])
t([[1., 2.], [3., 4.]]), t([[1., 2.], [3., 9.]])
[1., "a"], [2., "a"]
""".strip().splitlines()


def outcome(name: str, case: str) -> Any:
    lib = importlib.import_module(name)
    testing = importlib.import_module(name + ".testing")
    a, b, *options = eval(case, {"t": lib.tensor, "torch": lib, "np": np, "nan": float("nan"),
                                 "inf": float("inf")})
    try:
        testing.assert_close(a, b, **(options[0] if options else {}))
    except Exception as e:
        return type(e).__name__, str(e)
    return "close"


@pytest.mark.parametrize("case", CASES)
def test_assert_close(case):
    assert outcome("gpugrad", case) == outcome("torch", case)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8", "bool",
                                   "complex64"])
@pytest.mark.parametrize("options", [{}, {"noncontiguous": True}, {"low": 0, "high": 2},
                                     {"exclude_zero": True}], ids=str)
def test_make_tensor(dtype, options):
    made = []
    for name in ("torch", "gpugrad"):
        lib = importlib.import_module(name)
        lib.manual_seed(0)
        t = importlib.import_module(name + ".testing").make_tensor(
            (4, 5), dtype=getattr(lib, dtype), device="cpu", **options)
        made.append((t.numpy(), t.stride(), lib.rand(1).item()))
    np.testing.assert_allclose(made[1][0], made[0][0], rtol=1e-6, atol=1e-6)
    assert made[0][1:] == made[1][1:]
