"""The kernels of activations, dropout and biases against the portable text."""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from against_portable import DTYPES, UNTIL, agree, array, launched, note_launches, order, run

import gpugrad as torch
import gpugrad.nn.functional as F
from gpugrad import backend
from gpugrad.backend import kernels
from gpugrad.backend.random import PhiloxGenerator
from gpugrad.ops.dropout import dropout

assert note_launches and order                   # fixtures
pytestmark = pytest.mark.gpu

# less than a thread takes at a time, a multiple of it, a rest, and several blocks
SIZES = [1, 3, 16, 37, 2500]

FORWARD: dict[str, dict[str, Any]] = {
    "relu": {}, "threshold": {"threshold": 0.5, "value": -2.0}, "sigmoid": {}, "silu": {},
    "log_sigmoid": {}, "softplus": {"beta": 2.0, "threshold": 3.0}, "leaky_relu": {"slope": 0.1},
    "elu": {"alpha": 1.5, "scale": 1.2, "input_scale": 0.7}, "celu": {"alpha": 1.3},
    "hardtanh": {"min_val": -0.5, "max_val": 1.5}, "hardsigmoid": {}, "hardswish": {},
    "hardshrink": {"bound": 0.5}, "softshrink": {"bound": 0.5}, "mish": {},
    "gelu": {"approximate": "none"}, "gelu tanh": {"approximate": "tanh"}}

BACKWARD: dict[str, dict[str, Any]] = {
    "threshold_backward": {"threshold": 0.5}, "sigmoid_backward": {}, "tanh_backward": {},
    "silu_backward": {}, "log_sigmoid_backward": {},
    "softplus_backward": {"beta": 2.0, "threshold": 3.0}, "leaky_relu_backward": {"slope": 0.1},
    "elu_backward": {"scale": 1.2, "low": 0.9, "input_scale": 0.7},
    "hardtanh_backward": {"min_val": -0.5, "max_val": 1.5}, "hardsigmoid_backward": {},
    "hardswish_backward": {}, "shrink_backward": {"bound": 0.5}, "mish_backward": {},
    "gelu_backward": {"approximate": "none"}, "gelu_backward tanh": {"approximate": "tanh"}}

# where functions bend, overflow and have no value
SPECIAL = np.array([0.0, -0.0, 0.5, -0.5, 1.5, 3.0, -3.0, 6.0, 19.9, 20.1, -90.0,
                    90.0, 200.0, -200.0, np.inf, -np.inf, np.nan])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORWARD)
def test_forward(rng: Any, name: str, dtype: str) -> None:
    for size in SIZES:
        agree(name.split()[0], 3 * rng.standard_normal(size), dtype=dtype, **FORWARD[name])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BACKWARD)
def test_backward(rng: Any, name: str, dtype: str) -> None:
    for size in SIZES:
        agree(name.split()[0], rng.standard_normal(size), 3 * rng.standard_normal(size),
              dtype=dtype, **BACKWARD[name])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*FORWARD, *BACKWARD])
def test_special_values(name: str, dtype: str) -> None:
    kw = FORWARD.get(name, BACKWARD.get(name, {}))
    args = (SPECIAL,) if name in FORWARD else (np.ones_like(SPECIAL), SPECIAL)
    if "mish" in name or "silu" in name:         # inf times 0 depends on the formula
        args = tuple(a[np.abs(SPECIAL) < np.inf] for a in args)
    agree(name.split()[0], *args, dtype=dtype, **kw)


