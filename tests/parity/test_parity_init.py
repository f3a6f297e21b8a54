"""nn.init beside PyTorch: numbers by seed, odd shapes and dtypes, generators, warnings, errors."""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import gpugrad

torch = pytest.importorskip("torch")

SHAPES: list[tuple[int, ...]] = [(), (0,), (1,), (5,), (17,), (3, 4), (4, 3), (1, 1), (0, 4),
                                 (4, 0), (16, 17), (2, 3, 5), (3, 2, 2, 3), (6, 2, 1, 3, 2)]
RANDOM = {"uniform_": [(), (-2.0, 3.0)], "normal_": [(), (1.0, 2.0)],
          "trunc_normal_": [(), (0.5, 2.0, -1.0, 1.5)], "xavier_uniform_": [(), (2.0,)],
          "xavier_normal_": [(), (0.5,)],
          "kaiming_uniform_": [(), (0.3, "fan_out"), (0, "fan_in", "relu")],
          "kaiming_normal_": [(), (0.3, "fan_out"), (0, "fan_out", "tanh")],
          "orthogonal_": [(), (2.0,)], "sparse_": [(0.4,), (0.1, 2.0)]}
FIXED = {"constant_": [(0.3,)], "ones_": [()], "zeros_": [()], "eye_": [()],
         "dirac_": [(), (2,), (3,)]}
ALL = {**RANDOM, **FIXED}
DTYPES = ["float32", "float64", "float16", "bfloat16"]


def run(lib: Any, name: str, shape: Any, dtype: str, args: Any, own: bool, turned: bool) -> Any:
    lib.manual_seed(11)
    kw = {"generator": lib.Generator().manual_seed(5)} if own else {}
    t = lib.zeros(shape[::-1] if turned else shape, dtype=getattr(lib, dtype))
    t = t.permute(*range(len(shape))[::-1]) if turned else t
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            out = getattr(lib.nn.init, name)(t, *args, **kw)
        except Exception as e:
            return type(e).__name__, str(e)
    said = [(w.category.__name__, str(w.message)) for w in caught]
    return out is t, out.double().tolist(), said, t.requires_grad, lib.rand(1).item()


def close(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, float) or (isinstance(a, list) and not any(isinstance(v, tuple) for v in a)):
        return np.shape(a) == np.shape(b) and np.allclose(a, b, tolerance, tolerance,
                                                          equal_nan=True)
    return bool(a == b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(ALL))
def test_numbers(name, dtype):
    tolerance = {"float16": 2e-3, "bfloat16": 1e-2}.get(dtype, 2e-5)
    for shape in SHAPES:
        for args in ALL[name]:
            for own in (False, True) if name in RANDOM else (False,):
                for turned in (False, True) if len(shape) in (2, 4) and not own else (False,):
                    case = name, shape, dtype, args, own, turned
                    ours, theirs = run(gpugrad, *case), run(torch, *case)
                    if isinstance(theirs[0], str) and name == "orthogonal_" and ours[0] is True:
                        assert dtype in ("float16", "bfloat16") or turned      # ours do more
                        continue
                    if isinstance(theirs[0], str):
                        assert ours[0] == theirs[0], (case, ours, theirs)
                        assert ours[1].startswith(theirs[1]) or theirs[0] != "ValueError", (
                            case, ours, theirs)
                        continue
                    assert len(ours) == len(theirs), (case, ours, theirs)
                    for a, b in zip(ours, theirs):
                        assert close(a, b, tolerance), (case, ours, theirs)


INTEGERS = ["constant_", "ones_", "zeros_", "eye_", "uniform_", "normal_", "dirac_"]


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name):
    shape = (3, 2, 2) if name == "dirac_" else (3, 2)
    args = (2,) if name == "constant_" else ()
    ours, theirs = (run(lib, name, shape, "int64", args, False, False) for lib in (gpugrad, torch))
    assert ours[0] == theirs[0] and (isinstance(theirs[0], str) or ours[1] == theirs[1])


ERRORS = [
    lambda t: t.nn.init.calculate_gain("gelu"), lambda t: t.nn.init.calculate_gain(3),
    lambda t: t.nn.init.calculate_gain("leaky_relu", "x"),
    lambda t: t.nn.init.calculate_gain("leaky_relu", True),
    lambda t: t.nn.init.xavier_uniform_(t.ones(3)), lambda t: t.nn.init.xavier_normal_(t.ones(())),
    lambda t: t.nn.init.kaiming_uniform_(t.ones(3)),
    lambda t: t.nn.init.kaiming_normal_(t.ones(2, 2), mode="fan"),
    lambda t: t.nn.init.kaiming_normal_(t.ones(2, 2), nonlinearity="foo"),
    lambda t: t.nn.init.orthogonal_(t.ones(3)), lambda t: t.nn.init.eye_(t.ones(3)),
    lambda t: t.nn.init.dirac_(t.ones(3, 2)), lambda t: t.nn.init.dirac_(t.ones(3, 2, 2), 2),
    lambda t: t.nn.init.sparse_(t.ones(3), 0.1), lambda t: t.nn.init.uniform_(t.ones(2), 3.0, 1.0),
    lambda t: t.nn.init.normal_(t.ones(2), 0.0, -1.0),
    lambda t: t.nn.init._calculate_fan_in_and_fan_out(t.ones(2)),
    lambda t: t.nn.init._calculate_correct_fan(t.ones(2, 2), "foo"),
]


@pytest.mark.parametrize("fn", ERRORS, ids=range(len(ERRORS)))
def test_errors(fn):
    said = []
    for lib in (gpugrad, torch):
        with pytest.raises(Exception) as caught:
            fn(lib)
        said.append((caught.type, str(caught.value)))
    assert said[0] == said[1]


OLD = ["uniform", "normal", "constant", "eye", "dirac", "xavier_uniform", "xavier_normal",
       "kaiming_uniform", "kaiming_normal", "orthogonal", "sparse"]


@pytest.mark.parametrize("name", OLD)
def test_deprecated_names(name):
    shape = (4, 2, 3) if name == "dirac" else (4, 3)
    args = {"constant": (2.0,), "sparse": (0.5,)}.get(name, ())
    ours, theirs = (run(lib, name, shape, "float32", args, False, False)
                    for lib in (gpugrad, torch))
    assert ours[2] == theirs[2] and len(ours[2]) == 1
    assert close(ours[1], theirs[1], 1e-5) and ours[4] == theirs[4]


@pytest.mark.parametrize("args", [("linear",), ("conv1d",), ("conv_transpose3d",), ("sigmoid",),
                                  ("tanh",), ("relu",), ("leaky_relu",), ("leaky_relu", 0.3),
                                  ("leaky_relu", 2), ("selu",)])
def test_gains(args):
    assert gpugrad.nn.init.calculate_gain(*args) == torch.nn.init.calculate_gain(*args)


def test_names():
    theirs = {n for n in dir(torch.nn.init) if callable(getattr(torch.nn.init, n))}
    typing_ = {"Literal", "ParamSpec", "TypeVar", "_FanMode", "_NonlinearityType", "_P", "_R",
               "Callable", "Tensor", "_make_deprecate"}
    assert {n for n in theirs if not hasattr(gpugrad.nn.init, n)} <= typing_


def test_leaves_that_require_grad():
    for name, args in [(n, a[0]) for n, a in ALL.items()]:
        if name == "dirac_":
            continue
        for lib in (gpugrad, torch):
            p = lib.nn.Parameter(lib.zeros(3, 3))
            assert getattr(lib.nn.init, name)(p, *args) is p and p.grad_fn is None
            assert p.requires_grad and p._version > 0