@pytest.mark.parametrize("offset", [1, 2, 3])
def test_arrays_that_begin_between_vectors(rng: Any, offset: int) -> None:
    be = backend.get("cuda")
    whole = array(rng.standard_normal(50), "float32")
    on_device = be.from_host(whole)
    part = on_device[offset:offset + 37]
    np.testing.assert_array_equal(be.to_host(be.raw.relu(part)),
                                  np.maximum(whole[offset:offset + 37], 0))
    g = on_device[:37]
    np.testing.assert_array_equal(be.to_host(be.raw.threshold_backward(g, part)),
                                  np.where(whole[offset:offset + 37] > 0, whole[:37], 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_glu(rng: Any, dtype: str) -> None:
    for shape, dim in (((5, 6), 1), ((4, 3), 0), ((3, 10, 7), 1), ((2, 3, 600), 2)):
        half = [n // 2 if d == dim else n for d, n in enumerate(shape)]
        x = rng.standard_normal(shape)
        agree("glu", x, dtype=dtype, dim=dim)
        agree("glu_backward", rng.standard_normal(half), x, dtype=dtype, dim=dim)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bias(rng: Any, dtype: str) -> None:
    for shape, dim in (((5, 7), 1), ((2, 3, 9), 1), ((3, 4, 1, 1), 1), ((2, 5, 3), 2),
                       ((600, 33), 1), ((1, 1), 1)):
        for activation in ("none", "relu"):
            agree("bias_act", rng.standard_normal(shape), rng.standard_normal(shape[dim]),
                  dtype=dtype, dim=dim, activation=activation)


def test_linear_and_convolution_add_their_bias_in_place(rng: Any) -> None:
    be = backend.get("cuda")
    x, w, b = (be.from_host(rng.standard_normal(s)) for s in ((4, 3), (3, 5), 5))
    launched.clear()
    out = be.raw.addmm(b, x, w)                 # of float64, which cuBLASLt has no epilogues for
    assert launched == ["bias_act"]
    np.testing.assert_allclose(be.to_host(out), be.to_host(x) @ be.to_host(w) + be.to_host(b),
                               rtol=1e-5)
    image = torch.randn(2, 8, 6, 5, device="cuda")
    conv = torch.nn.Conv2d(8, 40, 3).to("cuda")
    launched.clear()
    got = conv(image)
    assert launched[-1] == "bias_act"
    np.testing.assert_allclose(got.detach().cpu().numpy(),
                               conv.to("cpu")(image.cpu()).detach().numpy(), rtol=1e-4, atol=1e-5)


# Dropout -----------------------------------------------------------------------------------------

STATE = np.array([0x123456789ABCDEF, (1 << 64) - 3], np.uint64)       # the counter wraps round


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (3,), (4,), (5, 7), (9, 1000)])
def test_dropout_draws_the_generators_numbers(rng: Any, shape: Any, dtype: str) -> None:
    x = rng.standard_normal(shape)
    _, mask = agree("fused_dropout", x, STATE, dtype=dtype, offset=2, keep=0.7, scale=1.25)
    generator = PhiloxGenerator(backend.cpu, int(STATE[0]))
    generator.offset = (1 << 64) - 1
    np.testing.assert_array_equal(mask, generator.bernoulli(0.7, shape))
    agree("native_dropout", x, mask, dtype=dtype, scale=1.25)


def test_dropout_makes_nan_of_what_is_not_finite() -> None:
    x = np.array([np.inf, -np.inf, np.nan, 1.0])
    (y,) = agree("native_dropout", x, np.zeros(4, bool), dtype="float32", scale=2.0)
    assert np.isnan(y[:3]).all() and y[3] == 0


def test_keeping_all_and_nothing() -> None:
    x = np.arange(1.0, 9)
    for keep, want in ((1.0, x), (0.0, 0 * x)):
        y, mask = run("fused_dropout", (x, STATE), "float32", offset=0, keep=keep, scale=1.0)
        np.testing.assert_array_equal(y, want)
        assert (mask == keep).all()


def test_dropout_on_the_gpu_is_dropout_with_the_same_generator_on_the_cpu() -> None:
    x = torch.randn(33, 7)
    on_gpu = backend.get("cuda")
    on_gpu.generator.manual_seed(5)
    a = F.dropout(x.to("cuda").requires_grad_(), 0.3)
    assert a.grad_fn.name() == "NativeDropoutBackward0"
    generator = PhiloxGenerator(backend.cpu, 5)
    b = dropout(x.clone().requires_grad_(), 0.3, True, generator)
    assert (a.detach().cpu() == b.detach()).all()
    assert generator.offset == on_gpu.generator.offset == 58           # 231 words, four a counter
    assert not (F.dropout(x.to("cuda"), 0.3).cpu() == b.detach()).all()


def test_the_gradient_has_the_mask_of_the_forward_pass() -> None:
    x = torch.ones(1000, device="cuda", requires_grad=True)
    y = F.dropout(x, 0.25)
    y.sum().backward()
    assert (x.grad == y.detach()).all() and 0 < int((x.grad == 0).sum()) < 500


def test_a_replayed_graph_drops_other_elements_each_time_and_both_ways_the_same() -> None:
    x = torch.ones(200, device="cuda", requires_grad=True)

    def step() -> Any:
        x.grad = None
        y = F.dropout(x, 0.5)
        (y * y).sum().backward()
        return y.detach()
    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = step()
    seen = []
    for _ in range(3):
        graph.replay()
        seen.append(y.cpu().numpy().copy())
        np.testing.assert_array_equal(x.grad.cpu().numpy(), 2 * seen[-1] * seen[-1])
    assert not (seen[0] == seen[1]).all() and not (seen[1] == seen[2]).all()


# The rest ----------------------------------------------------------------------------------------

def test_64_bit_indices(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "NARROW", 0)
    x, g = rng.standard_normal((2, 37))
    agree("gelu", x, dtype="float32", approximate="tanh")
    agree("silu_backward", g, x, dtype="float32")
    agree("glu", x[:36].reshape(6, 6), dtype="float32", dim=1)
    agree("bias_act", x[:36].reshape(6, 6), g[:6], dtype="float32")
    agree("fused_dropout", x, STATE, dtype="float32", offset=2, keep=0.7, scale=1.25)


def test_a_small_grid_does_all_the_work(rng: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "MAX_BLOCKS", 8)                   # two blocks of 1024 elements
    x = rng.standard_normal(9000)
    agree("silu", x, dtype="float32")
    agree("bias_act", x.reshape(90, 100), x[:100], dtype="float32")
    agree("fused_dropout", x, STATE, dtype="float32", offset=0, keep=0.5, scale=2.0)


def test_every_order_of_threads_gives_the_same_bits(order: Any, rng: Any) -> None:
    x, g = rng.standard_normal((2, 300))
    for name, args in (("mish", (x,)), ("mish_backward", (g, x))):
        agree(name, *args, dtype="float32")


def test_empty_tensors_launch_nothing() -> None:
    be = backend.get("cuda")
    x = be.empty((0, 4), np.dtype("f4"))
    launched.clear()
    assert be.raw.gelu(x, approximate="none").shape == (0, 4)
    assert be.raw.glu(x, dim=1).shape == (0, 2)
    assert be.raw.bias_act(x, be.empty((4,), np.dtype("f4"))).shape == (0, 4)
    assert F.dropout(torch.empty(0, 3, device="cuda"), 0.5).shape == (0, 3)


def test_integers_take_the_portable_way() -> None:
    x = torch.arange(-3, 3, device="cuda")
    launched.clear()
    assert F.relu(x).tolist() == [0, 0, 0, 0, 1, 2] and launched == []


def test_the_tolerances_are_those_of_the_dtypes() -> None:
    assert UNTIL["float32"] < 1e-4 and UNTIL["bfloat16"] < 0.05
